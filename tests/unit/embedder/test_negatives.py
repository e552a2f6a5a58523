"""Drawn negatives: distinct, of known chances, and the same whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import ArgumentInvalid
from services.embedder.negatives import NegativeSampler

repeatable = settings(derandomize=True, deadline=None, max_examples=100)
DRAWS = 3000


@st.composite
def samplers(draw: st.DrawFn) -> tuple[int, int, list[float] | None]:
    """N, S and frequencies or None: none, equal, and some that fill strata alone."""
    labels = draw(st.integers(1, 60))
    samples = draw(st.integers(1, labels))
    counts = st.sampled_from([0.0, 1.0, 3.0, 1e3, 1e12])
    frequencies = draw(st.none() | st.lists(counts, min_size=labels, max_size=labels))
    return labels, samples, frequencies


@given(case=samplers(), seed=st.integers(0, 1000), step=st.integers(0, 10**9))
@repeatable
def test_a_draw_is_s_distinct_labels_in_order(case: tuple[int, int, list[float] | None], seed: int, step: int) -> None:
    """For any frequencies; all labels, with certainty, when as many are asked for."""
    labels, samples, frequencies = case

    drawn = NegativeSampler(labels, samples, seed=seed, frequencies=frequencies).draw(step)

    assert len(drawn.ids) == len(drawn.log_q) == samples
    assert (np.diff(drawn.ids) > 0).all()
    assert drawn.ids[0] >= 0
    assert drawn.ids[-1] < labels
    assert (drawn.log_q <= 0).all()
    if samples == labels:
        assert (drawn.log_q == 0).all()


@pytest.mark.parametrize("frequencies", [None, [1000 // (label + 1) for label in range(50)]])
def test_labels_are_drawn_as_often_as_is_said(frequencies: list[float] | None) -> None:
    """log q is the logarithm of the share of steps with the label; frequent ones are there more often."""
    sampler = NegativeSampler(50, 12, frequencies=frequencies)
    counts, said = np.zeros(50), np.full(50, np.nan)
    for step in range(DRAWS):
        drawn = sampler.draw(step)
        counts[drawn.ids] += 1
        said[drawn.ids] = np.exp(drawn.log_q)

    error = np.sqrt(said * (1 - said) / DRAWS)
    assert said.sum() == pytest.approx(12)
    assert (np.abs(counts / DRAWS - said) <= 4.5 * error).all()
    assert said[0] > 2 * said[-1] if frequencies else np.ptp(said) < 0.06


def test_the_corrected_sum_has_the_expectation_of_the_full_one() -> None:
    """sum_j exp(s_j) / q_j over the candidates, the batch's labels among them, estimates that over all labels."""
    scores = np.exp(np.random.default_rng(0).normal(size=80))
    sampler = NegativeSampler(80, 10, frequencies=np.arange(80))
    batch = np.array([70, 3, 70])

    chosen = [sampler.choose(batch, step=step, start=0, stop=80) for step in range(DRAWS)]
    estimates = np.array([(scores[each.ids] / np.exp(each.log_q)).sum() for each in chosen])

    assert abs(estimates.mean() - scores.sum()) < 4 * estimates.std() / np.sqrt(DRAWS)
    uncorrected = np.mean([scores[each.ids].sum() for each in chosen])
    assert uncorrected < 0.3 * scores.sum()


@given(case=samplers(), data=st.data())
@repeatable
def test_parts_of_the_labels_have_the_candidates_of_the_whole(
    case: tuple[int, int, list[float] | None], data: st.DataObject
) -> None:
    """The batch's labels are all there, once, with the chance 1, however the rows are cut."""
    labels, samples, frequencies = case
    sampler = NegativeSampler(labels, samples, frequencies=frequencies)
    batch = np.array(data.draw(st.lists(st.integers(0, labels - 1), max_size=9)), np.int64)
    cut = data.draw(st.integers(0, labels))

    whole = sampler.choose(batch, step=5, start=0, stop=labels)
    parts = [sampler.choose(batch, step=5, start=start, stop=stop) for start, stop in ((0, cut), (cut, labels))]

    assert np.array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
    assert np.array_equal(np.concatenate([part.log_q for part in parts]), whole.log_q)
    assert set(whole.ids) == set(batch) | set(sampler.draw(5).ids)
    assert (np.diff(whole.ids) > 0).all()
    assert (whole.log_q[np.isin(whole.ids, batch)] == 0).all()


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    """Another object draws the same, in any order of steps; another seed or step draws otherwise."""
    one, same, other = (NegativeSampler(1000, 50, seed=seed) for seed in (7, 7, 8))
    steps = [one.draw(step).ids for step in range(5)]

    assert all(np.array_equal(same.draw(step).ids, steps[step]) for step in (3, 0, 4, 1))
    assert not np.array_equal(one.draw(0).ids, one.draw(1).ids)
    assert not np.array_equal(other.draw(0).ids, one.draw(0).ids)


def test_without_the_correction_all_logits_stay() -> None:
    """What the comparison with PartialFC asks for."""
    plain = NegativeSampler(100, 5, corrected=False).choose(np.array([3]), step=0, start=0, stop=100)

    assert not plain.log_q.any()
    assert 3 in plain.ids


def test_wrong_arguments_are_refused() -> None:
    """More samples than labels, none, or frequencies that are none."""
    for samples in (0, 11):
        with pytest.raises(ArgumentInvalid, match="samples"):
            NegativeSampler(10, samples)
    for frequencies in ([1.0] * 9, [-1.0] * 10, [float("nan")] * 10):
        with pytest.raises(ArgumentInvalid, match="frequencies"):
            NegativeSampler(10, 5, frequencies=frequencies)
