"""Which pictures belong to which step: pure functions of (seed, step, rank, world size), so that nothing needs saving.

A step is an optimiser step, counted from 0 over the whole run. Resuming is asking for the next step; it may be asked
by another number of ranks, since the union over the ranks of a step depends on the step alone. No sampler holds an
order of the pictures: positions of an endless stream go through `draws.permute`.

Legend: N pictures of the table, C classes, b pictures of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid
from bowerbird.training.draws import FloatArray, IntArray, mix, permute, uniform

# What a draw is for: the same seed gives unrelated draws to different purposes.
_EPOCH, _CLASS, _MEMBER, _ROUNDING = 1, 2, 3, 4


class Sampler(Protocol):
    """Rows of a table for every step."""

    @property
    def batch_size(self) -> int:
        """Pictures a step, over all ranks."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which the data have been seen about once; what that means is up to the sampler."""

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """(batch_size / world_size,) int64: the rows of this rank. The union over ranks depends on the step alone.

        Raises:
            ArgumentInvalid: a negative step, a rank that is not one, or a world size that does not divide the batch.
        """


@dataclass(frozen=True)
class ShuffledSampler:
    """Every row once an epoch, in another order each epoch.

    The stream of epochs is cut into batches without regard to their borders: where N is no multiple of the batch, a
    batch holds the last rows of one epoch and the first of the next, and nothing is dropped or filled up.
    """

    size: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        _require_positive(size=self.size, batch_size=self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row of the first epoch has come."""
        return -(-self.size // self.batch_size)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that the first picture of this step belongs to."""
        return step * self.batch_size // self.size

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """See `Sampler.batch`."""
        epochs, places = np.divmod(_take_slots(self.batch_size, step, rank, world_size), self.size)
        return permute(places, self.size, mix(self.seed, _EPOCH, epochs))


class ClassBalancedSampler:
    """A few pictures of each of some classes.

    From Zhai and Wu 2019, "Classification is a strong baseline for deep metric learning". All classes take turns in a
    random order, another one each turn, and so do the pictures of a class: rare and frequent classes come equally
    often, and within a class no picture comes twice before all have come once. (The paper draws both with replacement;
    taking turns has the same expectation and less variance.)

    A class with fewer pictures than `per_class` repeats them; with fewer classes than `classes_per_batch`, classes
    repeat within the batch, as they may where one turn ends inside a batch and the next begins.
    """

    def __init__(self, classes: npt.ArrayLike, classes_per_batch: int, per_class: int, seed: int = 0) -> None:
        """
        Args:
            classes: (N,) integers; a negative one: the picture has no class and is never drawn.
            classes_per_batch: classes in a batch.
            per_class: pictures of each.
            seed: of all draws.
        Raises:
            ArgumentInvalid: no picture has a class, or a size is not positive.
        """
        _require_positive(classes_per_batch=classes_per_batch, per_class=per_class)
        labels = np.asarray(classes, np.int64)
        if not (labels >= 0).any():
            raise ArgumentInvalid(
                f"classes: expected a class for some of the {len(labels)} pictures, got none", field="classes"
            )
        self.batch_size = classes_per_batch * per_class
        self.per_class = per_class
        self.seed = seed
        labelled = np.flatnonzero(labels >= 0)
        self._rows = labelled[np.argsort(labels[labelled], kind="stable")]  # class by class
        _, self._starts, self._counts = np.unique(labels[self._rows], return_index=True, return_counts=True)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that draw as many pictures as have a class."""
        return -(-len(self._rows) // self.batch_size)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """See `Sampler.batch`; pictures of one class stand side by side."""
        visits, places = np.divmod(_take_slots(self.batch_size, step, rank, world_size), self.per_class)
        turns, order = np.divmod(visits, len(self._counts))
        chosen = permute(order, len(self._counts), mix(self.seed, _CLASS, turns))
        counts = self._counts[chosen]
        rounds, within = np.divmod(turns * self.per_class + places, counts)
        members = permute(within, counts, mix(self.seed, _MEMBER, chosen, rounds))
        return np.asarray(self._rows[self._starts[chosen] + members], np.int64)


class RepeatSampler:
    """Every row as often an epoch as its repeat factor says, in another order each epoch: tail resampling.

    A factor of 2.3 gives 2 or 3 copies, 3 in three epochs of ten. Which it is comes from systematic sampling: points
    of equal distance, with an offset drawn for each epoch, on the line of all factors laid end to end. Each row's
    expectation is exact but for the rounding of the epoch's length, and all epochs have the same length.
    """

    def __init__(self, factors: npt.ArrayLike, batch_size: int, seed: int = 0) -> None:
        """
        Args:
            factors: (N,) at least 0, finite; 0: never. See `repeat_factors`.
            batch_size: pictures a step.
            seed: of all draws.
        Raises:
            ArgumentInvalid: a factor is negative or not finite, all are zero, or the batch size is not positive.
        """
        _require_positive(batch_size=batch_size)
        values = np.asarray(factors, np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ArgumentInvalid(
                "factors: expected finite numbers of at least 0, not all 0; got another value", field="factors"
            )
        self.batch_size = batch_size
        self.seed = seed
        self._ends: FloatArray = np.cumsum(values)
        self._last = int(np.flatnonzero(values)[-1])
        self.size = max(round(float(self._ends[-1])), 1)  # pictures an epoch

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every copy of the first epoch has come."""
        return -(-self.size // self.batch_size)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """See `Sampler.batch`."""
        epochs, places = np.divmod(_take_slots(self.batch_size, step, rank, world_size), self.size)
        copies = permute(places, self.size, mix(self.seed, _EPOCH, epochs))
        points = (copies + uniform(self.seed, _ROUNDING, epochs)) * (self._ends[-1] / self.size)
        rows = np.searchsorted(self._ends, points, side="right")
        return np.asarray(np.minimum(rows, self._last), np.int64)


class SubsetSampler:
    """Another sampler over a part of a table: its numbers are places in the list of that part's rows."""

    def __init__(self, rows: npt.ArrayLike, sampler: Sampler) -> None:
        """
        Args:
            rows: (M,) rows of the table; the sampler draws from [0, M).
            sampler: of size M.
        """
        self._rows = np.asarray(rows, np.int64)
        self._sampler = sampler

    @property
    def batch_size(self) -> int:
        """That of the other sampler."""
        return self._sampler.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """That of the other sampler."""
        return self._sampler.steps_per_epoch

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """See `Sampler.batch`."""
        return self._rows[self._sampler.batch(step, rank, world_size)]


class MixtureSampler:
    """A uniform mixture of data sets: every mini-batch has an equal share of each.

    From Zhai et al. 2019, "Learning a unified embedding for visual search at Pinterest". An epoch is that of the
    largest set; smaller ones come around more often. Every rank has its share of each, too.
    """

    def __init__(self, samplers: Sequence[Sampler]) -> None:
        """
        Args:
            samplers: one a task, all of the same batch size, which is that task's share.
        Raises:
            ArgumentInvalid: none, or shares that differ.
        """
        if len({sampler.batch_size for sampler in samplers}) != 1:
            shares = [sampler.batch_size for sampler in samplers]
            raise ArgumentInvalid(f"samplers: expected equal shares of a batch, got {shares}", field="samplers")
        self._samplers = tuple(samplers)

    @property
    def batch_size(self) -> int:
        """The sum of the shares."""
        return sum(sampler.batch_size for sampler in self._samplers)

    @property
    def steps_per_epoch(self) -> int:
        """That of the largest data set."""
        return max(sampler.steps_per_epoch for sampler in self._samplers)

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> IntArray:
        """See `Sampler.batch`; the shares stand one after the other, in the order of the samplers."""
        return np.concatenate([sampler.batch(step, rank, world_size) for sampler in self._samplers])


def repeat_factors(labels: Sequence[Sequence[Hashable]], threshold: float) -> FloatArray:
    """(N,) float64 at least 1: max(1, sqrt(threshold / f)) of the picture's rarest label, f the label's frequency.

    The repeat factor of Gupta, Dollar and Girshick 2019 (LVIS, appendix), which the pretraining on hashtags by Mahajan
    et al. 2018 inspired; a picture without labels has factor 1.

    Args:
        labels: of each picture; a label named twice by one picture counts once.
        threshold: the frequency, a share of all pictures in (0, 1], below which a label is rare.
    Raises:
        ArgumentInvalid: a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ArgumentInvalid(f"threshold: expected a share in (0, 1], got {threshold}", field="threshold")
    counts = Counter(label for picture in labels for label in set(picture))
    rarest = np.array([min((counts[label] for label in picture), default=len(labels)) for picture in labels])
    return np.asarray(np.maximum(1.0, np.sqrt(threshold * len(labels) / np.maximum(rarest, 1))))


def _take_slots(batch_size: int, step: int, rank: int, world_size: int) -> IntArray:
    """(batch_size / world_size,) int64: the positions in the endless stream that this rank reads at this step."""
    if step < 0:
        raise ArgumentInvalid(f"step: expected at least 0, got {step}", field="step")
    if not 0 <= rank < world_size:
        raise ArgumentInvalid(f"rank: expected 0 to {world_size - 1}, got {rank}", field="rank")
    if batch_size % world_size:
        raise ArgumentInvalid(
            f"world_size: expected a divisor of the batch of {batch_size} pictures, got {world_size}; change either",
            field="world_size",
        )
    share = batch_size // world_size
    return step * batch_size + rank * share + np.arange(share)


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentInvalid(f"{name}: expected at least 1, got {size}", field=name)
