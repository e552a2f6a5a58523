"""Draws without state are uniform, differ by counter, and permute any domain one to one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.training.draws import mix, permute, uniform

repeatable = settings(derandomize=True, deadline=None, max_examples=60)
KEYS = 20_000


def z_of_chi_square(observed, expected, freedom):
    return (((observed - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


@repeatable
@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_one_to_one(size, key):
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


@repeatable
@given(size=st.integers(2**40, 2**53), key=st.integers(0, 2**64 - 1), start=st.integers(0, 2**40 - 100))
def test_permute_of_a_domain_too_large_for_memory(size, key, start):
    places = permute(np.arange(start, start + 100), size, key)
    assert len(set(places.tolist())) == 100
    assert places.min() >= 0 and places.max() < size


def test_permute_broadcasts_over_sizes_and_keys():
    sizes, keys = np.array([3, 1, 50]), mix(7, np.arange(3))
    together = permute([[2], [0], [0]], sizes[:, None], keys[:, None])
    assert together.shape == (3, 1)
    assert together.ravel().tolist() == [int(permute(p, s, k)) for p, s, k in zip([2, 0, 0], sizes, keys, strict=True)]


@pytest.mark.parametrize("size", [2, 3, 5, 7, 10, 30])
def test_every_element_comes_equally_often_at_every_position_and_after_every_other(size):
    drawn = permute(np.tile(np.arange(size), (KEYS, 1)), size, mix(1, np.arange(KEYS))[:, None])
    places = np.stack([np.bincount(column, minlength=size) for column in drawn.T])
    assert abs(z_of_chi_square(places, KEYS / size, (size - 1) ** 2)) < 5
    pairs = np.zeros((size, size))
    np.add.at(pairs, (drawn[:, 0], drawn[:, 1]), 1)
    pairs = pairs[~np.eye(size, dtype=bool)]
    assert abs(z_of_chi_square(pairs, KEYS / len(pairs), len(pairs) - 1)) < 5


def test_uniform_fills_the_unit_interval_evenly_whatever_counter_moves():
    for draws in (uniform(np.arange(KEYS)), uniform(5, np.arange(KEYS)), uniform(np.arange(KEYS), 5)):
        assert draws.min() >= 0 and draws.max() < 1
        assert abs(z_of_chi_square(np.histogram(draws, 100, (0, 1))[0], KEYS / 100, 99)) < 5


def test_mix_tells_counters_and_their_order_apart():
    words = {int(mix(*counters)) for counters in [(1, 2), (2, 1), (1,), (2,), (1, 2, 0), (0, 1, 2), (-1, 2), (1, -2)]}
    assert len(words) == 8


def test_mix_never_changes_since_runs_are_resumed_by_later_versions():
    assert int(mix(0)) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 with seed 0
