"""Bootstrap intervals: of a mean over clusters and seeds, and of the difference of two models on the same queries.

What is resampled are whole clusters (all queries of a concept, which are not independent of each other) and, where a
model was trained several times, its seeds. Both are drawn independently and crossed, so that an interval holds the
luck of the test set and that of the training.

Legend: Q queries, S seeds, C clusters, R resamples.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13; for crossed factors Owen, The
pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007, whose intervals err on the wide side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95
DRAWN_AT_ONCE = 1 << 22  # bounds the memory of the bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        """[low, high], rounded to four digits, as it belongs into a report."""
        return [round(self.low, 4), round(self.high, 4)]


@dataclass(frozen=True)
class Sample:
    """What a measure gave, summed by seed and cluster.

    Attributes:
        totals: (S, C) float64, sum of the values of the queries.
        sizes: (S, C) float64, how many they are; a cluster without queries counts nothing.
    """

    totals: FloatArray
    sizes: FloatArray

    @classmethod
    def of(cls, values: FloatArray, clusters: IntArray, count: int | None = None) -> Sample:
        """The sample of one seed.

        Args:
            values: (Q,) finite.
            clusters: (Q,) int64 in [0, C).
            count: C; None: the largest cluster there is.
        """
        least = count or 0
        totals = np.bincount(clusters, weights=values, minlength=least).astype(np.float64)
        return cls(totals[None], np.bincount(clusters, minlength=least).astype(np.float64)[None])

    @classmethod
    def stack(cls, samples: Sequence[Sample]) -> Sample:
        """The seeds of several samples over the same clusters, as one."""
        return cls(
            np.concatenate([sample.totals for sample in samples]), np.concatenate([sample.sizes for sample in samples])
        )

    @property
    def mean(self) -> float:
        """Over all queries of all seeds."""
        return float(self.totals.sum() / self.sizes.sum())

    @property
    def seed_means(self) -> list[float]:
        """Of each seed."""
        return [float(total / size) for total, size in zip(self.totals.sum(1), self.sizes.sum(1), strict=True)]


@dataclass(frozen=True)
class Comparison:
    """Another model against a baseline, over the same clusters.

    Attributes:
        difference: other - baseline.
        gain: other / baseline - 1; without bounds (NaN) where the baseline is 0.
    """

    difference: Estimate
    gain: Estimate


def bootstrap_mean(
    values: FloatArray, clusters: IntArray | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of the values with its percentile bootstrap interval at 95 %.

    Whole clusters are drawn with replacement, so that values which belong together (the same concept in many pairs of
    styles) are not counted as independent.

    Args:
        values: (Q,) float64, finite, at least one.
        clusters: (Q,) int64, every number of [0, C) at least once; None: every value is its own cluster.
        resamples: R.
        seed: of the generator; the same seed gives the same interval.
    """
    clusters = np.arange(len(values)) if clusters is None else clusters
    return estimate_sample(Sample.of(values, clusters), resamples=resamples, seed=seed)


def estimate_sample(sample: Sample, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of a sample with its percentile bootstrap interval at 95 %, over its clusters and seeds."""
    [means] = _resample([sample], resamples, seed)
    return Estimate(sample.mean, *_bounds(means))


def compare_samples(baseline: Sample, other: Sample, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """How much better `other` is than `baseline`, paired: both see the same clusters in every resample.

    The seeds of the two are drawn apart from each other: seed 1 of one has nothing in common with seed 1 of the other.

    Args:
        baseline, other: over the same C clusters; any number of seeds each.
    """
    before, after = _resample([baseline, other], resamples, seed)
    difference = Estimate(other.mean - baseline.mean, *_bounds(after - before))
    if baseline.mean == 0 or (before == 0).any():
        return Comparison(difference, Estimate(float("nan"), float("nan"), float("nan")))
    return Comparison(difference, Estimate(other.mean / baseline.mean - 1, *_bounds(after / before - 1)))


def _resample(samples: Sequence[Sample], resamples: int, seed: int) -> list[FloatArray]:
    """(R,) means of each sample; the clusters drawn are the same for all of them."""
    generator, count = np.random.default_rng(seed), samples[0].totals.shape[1]
    assert all(sample.totals.shape[1] == count for sample in samples), "samples of other clusters cannot be compared"
    rows = max(1, DRAWN_AT_ONCE // count)
    means: list[list[FloatArray]] = [[] for _ in samples]
    for start in range(0, resamples, rows):
        some = min(rows, resamples - start)
        clusters = generator.multinomial(count, np.full(count, 1 / count), some).astype(np.float64)
        for number, sample in enumerate(samples):
            seeds = len(sample.totals)
            weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), some).astype(np.float64)
            sizes = (weights * (clusters @ sample.sizes.T)).sum(1)
            totals = (weights * (clusters @ sample.totals.T)).sum(1)
            means[number].append(np.divide(totals, sizes, out=np.zeros(some), where=sizes > 0))
    return [np.concatenate(parts) for parts in means]


def _bounds(means: FloatArray) -> tuple[float, float]:
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
