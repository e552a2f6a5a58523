"""Labels of the training table as numbers: a vocabulary a task, and for every picture its ids, or none.

Legend: N pictures of the table, C labels of a task, E label entries of all pictures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bowerbird.errors import ConfigInvalid
from bowerbird.training.dataset import PictureTable
from bowerbird.training.draws import FloatArray, IntArray

from .losses import RaggedLabels

NONE = -1
Lists = list[list[str]]


@dataclass(frozen=True)
class Targets:
    """The labels of N pictures for one task.

    Attributes:
        offsets: (N + 1,) int64; picture i has the entries offsets[i] to offsets[i + 1].
        ids: (E,) int64 in [0, C).
        weights: (E,) float32 confidences, above 0; None: all alike.
    """

    offsets: IntArray
    ids: IntArray
    weights: Any = None

    @property
    def labelled(self) -> Any:
        """(N,) bool: the picture has a label."""
        return np.diff(self.offsets) > 0

    @property
    def first(self) -> IntArray:
        """(N,) int64: the first label of each picture, -1 for none; the only one in tasks of one label a picture."""
        result = np.full(len(self.offsets) - 1, NONE, np.int64)
        result[self.labelled] = self.ids[self.offsets[:-1][self.labelled]]
        return result

    def count(self, rows: IntArray) -> int:
        """How many of the rows have a label."""
        return int(np.count_nonzero(self.offsets[rows + 1] > self.offsets[rows]))

    def take_first(self, rows: IntArray) -> Tensor:
        """(b,) int64, -1 for none."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        found = self.ids[np.minimum(starts, len(self.ids) - 1)]
        return torch.from_numpy(np.where(ends > starts, found, NONE))

    def take(self, rows: IntArray) -> RaggedLabels:
        """The label lists of these rows."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        weights = None if self.weights is None else torch.from_numpy(self.weights[places])
        return RaggedLabels.from_arrays(torch.from_numpy(offsets), torch.from_numpy(self.ids[places]), weights)


def read_lists(table: PictureTable, column: str) -> Lists:
    """The labels of every picture as lists: None, "" and NaN are none, a single value is a list of one.

    Raises:
        ArgumentInvalid: the table has no such column.
    """
    return [_as_list(value) for value in table.column(column)]


def read_confidences(table: PictureTable, column: str, where: str) -> list[list[float]]:
    """The confidences of every picture's labels, read as `read_lists` does; in CSV they are text.

    Raises:
        ArgumentInvalid: the table has no such column.
        ConfigInvalid: a confidence is no number.
    """
    try:
        return [[float(each) for each in _as_list(value)] for value in table.column(column)]
    except ValueError as error:
        raise ConfigInvalid(f"{where} weights: column {column!r} must hold numbers: {error}") from error


def build_vocabulary(lists: Lists, where: str, *, min_pictures: int = 1, given: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels of the training pictures in order; `given` ones as they are.

    Raises:
        ConfigInvalid: there is none, or a given one is on no picture or given twice.
    """
    counts = Counter(label for labels in lists for label in set(labels))
    if given:
        if absent := [label for label in given if label not in counts]:
            raise ConfigInvalid(f"{where} labels: no training picture has {', '.join(absent)}")
        if len(set(given)) < len(given):
            raise ConfigInvalid(f"{where} labels: expected each once, got {', '.join(given)}")
        return tuple(given)
    vocabulary = tuple(sorted(label for label, count in counts.items() if count >= min_pictures))
    if not vocabulary:
        raise ConfigInvalid(
            f"{where}: the column has {len(counts):,} labels, none of them on {min_pictures} or more training pictures"
        )
    return vocabulary


def encode(
    lists: Lists, vocabulary: Sequence[str], *, weights: Sequence[Sequence[float] | None] | None = None, where: str = ""
) -> Targets:
    """The labels as ids; those outside the vocabulary, and those of confidence 0, are left out.

    Args:
        weights: a confidence for each label, at least 0.
    Raises:
        ConfigInvalid: confidences that do not match the labels in number, are negative or not finite.
    """
    numbers: Mapping[str, int] = {label: number for number, label in enumerate(vocabulary)}
    counts, ids, kept = np.zeros(len(lists), np.int64), [], []
    for row, labels in enumerate(lists):
        confidences = [1.0] * len(labels) if weights is None else list(weights[row] or [])
        if len(confidences) != len(labels) or any(not 0 <= value < math.inf for value in confidences):
            raise ConfigInvalid(
                f"{where} weights: row {row} has {len(labels)} labels and the confidences {confidences[:8]}; "
                f"expected one for each, at least 0"
            )
        for label, confidence in zip(labels, confidences, strict=True):
            if label in numbers and confidence > 0:
                ids.append(numbers[label])
                kept.append(confidence)
                counts[row] += 1
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Targets(offsets, np.array(ids, np.int64), None if weights is None else np.array(kept, np.float32))


def count_labels(targets: Targets, labels: int) -> FloatArray:
    """(C,) pictures of each label."""
    return np.bincount(targets.ids, minlength=labels).astype(np.float64)


def _as_list(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if each is not None and each != "" and each == each]  # NaN is not NaN
