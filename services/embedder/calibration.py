"""Scores that mean what they say: temperature and bias of each head, fitted on pictures that did not train it.

Classes: temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2). Several
labels: one logistic regression of all labels together (Platt, 1999), and the least score that is worth showing. Both
only stretch and shift what the head says; the order of its labels stays.

Legend: M pictures, C labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 0.05, 50.0
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 60
_LARGEST_BIAS = 20.0  # a score of 2e-9
_RIDGE = 1e-6  # keeps the slope finite where labels are told apart without a mistake


@dataclass(frozen=True)
class Calibration:
    """What the card says of a head's scores.

    Attributes:
        temperature: divides the logits.
        bias: added to them then; 0 for classes.
        min_score: least score shown unless asked otherwise.
        pictures: that it was fitted on; 0: not fitted.
        error_before: expected calibration error without, in [0, 1].
        error_after: and with it.
    """

    temperature: float = 1.0
    bias: float = 0.0
    min_score: float = 0.0
    pictures: int = 0
    error_before: float = 0.0
    error_after: float = 0.0


def calibrate_classes(logits: FloatArray, labels: npt.NDArray[np.int64]) -> Calibration:
    """The temperature at which the true labels are likeliest.

    Args:
        logits: (M, C).
        labels: (M,) in [0, C).
    """

    def cost(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        peak = scaled.max(axis=1)
        likelihoods = scaled[np.arange(len(labels)), labels] - peak
        return float((np.log(np.exp(scaled - peak[:, None]).sum(axis=1)) - likelihoods).mean())

    low, high = math.log(LEAST_TEMPERATURE), math.log(LARGEST_TEMPERATURE)
    for _ in range(_STEPS):  # the cost is convex in 1 / temperature, so it has one minimum
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if cost(left) <= cost(right) else (left, high)
    temperature = _round(math.exp((low + high) / 2))
    return Calibration(
        temperature=temperature,
        pictures=len(labels),
        error_before=_error_of_best(logits, labels, 1.0),
        error_after=_error_of_best(logits, labels, temperature),
    )


def calibrate_labels(logits: FloatArray, truth: BoolArray) -> Calibration:
    """Slope and bias of sigmoid(logit / temperature + bias) by Newton's method, and the score of the best F1.

    Args:
        logits: (M, C).
        truth: (M, C).
    """
    values, wanted = logits.ravel().astype(np.float64), truth.ravel().astype(np.float64)
    slope, bias = 1.0 / max(1e-3, values.std()), math.log((wanted.mean() + 1e-9) / (1 - wanted.mean() + 1e-9))
    for _ in range(_STEPS):
        scores = _sigmoid(slope * values + bias)
        error, spread = scores - wanted, scores * (1 - scores) + 1e-12
        gradient = np.array([error @ values + _RIDGE * slope * len(values), error.sum()])
        crossed = spread @ values
        curvature = np.array([[spread @ values**2 + _RIDGE * len(values), crossed], [crossed, spread.sum()]])
        step = np.linalg.solve(curvature, gradient)
        largest = np.abs(step).max()
        slope, bias = slope - step[0] / max(1.0, largest), bias - step[1] / max(1.0, largest)
        if largest < 1e-6:
            break
    if not 1 / LARGEST_TEMPERATURE <= slope <= 1 / LEAST_TEMPERATURE:  # the head does not tell its labels apart
        slope = min(max(slope, 1 / LARGEST_TEMPERATURE), 1 / LEAST_TEMPERATURE)
        bias = _fit_bias(slope * values, wanted.mean())
    temperature, bias = _round(1 / slope), _round(bias)
    scores = _sigmoid(values / temperature + bias)
    return Calibration(
        temperature,
        bias,
        find_best_threshold(scores, wanted > 0),
        len(logits),
        measure_error(_sigmoid(values), wanted),
        measure_error(scores, wanted),
    )


def _fit_bias(logits: FloatArray, share: float) -> float:
    """What to add to the logits so that the mean score is the share of those that are right, by bisection."""
    low, high = -_LARGEST_BIAS - float(logits.max()), _LARGEST_BIAS - float(logits.min())
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < share else (low, middle)
    return (low + high) / 2


def find_best_threshold(scores: FloatArray, truth: BoolArray) -> float:
    """The score, rounded down to two digits, at which F1 over all pictures and labels together is largest."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + max(1, truth.sum()))
    return math.floor(float(scores[order[int(f1.argmax())]]) * 100) / 100


def measure_error(scores: FloatArray, truth: FloatArray, *, bins: int = 15) -> float:
    """Expected calibration error: how far a score is from the share of those with it that are right."""
    edges = np.minimum((scores * bins).astype(np.int64), bins - 1)
    counts = np.bincount(edges, minlength=bins)
    gaps = np.bincount(edges, scores, bins) - np.bincount(edges, truth, bins)
    return float(np.abs(gaps).sum() / max(1, counts.sum()))


def _error_of_best(logits: FloatArray, labels: npt.NDArray[np.int64], temperature: float) -> float:
    scaled = logits / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    scores = weights / weights.sum(axis=1, keepdims=True)
    return measure_error(scores.max(axis=1), (scores.argmax(axis=1) == labels).astype(np.float64))


def _sigmoid(values: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def _round(value: float) -> float:
    """Four digits, as the card shows it."""
    return float(f"{value:.4g}")
