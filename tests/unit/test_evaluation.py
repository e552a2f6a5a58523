"""Retrieval measures and their intervals."""

import numpy as np
import pytest

from bowerbird import evaluation


def test_rank_is_the_position_of_the_right_answer() -> None:
    """The rank counts from 0, and is K for a query whose answer is missing."""
    answers = np.array([[3, 1, 2], [0, 1, 2], [7, 8, -1]])
    assert evaluation.rank_truth(answers, np.array([2, 0, 5])).tolist() == [2, 0, 3]


def test_recall_counts_only_the_first_k() -> None:
    """A right answer at rank k (from 0) is outside the first k."""
    ranks = np.array([0, 1, 9, 10])
    assert evaluation.recall(ranks, 1).tolist() == [1, 0, 0, 0]
    assert evaluation.recall(ranks, 10).tolist() == [1, 1, 1, 0]


def test_label_precision_counts_missing_answers_as_wrong() -> None:
    """A padded answer never matches, even though -1 indexes the last label."""
    labels = np.array([0, 0, 1])
    answers = np.array([[0, 1], [2, -1]])
    assert evaluation.label_precision(answers, labels, np.array([0, 1])).tolist() == [1.0, 0.5]


def test_interval_has_the_width_of_the_normal_approximation() -> None:
    """For many independent values the percentile interval is close to mean +- 1.96 standard errors."""
    values = (np.random.default_rng(1).random(1000) < 0.4).astype(np.float64)
    estimate = evaluation.bootstrap_mean(values)
    expected = 1.96 * values.std() / np.sqrt(len(values))
    assert estimate.low < estimate.value < estimate.high
    # 2000 resamples place a 95 % bound within about 5 % of the half width
    assert (estimate.high - estimate.low) / 2 == pytest.approx(expected, rel=0.1)


def test_same_seed_gives_the_same_interval() -> None:
    """The bootstrap is repeatable, and another seed moves the bounds."""
    values = np.random.default_rng(2).random(200)
    first, again = evaluation.bootstrap_mean(values, seed=5), evaluation.bootstrap_mean(values, seed=5)
    assert first == again
    assert first != evaluation.bootstrap_mean(values, seed=6)


def test_copies_of_a_value_do_not_narrow_the_interval() -> None:
    """Ten copies of every value in one cluster give the interval of the originals."""
    values = np.random.default_rng(3).random(100)
    single = evaluation.bootstrap_mean(values)
    copied = evaluation.bootstrap_mean(np.repeat(values, 10), np.repeat(np.arange(100), 10))
    assert copied.low == pytest.approx(single.low)
    assert copied.high == pytest.approx(single.high)


def test_equal_values_give_an_interval_of_no_width() -> None:
    """All queries right is 1.0 with bounds 1.0, and one value alone is allowed."""
    assert evaluation.bootstrap_mean(np.ones(50)) == evaluation.Estimate(1.0, 1.0, 1.0)
    assert evaluation.bootstrap_mean(np.zeros(1)).interval == [0.0, 0.0]
