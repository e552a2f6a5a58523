"""What a run learns from: the training and validation pictures of a table, the labels of each task, and who comes when.

Legend: N training pictures, M validation pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ConfigInvalid
from bowerbird.training.augment import Evaluate
from bowerbird.training.dataset import PictureTable
from bowerbird.training.draws import IntArray, permute
from bowerbird.training.sampler import (
    ClassBalancedSampler,
    MixtureSampler,
    RepeatSampler,
    Sampler,
    ShuffledSampler,
    SubsetSampler,
    repeat_factors,
)
from bowerbird.training.shards import open_table

from .model import TaskSpec
from .targets import Targets, build_vocabulary, encode, read_confidences, read_lists
from .train_config import DEFAULT_LOSS, UNSET, DataConfig, TaskConfig, TrainConfig
from .validation import Validation

SPLITS_NAMED = 5  # in a message
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrainingSet:
    """Pictures and labels of a run.

    Attributes:
        table: N training pictures.
        rows: (N,) where they stand in the file.
        tasks: with their labels.
        targets: of each task, N each.
        sampler: numbers of training pictures for each step.
        keep_colour: (N,) bool: pictures whose colours augmentation leaves alone.
        validation: None without validation pictures.
        remark: what the split column says instead of `validation`, if it says that nowhere.
    """

    table: PictureTable
    rows: IntArray
    tasks: tuple[TaskSpec, ...]
    targets: dict[str, Targets]
    sampler: Sampler
    keep_colour: BoolArray
    validation: Validation | None
    remark: str = ""


def read_training_set(config: TrainConfig) -> TrainingSet:
    """All that the configuration's table holds for its tasks.

    Raises:
        ConfigInvalid: no training picture, or a task without labels.
        ArgumentInvalid: the table cannot be read, or lacks a column.
    """
    whole = _read_table(config)
    training = _find_rows(whole, config.data, "train", config.seed)
    if not len(training):
        raise ConfigInvalid(
            f"[data] table: {config.data.table} has no picture for training among its {len(whole):,}"
            + _tell_splits(_count_splits(whole, config.data), "train")
        )
    table = whole.select(training)
    tasks, targets = [], {}
    for task in config.tasks:
        spec, targets[task.name] = _read_task(task, table)
        tasks.append(spec)
    return TrainingSet(
        table,
        training,
        tuple(tasks),
        targets,
        _build_sampler(config, targets),
        _find_coloured(config.tasks, targets, len(table)),
        _read_validation(config, whole, tasks),
        _tell_splits(_count_splits(whole, config.data), "validation"),
    )


def _read_table(config: TrainConfig) -> PictureTable:
    data = config.data
    columns = {task.column or task.name for task in config.tasks} | {task.weights for task in config.tasks}
    return open_table(
        data.table,
        root=None if data.root == UNSET else data.root,
        picture_column=data.picture_column,
        columns=sorted((columns | {data.split_column}) - {""}),
    )


def _find_rows(table: PictureTable, data: DataConfig, split: str, seed: int) -> IntArray:
    """Rows of a split, ascending; of training only the share that is asked for."""
    rows = find_split(table, data.split_column, split)
    if split == "train" and data.share < 1:
        order = permute(np.arange(len(rows)), max(1, len(rows)), np.uint64(seed))
        rows = np.sort(rows[order[: round(data.share * len(rows))]])
    return rows


def find_split(table: PictureTable, split_column: str, split: str) -> IntArray:
    """Rows of a split, ascending; without a split column every picture trains."""
    if not split_column:
        return np.arange(len(table) if split == "train" else 0)
    return np.flatnonzero(np.array([value == split for value in table.column(split_column)], bool))


def _count_splits(table: PictureTable, data: DataConfig) -> Counter[str]:
    return Counter(str(value) for value in table.column(data.split_column)) if data.split_column else Counter()


def _tell_splits(counts: Counter[str], missing: str) -> str:
    """What the split column says where it should say `missing` somewhere; empty if it does, or if there is none."""
    if not counts or missing in counts:
        return ""
    return f"; its splits are {', '.join(f'{name} ({count:,})' for name, count in counts.most_common(SPLITS_NAMED))}"


def _read_task(task: TaskConfig, table: PictureTable) -> tuple[TaskSpec, Targets]:
    column, where = task.column or task.name, f"[[task]] {task.name}"
    lists = read_lists(table, column)
    if task.kind != "multilabel" and any(len(labels) > 1 for labels in lists):
        raise ConfigInvalid(f"{where}: column {column!r} has several labels for a picture; kind multilabel takes them")
    labels = build_vocabulary(lists, where, min_pictures=task.min_pictures, given=task.labels)
    weights = read_confidences(table, task.weights, where) if task.weights else None
    targets = encode(lists, labels, weights=weights, where=where)
    if not targets.labelled.any():
        raise ConfigInvalid(f"{where}: no training picture has a label of column {column!r}")
    if task.loss == "sigmoid" and targets.weights is not None and targets.weights.max() > 1:
        raise ConfigInvalid(f"{where} weights: the loss sigmoid takes confidences of at most 1 in {task.weights!r}")
    kind: Any = task.kind
    loss: Any = task.loss or DEFAULT_LOSS[task.kind]
    return TaskSpec(task.name, kind, labels, column, task.weight, loss, task.sample_rate, task.corrected), targets


def _build_sampler(config: TrainConfig, targets: dict[str, Targets]) -> Sampler:
    """Every task that draws has an equal share of each batch."""
    drawing = [task for task in config.tasks if task.draws]
    batch_size = config.optimizer.batch_size
    if not drawing:
        raise ConfigInvalid("[[task]] draws: at least one task must draw pictures")
    if batch_size % len(drawing):
        raise ConfigInvalid(
            f"[optimizer] batch_size: expected a multiple of the {len(drawing)} tasks that draw, got {batch_size}"
        )
    share = batch_size // len(drawing)
    samplers = [
        _sample_task(task, targets[task.name], share, config.seed + number) for number, task in enumerate(drawing)
    ]
    return samplers[0] if len(samplers) == 1 else MixtureSampler(samplers)


def _sample_task(task: TaskConfig, targets: Targets, share: int, seed: int) -> Sampler:
    if task.per_class:
        if share % task.per_class:
            raise ConfigInvalid(
                f"[[task]] {task.name} per_class: expected a divisor of its {share} pictures a batch, "
                f"got {task.per_class}"
            )
        return ClassBalancedSampler(targets.first, share // task.per_class, task.per_class, seed)
    rows = np.flatnonzero(targets.labelled)
    if task.tail_threshold:
        lists = [targets.ids[targets.offsets[row] : targets.offsets[row + 1]].tolist() for row in rows]
        return SubsetSampler(rows, RepeatSampler(repeat_factors(lists, task.tail_threshold), share, seed))
    return SubsetSampler(rows, ShuffledSampler(len(rows), share, seed))


def _find_coloured(tasks: Sequence[TaskConfig], targets: dict[str, Targets], size: int) -> BoolArray:
    """(N,) bool: pictures with a label that is told by colours."""
    coloured = np.zeros(size, np.bool_)
    for task in tasks:
        if task.keep_colour:
            coloured |= targets[task.name].labelled
    return coloured


def _read_validation(config: TrainConfig, whole: PictureTable, tasks: Sequence[TaskSpec]) -> Validation | None:
    rows = _find_rows(whole, config.data, "validation", config.seed)
    if not len(rows) or not config.validation.every:
        return None
    if len(rows) > config.validation.max_pictures:  # spread evenly, the same ones every time
        rows = rows[np.linspace(0, len(rows) - 1, config.validation.max_pictures).astype(np.int64)]
    table = whole.select(rows)
    targets = {}
    for task in tasks:
        lists = read_lists(table, task.column)
        known = task.labels if task.kind != "metric" else sorted({label for labels in lists for label in labels})
        targets[task.name] = encode(lists, known)
    data = config.data
    transform = Evaluate(config.backbone.image_size, mean=data.mean, std=data.std)
    return Validation(table, targets, transform, workers=data.workers)
