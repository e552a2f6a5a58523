"""The CNN that the Vision Transformer has to beat: its features as they are, and under the same metric head.

The head is that of the embedder (Zhai & Wu 2019): LayerNorm without affine, a linear map without bias, NormSoftmax over
the same concepts, class-balanced batches, on several augmented views of every training picture. Its features are
computed once, so three seeds of the head cost seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from bowerbird import images
from bowerbird.models import zoo
from bowerbird.models.onnx_runtime import OnnxRuntimeEngine
from bowerbird.models.threads import cpu_budget
from bowerbird.training.augment import Augment, AugmentConfig
from bowerbird.training.sampler import ClassBalancedSampler
from services.embedder.losses import init_proxies_, norm_softmax

from .bench import BATCH, SIDE, TRAIN, Bench
from .examine import FloatArray, IntArray, Representation
from .results import digest, keep_array

CNN = "efficientnet-lite0"
AUGMENTATION = "strong"
DROPOUT = 0.2
PROXY_RATE = 10.0  # learning rate of proxies, in units of that of the head


@dataclass(frozen=True)
class FrozenCnn:
    """Features of the zoo's CNN as they are; no training, so no seed."""

    is_seeded: ClassVar[bool] = False

    def represent(self, bench: Bench, _seed: int) -> Representation:
        """Its embeddings; their signs mean nothing, as they are never negative."""
        return Representation(compute_features(bench), unsigned=True)


@dataclass(frozen=True)
class CnnWithHead:
    """The same features under a metric head.

    Attributes:
        column: of the concepts to learn.
        dimension: of the embedding; 0: the recipe's.
    """

    column: str = "concept"
    dimension: int = 0

    is_seeded: ClassVar[bool] = True

    def represent(self, bench: Bench, seed: int) -> Representation:
        """The embeddings of a head trained from this seed."""
        features = compute_features(bench)
        concepts, sides = bench.columns[self.column], bench.columns[SIDE]
        rows = [row for row, side in enumerate(sides) if side == TRAIN and concepts[row]]
        views = compute_views(bench, rows)
        _, classes = np.unique([concepts[row] for row in rows], return_inverse=True)
        head = _train_head(bench, views, np.asarray(classes, np.int64), self.dimension or bench.recipe.dimension, seed)
        with torch.no_grad():
            return Representation(head(torch.from_numpy(features)).numpy())


def compute_features(bench: Bench) -> FloatArray:
    """(N, 1280) float32 features of all pictures, kept."""
    model, size = zoo.load(CNN), bench.recipe.cnn_size
    file = bench.place.work / "features" / f"{digest(model.sha256, size, bench.columns['picture'])}.npy"
    if not file.exists():
        engine = _start(model)
        count, parts = len(bench.columns["picture"]), []
        for start in range(0, count, BATCH):
            bench.check_stop()
            rows = range(start, min(start + BATCH, count))
            parts.append(_run(engine, bench.prepare(rows, size, model.input.mean, model.input.std)))
        keep_array(file, np.concatenate(parts))
    return np.asarray(np.load(file), np.float32)


def compute_views(bench: Bench, rows: list[int]) -> FloatArray:
    """(V + 1, n, 1280) float32: features of augmented views of these pictures, and of the pictures themselves last."""
    model, size, views = zoo.load(CNN), bench.recipe.cnn_size, bench.recipe.views
    key = digest(model.sha256, size, views, AUGMENTATION, [bench.columns["picture"][row] for row in rows])
    folder = bench.place.work / "features"
    transform = Augment(
        size, AugmentConfig.from_preset(AUGMENTATION), mean=model.input.mean, std=model.input.std, seed=0
    )
    for view in range(views):
        file = folder / f"{key}-{view}.npy"
        if file.exists():
            continue
        engine, parts = _start(model), []
        for start in range(0, len(rows), BATCH):
            bench.check_stop()
            some = rows[start : start + BATCH]
            pixels = [transform.prepare(images.decode(bench.pictures.read(row)).pixels) for row in some]
            batch = transform(pixels, np.array(some, np.int64), view)
            parts.append(_run(engine, np.ascontiguousarray(batch.numpy())))
        keep_array(file, np.concatenate(parts).astype(np.float16))
    clean = compute_features(bench)[rows].astype(np.float16)
    return np.stack([*(np.load(folder / f"{key}-{view}.npy") for view in range(views)), clean]).astype(np.float32)


def _train_head(bench: Bench, views: FloatArray, classes: IntArray, dimension: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    recipe = bench.recipe
    width = views.shape[2]
    norm, dropout = nn.LayerNorm(width, elementwise_affine=False), nn.Dropout(DROPOUT)
    head = nn.Sequential(norm, dropout, nn.Linear(width, dimension, bias=False))
    proxies = nn.Parameter(init_proxies_(torch.empty(int(classes.max()) + 1, dimension)))
    groups = [
        {"params": list(head.parameters()), "lr": recipe.learning_rate, "weight_decay": 0.05},
        {"params": [proxies], "lr": recipe.learning_rate * PROXY_RATE, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _anneal(step / recipe.head_steps))
    in_batch = min(recipe.batch_size // recipe.per_class, int(classes.max()) + 1)
    sampler = ClassBalancedSampler(classes, in_batch, recipe.per_class, seed)
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(classes)
    for step in range(recipe.head_steps):
        places = sampler.batch(step)
        inputs = torch.from_numpy(views[generator.integers(0, len(views), len(places)), places])
        loss = norm_softmax(head(inputs), proxies, labels[places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def _anneal(progress: float) -> float:
    """Warm-up over the first 3 %, then half a cosine to zero."""
    return min(1.0, progress / 0.03 + 1e-3) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _start(model: zoo.ZooModel) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(model.path, threads=cpu_budget(0))


def _run(engine: OnnxRuntimeEngine, batch: FloatArray) -> FloatArray:
    return engine.run(batch, ["embedding"])["embedding"]
