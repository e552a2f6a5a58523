"""Scores fitted on held-out pictures: right on average, and in the order of before."""

from __future__ import annotations

import numpy as np
import pytest

from services.embedder.calibration import (
    LARGEST_TEMPERATURE,
    calibrate_classes,
    calibrate_labels,
    find_best_threshold,
    measure_error,
)


def draw_classes(temperature: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure by `temperature`, and labels drawn from what they should have said."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, 6))
    weights = np.exp(logits)
    cumulated = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    labels = (cumulated < random.random((count, 1))).sum(axis=1)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_the_temperature_is_found(temperature: float) -> None:
    """Labels drawn at a temperature give it back, and the calibration error falls to nearly nothing."""
    found = calibrate_classes(*draw_classes(temperature))

    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.bias == 0.0 and found.pictures == 4000
    assert found.error_after < 0.03
    if temperature != 1.0:
        assert found.error_before > 2 * found.error_after


def test_slope_and_bias_are_found() -> None:
    """Labels drawn by a logistic curve give it back."""
    random = np.random.default_rng(1)
    logits = random.normal(5, 4, (600, 50))
    truth = random.random(logits.shape) < 1 / (1 + np.exp(-(logits / 2.5 - 6)))

    found = calibrate_labels(logits, truth)

    assert found.temperature == pytest.approx(2.5, rel=0.05) and found.bias == pytest.approx(-6, rel=0.05)
    assert found.error_after < 0.01 < found.error_before
    assert 0.1 < found.min_score < 0.5


@pytest.mark.parametrize("kind", ["nothing", "everything", "noise", "perfect"])
def test_heads_that_cannot_be_fitted_stay_in_bounds(kind: str) -> None:
    """No label, every label, labels without any relation and labels without a mistake give finite numbers."""
    logits = np.random.default_rng(2).normal(0, 1, (50, 4))
    truths = {"nothing": logits > 99, "everything": logits < 99, "noise": logits * 0 > -1, "perfect": logits > 0}
    found = calibrate_labels(logits, truths[kind])
    assert 0 < found.temperature <= LARGEST_TEMPERATURE and np.isfinite(found.bias) and 0 <= found.min_score <= 1


def test_a_head_that_is_worse_than_chance_gives_the_share_of_each_label() -> None:
    """Its order cannot be turned round, but its scores are right on average."""
    random = np.random.default_rng(0)
    truth = random.random((100, 20)) < 0.05
    found = calibrate_labels(np.where(truth, -8, 8) + random.normal(0, 0.1, truth.shape), truth)
    assert found.temperature == LARGEST_TEMPERATURE
    assert found.error_after < 0.02


def test_the_threshold_is_the_one_of_the_best_f1() -> None:
    """Found by hand: two of three found at 0.7 (F1 0.8) beat one at 0.9 and three of five at 0.2."""
    scores, truth = np.array([0.9, 0.7, 0.5, 0.3, 0.2]), np.array([True, True, False, False, True])
    assert find_best_threshold(scores, truth) == pytest.approx(0.7)


def test_the_error_of_scores_that_are_shares_is_nothing() -> None:
    """A score of 0.3 is right in 3 of 10 cases; one of 1.0 that is never right is wrong by 1."""
    assert measure_error(np.full(10, 0.3), np.array([1.0] * 3 + [0.0] * 7)) == pytest.approx(0)
    assert measure_error(np.ones(5), np.zeros(5)) == pytest.approx(1)
