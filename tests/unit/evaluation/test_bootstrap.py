"""Bootstrap intervals: their width, what they hold constant, and comparisons."""

import numpy as np
import pytest

from bowerbird import evaluation
from bowerbird.evaluation import Sample


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


def test_unequal_clusters_count_by_their_queries() -> None:
    """The mean is over queries: a concept in nine pairs weighs nine times one in one pair."""
    sample = Sample.of(np.array([1.0] * 9 + [0.0]), np.array([0] * 9 + [1]))
    assert sample.mean == pytest.approx(0.9)
    estimate = evaluation.estimate_sample(sample)
    assert (estimate.low, estimate.high) == (0.0, 1.0)  # only one of the two clusters is drawn half of the times


def test_seeds_widen_the_interval() -> None:
    """Three trainings that differ make the mean less sure than one of them would say."""
    generator, clusters = np.random.default_rng(0), np.arange(500)
    values = generator.random(500)
    one = Sample.of(values, clusters)
    many = Sample.stack([Sample.of(values + shift, clusters) for shift in (-0.2, 0.0, 0.2)])
    assert many.mean == pytest.approx(one.mean)
    assert many.seed_means == pytest.approx([one.mean - 0.2, one.mean, one.mean + 0.2])
    narrow, wide = evaluation.estimate_sample(one), evaluation.estimate_sample(many)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    """A model that is better by 0.1 on every concept is better by exactly 0.1, however much concepts differ."""
    values, clusters = np.random.default_rng(4).random(300), np.arange(300)
    before, after = Sample.of(values, clusters), Sample.of(values + 0.1, clusters)
    compared = evaluation.compare_samples(before, after)
    assert compared.difference.interval == [0.1, 0.1]
    assert compared.gain.value == pytest.approx(0.1 / values.mean())
    assert compared.gain.low < compared.gain.value < compared.gain.high
    alone = evaluation.estimate_sample(after)
    assert alone.high - alone.low > 0.05


def test_a_model_compared_with_itself_gains_nothing() -> None:
    """Both bounds are 0 with one seed; no relative gain over a baseline that never hits."""
    sample = Sample.of(np.random.default_rng(5).random(50), np.arange(50))
    assert evaluation.compare_samples(sample, sample).difference == evaluation.Estimate(0.0, 0.0, 0.0)
    nothing = Sample.of(np.zeros(50), np.arange(50))
    assert np.isnan(evaluation.compare_samples(nothing, sample).gain.value)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 intervals from clustered draws about 95 % hold the mean they were drawn from."""
    generator, held = np.random.default_rng(6), 0
    for number in range(200):
        rates = generator.beta(2, 3, 80)  # mean 0.4
        values = (generator.random((80, 5)) < rates[:, None]).astype(np.float64)
        clusters = np.repeat(np.arange(80), 5)
        estimate = evaluation.bootstrap_mean(values.ravel(), clusters, resamples=400, seed=number)
        held += estimate.low <= 0.4 <= estimate.high
    assert 0.89 * 200 <= held <= 0.99 * 200  # 95 % +- 3 standard errors of 200 draws, and a bit for few clusters
