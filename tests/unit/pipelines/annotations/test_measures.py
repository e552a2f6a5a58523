import numpy as np
import pytest

from pipelines.annotations.measures import (
    estimate,
    list_reliability,
    measure_auc,
    measure_average_precision,
    measure_calibration_error,
)

LABELS = np.array([1.0, 0.0, 1.0, 0.0])


def test_auc_counts_pairs_and_halves_ties():
    assert measure_auc(LABELS, np.array([4.0, 3.0, 2.0, 1.0])) == 0.75
    assert measure_auc(LABELS, np.zeros(4)) == 0.5
    assert np.isnan(measure_auc(np.ones(4), np.arange(4.0)))


def test_average_precision_of_a_ranking_and_of_ties():
    assert measure_average_precision(LABELS, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx((1 + 2 / 3) / 2)
    assert measure_average_precision(LABELS, np.zeros(4)) == 0.5
    assert np.isnan(measure_average_precision(np.zeros(4), np.arange(4.0)))


def test_calibration_error_is_the_distance_of_score_and_rate():
    labels = np.tile([0.0, 1.0], 500)
    assert measure_calibration_error(labels, np.full(1000, 0.5)) == pytest.approx(0.0)
    assert measure_calibration_error(labels, np.full(1000, 0.8)) == pytest.approx(0.3)
    assert sum(count for count, _, _ in list_reliability(labels, np.full(1000, 0.8))) == 1000


def test_an_interval_holds_the_value_and_is_wider_for_groups_that_agree():
    generator = np.random.default_rng(0)
    labels = np.repeat(generator.integers(0, 2, 50), 10).astype(np.float64)
    scores = labels + np.repeat(generator.normal(size=50), 10)
    alone = estimate(measure_auc, labels, scores, np.arange(500))
    together = estimate(measure_auc, labels, scores, np.repeat(np.arange(50), 10))
    assert together.low < together.value < together.high
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert estimate(measure_auc, labels, scores, np.arange(500)) == alone
