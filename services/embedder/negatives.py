"""Which rows of a large softmax compete in a step, and with what chance each was drawn.

N labels are cut into S strata, and a step draws one label out of each, uniformly: S distinct labels, label j with the
chance q_j = 1 / (size of its stratum), exactly. Without frequencies the strata are runs of equal size; with them the
labels are ordered by frequency and cut where each stratum has the same sum of log(1 + f), so that frequent labels, the
hard negatives of most pictures, are drawn more often. That brings a draw's gradient nearer to the full one (the tests
have both); a model trained with it was no better where the batch's own labels, which always compete, already hold the
frequent ones (`benchmarks/bench_sampled_softmax.py` has both), so frequencies are an option and not a need.

Why so, and not independent draws from a log-uniform law as word models have it (Jean et al., ACL 2015): without
replacement no draw is wasted on a label twice; one draw a stratum has a smaller variance; q_j needs no estimate; S = N
is the full softmax to the last bit of q; and a step costs O(S), whatever N is. A draw is a function of (seed, step)
alone: every rank makes the same one, so the number of ranks does not change what is computed, and a resumed run goes on
as the first would have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """The labels that compete in a step.

    Attributes:
        ids: (C,) int64, ascending, distinct.
        log_q: (C,) float32, logarithm of the chance of each to be here, given the batch; 0 for the batch's own labels.
    """

    ids: IntArray
    log_q: FloatArray


class NegativeSampler:
    """Draws S of N labels a step; the module says how.

    Args:
        labels: N.
        samples: S, in [1, N].
        frequencies: (N,) pictures of each label in the training set, or None for uniform draws.
        corrected: False leaves the logits as they are, as PartialFC does; only to measure what the correction is worth.

    Raises:
        ArgumentInvalid: a number is out of range, or the frequencies have another length or a negative value.
    """

    def __init__(
        self,
        labels: int,
        samples: int,
        *,
        seed: int = 0,
        frequencies: npt.ArrayLike | None = None,
        corrected: bool = True,
    ) -> None:
        if not 1 <= samples <= labels:
            raise ArgumentInvalid(f"samples: expected 1 to {labels}, the number of labels, got {samples}")
        self._seed, self._corrected = seed, corrected
        self._order: IntArray | None = None
        starts = np.arange(samples, dtype=np.int64) * labels // samples
        if frequencies is not None:
            self._order, starts = _cut_by_frequency(np.asarray(frequencies, np.float64), labels, samples)
        self._starts = starts
        self._sizes = np.diff(starts, append=labels)
        self._log_q = -np.log(self._sizes).astype(np.float32)

    def draw(self, step: int) -> Candidates:
        """The S labels of a step, before those of the batch join them."""
        chance = np.random.Generator(np.random.Philox(key=[self._seed, step])).random(len(self._starts))
        ids = self._starts + (chance * self._sizes).astype(np.int64)
        if self._order is None:  # strata and labels have the same order
            return Candidates(ids, self._log_q)
        ids = self._order[ids]
        ascending = np.argsort(ids)
        return Candidates(ids[ascending], self._log_q[ascending])

    def choose(self, positives: IntArray, *, step: int, start: int, stop: int) -> Candidates:
        """The labels of [start, stop) that compete in a step: all of the batch's own, and those that were drawn.

        The batch's labels are there with certainty, as negatives of its other pictures too: their q is 1. A label that
        is also drawn (an accidental hit) stands there once, as the batch's.

        Args:
            positives: labels of all pictures of the batch, in any order, duplicates welcome.
            step: of the optimiser, from 0.
            start, stop: the rows that this rank has.
        """
        drawn = self.draw(step)
        inside = slice(*np.searchsorted(drawn.ids, [start, stop]))
        own = np.unique(positives[(positives >= start) & (positives < stop)])
        ids, first = np.unique(np.concatenate([own, drawn.ids[inside]]), return_index=True)
        log_q = np.concatenate([np.zeros(len(own), np.float32), drawn.log_q[inside]])[first]
        return Candidates(ids, log_q if self._corrected else np.zeros_like(log_q))


def _cut_by_frequency(frequencies: npt.NDArray[np.float64], labels: int, samples: int) -> tuple[IntArray, IntArray]:
    """Labels from frequent to rare, (N,), and where in that order each of the S strata starts, (S,).

    A label that weighs more than a stratum should fills one alone; the strata it saves go to the next labels.
    """
    if frequencies.shape != (labels,) or not (np.isfinite(frequencies) & (frequencies >= 0)).all():
        raise ArgumentInvalid(f"frequencies: expected {labels} finite numbers of 0 or more, one a label")
    order = np.argsort(-frequencies, kind="stable").astype(np.int64)
    weight = np.cumsum(
        np.log1p(np.maximum(frequencies[order], 1))
    )  # never seen, and yet a label: drawn like one seen once
    count = np.arange(samples)
    starts = np.searchsorted(weight, count * (weight[-1] / samples), side="left")
    starts[0] = 0
    # At least one label each: not before the k-th label, nor so late that fewer labels than strata are left.
    return order, np.minimum(np.maximum(starts, count), labels - samples + count).astype(np.int64)
