"""The network of the embedder: one Vision Transformer, one embedding, one head a task. No input or output of its own.

Beal, Wu, Park, Zhai, Kislyuk, "Billion-Scale Pretraining with Vision Transformers for Multi-Task Visual
Representations", WACV 2022; the embedding and the heads are those of Zhai & Wu, "Classification is a Strong Baseline
for Deep Metric Learning", BMVC 2019 (section 3), and of Zhai et al., "Learning a Unified Embedding", KDD 2019.

    f = backbone(picture)                   (B, W)   pooled
    x = P LayerNorm(f)                      (B, D)   LayerNorm without affine, P without bias; sign(x) is the code
    s_c = x . w_c / (|x| |w_c| T)           (B, C)   a head: one proxy w_c a label, no bias, T = 0.05

Where this differs from the papers, and why:
 - The backbone ends in its own LayerNorm, with affine, as published Vision Transformers do. The one here follows it all
   the same: it is what centres x, so that the signs of x are balanced.
 - P is always there. The paper's is optional, but the length of a code should not follow from the backbone's width.
 - Every task has such a head, tasks of classification too (the papers leave those open): all tasks then ask for angles,
   and a head works on the unit vector that is served.
 - A multi-label head that is trained by a sigmoid per label has a bias. With none, all labels would be at 1/2 at the
   start, and their many negatives would be all that is learnt (Zhai et al., "Sigmoid Loss", ICCV 2023, section 3).
 - The temperature is fixed for all tasks; the papers state it for metric learning only.

Legend: B pictures, H W their size, D dimensions of the embedding and bits of its code, C labels of a task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bowerbird.errors import ConfigInvalid
from bowerbird.models.vit import VisionTransformer, VitConfig

from .losses import TEMPERATURE, cosine_logits, init_proxies_
from .sharded_softmax import ShardedSoftmax

Kind = Literal["metric", "classes", "multilabel"]
Loss = Literal["softmax", "khot", "sigmoid"]
LOSSES: dict[str, tuple[str, ...]] = {
    "metric": ("softmax",),
    "classes": ("softmax",),
    "multilabel": ("khot", "sigmoid"),
}
METADATA_KEY = "bowerbird"  # of a safetensors file: the configuration as JSON


@dataclass(frozen=True)
class TaskSpec:
    """One thing that the embedding is trained for.

    Attributes:
        name: letters, digits and underscores.
        kind: `metric`: pictures of one label are to be near each other; the head is dropped after training. `classes`:
            one label a picture; `multilabel`: any number; their heads are served.
        labels: C, in the order of the head's rows.
        column: of the training table.
        weight: of its loss in the sum.
        loss: `softmax` for metric and classes; `khot` or `sigmoid` for multilabel.
        sample_rate: share of the labels that compete in a step, in (0, 1].
        corrected: whether the scores of a sample are corrected for its drawing (log q); False is for experiments.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    column: str
    weight: float = 1.0
    loss: Loss = "softmax"
    sample_rate: float = 1.0
    corrected: bool = True

    def __post_init__(self) -> None:
        where = f"[[task]] {self.name}"
        if not self.name.isidentifier():
            raise ConfigInvalid(f"[[task]] name: expected letters, digits and underscores, got {self.name!r}")
        if self.kind not in get_args(Kind):
            raise ConfigInvalid(f"{where} kind: expected {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.loss not in LOSSES[self.kind]:
            raise ConfigInvalid(
                f"{where} loss: expected {' or '.join(LOSSES[self.kind])} for kind {self.kind}, got {self.loss!r}"
            )
        if not self.labels:
            raise ConfigInvalid(f"{where}: no label; column {self.column!r} has none in the training pictures")
        if not 0 < self.sample_rate <= 1:
            raise ConfigInvalid(f"{where} sample_rate: expected a share in (0, 1], got {self.sample_rate}")
        if self.sample_rate < 1 and (self.kind == "classes" or self.loss == "sigmoid"):
            raise ConfigInvalid(f"{where} sample_rate: only metric tasks and the loss khot can be sampled")

    @property
    def is_sharded(self) -> bool:
        """Whether the head's rows are spread over the ranks, and only a sample of them computed."""
        return self.kind == "multilabel" and self.sample_rate < 1

    @property
    def is_served(self) -> bool:
        """Whether the head stays in the exported model."""
        return self.kind != "metric" and not self.is_sharded


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build the network again.

    Attributes:
        backbone: the Vision Transformer.
        dimension: D.
        tasks: in the order of training.
        mean: subtracted from each channel, in units of 0 to 255.
        std: then divided by, likewise.
    """

    backbone: VitConfig
    dimension: int
    tasks: tuple[TaskSpec, ...]
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        if self.dimension < 8 or self.dimension % 8:
            raise ConfigInvalid(
                f"[model] dimension: expected a multiple of 8 (it is packed as bits), got {self.dimension}"
            )
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ConfigInvalid(f"[[task]]: expected at least one, each with a name of its own, got {names}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for the metadata of a file of weights."""
        return {**asdict(self), "backbone": self.backbone.to_dict()}

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """The configuration out of the JSON of `to_dict`; other keys beside it are ignored.

        Raises:
            ConfigInvalid: it is not one.
        """
        try:
            values: Mapping[str, Any] = json.loads(text)
            tasks = tuple(TaskSpec(**{**task, "labels": tuple(task["labels"])}) for task in values["tasks"])
            return cls(
                backbone=VitConfig.from_dict(values["backbone"]),
                dimension=values["dimension"],
                tasks=tasks,
                mean=tuple(values["mean"]),
                std=tuple(values["std"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigInvalid(f"expected the configuration of an embedder, got {text[:80]!r}: {error}") from error

    def without_dropped_heads(self) -> ModelConfig:
        """The configuration of what is served."""
        return replace(self, tasks=tuple(task for task in self.tasks if task.is_served))


class ProxyHead(nn.Module):
    """Scores of a task's labels: the angle between the embedding and one vector a label."""

    def __init__(self, labels: int, dimension: int, *, bias: bool = False) -> None:
        """
        Args:
            bias: one number a label, for losses that decide each label by itself.
        """
        super().__init__()
        self.weight = nn.Parameter(init_proxies_(torch.empty(labels, dimension)))
        self.bias = nn.Parameter(torch.full((labels,), -math.log(labels + 1))) if bias else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, C) float32 of (B, D)."""
        logits = cosine_logits(embeddings, self.weight, TEMPERATURE)
        return logits if self.bias is None else logits + self.bias


class MultiTaskEmbedder(nn.Module):
    """The network of the module's three formulas."""

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        """
        Args:
            seed: of the rows of sharded heads, which torch's generator must not draw: it would need all of them.
        """
        super().__init__()
        self.config = config
        self.backbone = VisionTransformer(config.backbone)
        self.norm = nn.LayerNorm(config.backbone.width, elementwise_affine=False)
        self.projection = nn.Linear(config.backbone.width, config.dimension, bias=False)
        self.heads = nn.ModuleDict({task.name: _make_head(task, config.dimension, seed) for task in config.tasks})

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, D) float32 embeddings before they are brought to unit length; their signs are the code.

        Args:
            pictures: (B, 3, H, W) float32, normalised by the configuration's mean and std.
        """
        embeddings: Tensor = self.projection(self.norm(self.backbone(pictures)))
        return embeddings.float()

    def embed(self, pictures: Tensor) -> Tensor:
        """As `forward`, and never compiled: for any batch size."""
        return MultiTaskEmbedder.forward(self, pictures)

    def logits(self, task: str, embeddings: Tensor) -> Tensor:
        """(B, C) float32 scores of a task's labels; (B, D) embeddings of any length."""
        scores: Tensor = self.heads[task](embeddings)
        return scores


def _make_head(task: TaskSpec, dimension: int, seed: int) -> nn.Module:
    if task.is_sharded:
        return ShardedSoftmax(
            len(task.labels),
            dimension,
            sample_rate=task.sample_rate,
            temperature=TEMPERATURE,
            seed=seed,
            corrected=task.corrected,
        )
    return ProxyHead(len(task.labels), dimension, bias=task.loss == "sigmoid")
