"""What a run tells its user: what it starts with, how it goes, what it measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from .learner import StepReport
from .targets import count_labels
from .train_config import TrainConfig
from .training_set import TrainingSet


class Means:
    """Means of what the steps measured since they were last taken."""

    def __init__(self) -> None:
        self._steps: list[StepReport] = []

    def add(self, step: StepReport) -> None:
        """Count one step in."""
        self._steps.append(step)

    def take(self) -> dict[str, Any]:
        """Means over the steps, of each task over those that had its labels; and start anew."""
        steps, self._steps = self._steps, []
        losses = _average([step.losses for step in steps])
        return {
            "loss": sum(losses.values()),
            "losses": losses,
            "gradient_norms": _average([step.gradient_norms for step in steps]),
            "gradient_norm": float(np.mean([step.gradient_norm for step in steps])),
        }


def _average(steps: list[dict[str, float]]) -> dict[str, float]:
    counts = Counter(name for step in steps for name in step)
    return {name: sum(step.get(name, 0.0) for step in steps) / count for name, count in counts.items()}


def describe(data: TrainingSet, config: TrainConfig) -> str:
    """What the run starts with: pictures, tasks, labels."""
    epochs = config.optimizer.steps / data.sampler.steps_per_epoch
    steps = f"{config.optimizer.steps:,} steps of {config.optimizer.batch_size} ({epochs:.1f} epochs)"
    lines = [f"{len(data.table):,} training pictures, {len(data.validation or ()):,} for validation; {steps}"]
    if data.remark:
        lines.append(f"  no picture validates, so nothing is measured and the last weights are kept{data.remark}")
    for task in data.tasks:
        targets = data.targets[task.name]
        counts = count_labels(targets, len(task.labels))
        single = f", {np.count_nonzero(counts == 1):,} of them on one picture only" if (counts == 1).any() else ""
        lines.append(
            f"  {task.name}: {task.kind}, {len(task.labels):,} labels{single}; on {targets.labelled.sum():,} pictures"
        )
    return "\n".join(lines)


def list_measures(measures: Mapping[str, float]) -> str:
    """`  concept/p_at_1 0.431  tone/accuracy 0.912`; empty without any."""
    return "".join(f"  {name} {value:.3f}" for name, value in measures.items())
