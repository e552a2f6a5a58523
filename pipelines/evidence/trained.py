"""An arm that is trained: a configuration of `services.embedder.train`, run in this process.

The weights are the averaged ones of the last step: no arm is chosen by validation, so none has more tries than another.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import safe_open

from bowerbird.models.checkpoints import read_tensors
from bowerbird.models.vit import VitConfig
from bowerbird.training import state
from bowerbird.training.distributed import join
from bowerbird.training.run import MODEL_FILE, RunDirectory
from services.embedder.model import METADATA_KEY, ModelConfig, MultiTaskEmbedder
from services.embedder.train import Run
from services.embedder.train_config import DataConfig, OptimizerConfig, TaskConfig, TrainConfig, ValidationConfig

from .bench import BATCH, SIDE, Bench, Stopped
from .examine import FloatArray, Representation
from .results import digest

FINISHED = "finished"  # a file in the directory of a training that reached its last step
SAVE_EVERY = 100


@dataclass(frozen=True)
class Trained:
    """One way to train.

    Attributes:
        tasks: what the network learns.
        steps: of the optimiser.
        split: the column that says which pictures train.
        share: of the training pictures.
        dimension: of the embedding; 0: the recipe's.
        colour: whether augmentation may change colours.
        init: what the backbone is trained by first; None: nothing.
    """

    tasks: tuple[TaskConfig, ...]
    steps: int
    split: str = SIDE
    share: float = 1.0
    dimension: int = 0
    colour: bool = True
    init: Trained | None = None

    is_seeded: ClassVar[bool] = True

    def represent(self, bench: Bench, seed: int) -> Representation:
        """What the network makes of all pictures, trained first as far as it is not."""
        model = load_model(self.train(bench, seed) / MODEL_FILE)
        embeddings = embed(model, bench)
        tasks = [task for task in model.config.tasks if not task.is_sharded]
        with torch.no_grad():
            scores = {task.name: model.logits(task.name, torch.from_numpy(embeddings)).numpy() for task in tasks}
        return Representation(embeddings, scores, {task.name: task.labels for task in tasks})

    def train(self, bench: Bench, seed: int) -> Path:
        """The directory of the finished training.

        Raises:
            Stopped: the user or the budget ended it; it goes on from there next time.
            ConfigInvalid: the configuration or the table is not valid.
        """
        start = self.init.train(bench, seed) if self.init else None
        config = self.configure(bench, seed, start)
        document = {**config.to_dict(), "output": "", "init": start.name if start else ""}
        document["data"] = {**document["data"], "table": bench.table_digest, "root": ""}
        directory = bench.place.work / "trainings" / digest(document)
        if (directory / FINISHED).exists():
            return directory
        bench.check_stop()
        config = replace(config, output=directory)
        with join(config.optimizer.device) as rank:
            code = Run(config, rank).run(
                bench.stop, resume=state.find_latest(RunDirectory(directory).states) is not None
            )
        if code:
            raise Stopped if bench.stop.number else RuntimeError(f"training {directory} ended with code {code}")
        (directory / FINISHED).touch()
        shutil.rmtree(directory / "states", ignore_errors=True)  # its weights stand beside; nobody resumes it
        return directory

    def configure(self, bench: Bench, seed: int, start: Path | None) -> TrainConfig:
        """The configuration, all but its output."""
        recipe = bench.recipe
        backbone = VitConfig.from_dict({"image_size": recipe.image_size, **recipe.backbone})
        return TrainConfig(
            data=DataConfig(
                table=bench.table,
                root=bench.place.root,
                split_column=self.split,
                image_size=recipe.image_size,
                share=self.share,
            ),
            tasks=self.tasks,
            backbone=backbone,
            dimension=self.dimension or recipe.dimension,
            init=str(start) if start else "",
            optimizer=OptimizerConfig(
                steps=self.steps,
                batch_size=recipe.batch_size // len(self.tasks) * len(self.tasks),  # equal shares
                learning_rate=recipe.learning_rate,
                ema=recipe.ema,
                precision="fp32",  # measured anew by each run, it could differ between arms
                save_every=SAVE_EVERY,
                keep=1,
            ),
            validation=ValidationConfig(every=0),
            augmentation={**recipe.augmentation, "colour": self.colour},
            seed=seed,
        )


def load_model(file: Path) -> MultiTaskEmbedder:
    """The network in a file of weights, ready to embed."""
    with safe_open(file, "pt") as opened:
        config = ModelConfig.from_json(opened.metadata()[METADATA_KEY])
    model = MultiTaskEmbedder(config)
    model.load_state_dict(read_tensors(file), strict=False)  # sharded heads are not in it
    model.eval()
    return model


def embed(model: MultiTaskEmbedder, bench: Bench) -> FloatArray:
    """(N, D) float32: embeddings of the examined pictures, not yet of unit length; NaN for the others."""
    config = model.config
    embeddings = np.full((len(bench.examined), config.dimension), np.nan, np.float32)
    examined = np.flatnonzero(bench.examined)
    for start in range(0, len(examined), BATCH):
        rows = examined[start : start + BATCH]
        batch = bench.prepare(rows.tolist(), config.backbone.image_size[0], config.mean, config.std)
        with torch.inference_mode():
            pictures = torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)
            embeddings[rows] = model.embed(pictures).numpy()
    return embeddings
