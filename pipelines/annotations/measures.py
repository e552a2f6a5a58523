"""How good scores are: area under the ROC curve, average precision, calibration error, each with an interval.

Intervals are percentile bootstrap over groups (all candidates of a concept are drawn together, since they are not
independent), 95 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]
Measure = Callable[[FloatArray, FloatArray], float]

BINS = 10


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def measure_auc(labels: FloatArray, scores: FloatArray) -> float:
    """Probability that a relevant candidate scores above another, ties half; NaN with labels of one kind only."""
    positive = labels > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def measure_average_precision(labels: FloatArray, scores: FloatArray) -> float:
    """Mean precision over the recall that each distinct score gives; equal scores come in together."""
    total = labels.sum()
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    recall = np.diff(hits[ends], prepend=0) / total
    return float((recall * hits[ends] / (ends + 1)).sum())


def measure_calibration_error(labels: FloatArray, scores: FloatArray) -> float:
    """Expected calibration error: mean distance of score and relevance over `BINS` parts of equal size."""
    return float(sum(len(part) * abs(score - rate) for part, score, rate in _bin(labels, scores)) / len(scores))


def list_reliability(labels: FloatArray, scores: FloatArray) -> list[tuple[int, float, float]]:
    """(candidates, mean score, share of relevant ones) of each part, from low scores to high."""
    return [(len(part), score, rate) for part, score, rate in _bin(labels, scores)]


def estimate(
    measure: Measure,
    labels: FloatArray,
    scores: FloatArray,
    groups: npt.NDArray[np.int64],
    *,
    samples: int = 200,
    seed: int = 0,
) -> Estimate:
    """The measure and its interval.

    Args:
        measure: of (labels, scores).
        labels: (M,) 0 or 1.
        scores: (M,).
        groups: (M,) which candidates are drawn together.
        samples: bootstrap samples.
        seed: of their drawing.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    values = []
    for _ in range(samples):
        drawn = np.concatenate([parts[part] for part in generator.integers(len(parts), size=len(parts))])
        values.append(measure(labels[drawn], scores[drawn]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(measure(labels, scores), float(low), float(high))


def _bin(labels: FloatArray, scores: FloatArray) -> list[tuple[npt.NDArray[np.int64], float, float]]:
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [(part, float(scores[part].mean()), float(labels[part].mean())) for part in parts]
