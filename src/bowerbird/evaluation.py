"""Measures of retrieval quality and their confidence intervals; arrays in, numbers out.

Legend: Q queries, K ranks, C clusters (the unit that is resampled, e.g. a concept), R resamples.
"""

from __future__ import annotations

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


def rank_truth(answers: IntArray, truth: IntArray) -> IntArray:
    """Rank, from 0, at which the right answer of each query stands; K where it is not among the answers.

    Args:
        answers: (Q, K) int64, best first; -1 where a query has fewer answers.
        truth: (Q,) int64, the right answer of each query, not negative.
    Returns:
        (Q,) int64 in [0, K].
    """
    found = answers == truth[:, None]
    return np.asarray(np.where(found.any(axis=1), found.argmax(axis=1), answers.shape[1]), np.int64)


def recall(ranks: IntArray, k: int) -> FloatArray:
    """(Q,) 1.0 where the one right answer is among the first k, else 0.0; for k = 1 this is also the precision at 1."""
    return (ranks < k).astype(np.float64)


def label_precision(answers: IntArray, labels: IntArray, query_labels: IntArray) -> FloatArray:
    """(Q,) share of each query's answers that carry the query's label; answers of -1 count as wrong.

    Args:
        answers: (Q, K) int64, positions in `labels`; -1 where a query has fewer answers.
        labels: (N,) int64, label of each item.
        query_labels: (Q,) int64.
    """
    right = (labels[answers] == query_labels[:, None]) & (answers >= 0)
    return np.asarray(right.mean(axis=1), np.float64)


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
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
    """
    clusters = np.arange(len(values)) if clusters is None else clusters
    totals = np.bincount(clusters, weights=values)
    sizes = np.bincount(clusters).astype(np.float64)
    generator, count = np.random.default_rng(seed), len(totals)
    rows = max(1, DRAWN_AT_ONCE // count)
    parts = []
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, count, (min(rows, resamples - start), count), np.int32)
        parts.append(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    means = np.concatenate(parts)
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(float(values.mean()), float(low), float(high))
