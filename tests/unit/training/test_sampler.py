"""Samplers: every picture as often as promised, the same for every world size, resumable at any step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import ArgumentInvalid
from bowerbird.training.sampler import (
    ClassBalancedSampler,
    MixtureSampler,
    RepeatSampler,
    ShuffledSampler,
    SubsetSampler,
    repeat_factors,
)

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def take(sampler, first, last):
    return np.concatenate([sampler.batch(step) for step in range(first, last)])


@st.composite
def samplers(draw):
    """Any sampler, with a batch that 1, 2, 3 and 4 ranks can share."""
    size, seed, batch = draw(st.integers(1, 200)), draw(st.integers(0, 99)), 12 * draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    classes = rng.integers(-1, draw(st.integers(1, 30)), size)
    classes[0] = 0
    kinds = [
        ShuffledSampler(size, batch, seed),
        ClassBalancedSampler(classes, batch // 3, 3, seed),
        RepeatSampler(rng.uniform(0, 4, size) + 0.01, batch, seed),
        SubsetSampler(np.arange(size) * 2, ShuffledSampler(size, batch, seed)),
    ]
    return draw(st.sampled_from([*kinds, MixtureSampler(kinds)]))


@repeatable
@given(sampler=samplers(), step=st.integers(0, 10**6), world_size=st.sampled_from([2, 3, 4]))
def test_the_union_over_ranks_depends_on_the_step_alone(sampler, step, world_size):
    ranks = [sampler.batch(step, rank, world_size) for rank in range(world_size)]
    assert {len(rows) for rows in ranks} == {sampler.batch_size // world_size}
    assert Counter(np.concatenate(ranks).tolist()) == Counter(sampler.batch(step).tolist())


@repeatable
@given(sampler=samplers(), step=st.integers(0, 50))
def test_a_step_asked_for_first_is_the_same_as_one_reached_in_order(sampler, step):
    resumed = sampler.batch(step)
    in_order = [sampler.batch(earlier) for earlier in range(step + 1)]
    assert (in_order[-1] == resumed).all()


@repeatable
@given(size=st.integers(1, 300), batch=st.integers(1, 70), seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_every_row_comes_once_an_epoch(size, batch, seed, epoch):
    stream = take(ShuffledSampler(size, batch, seed), 0, -(-(epoch + 1) * size // batch))
    assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


@repeatable
@given(size=st.integers(1, 300), batch=st.integers(1, 70), step=st.integers(0, 99))
def test_steps_per_epoch_and_epoch_of_agree_with_the_stream(size, batch, step):
    sampler = ShuffledSampler(size, batch)
    assert len(set(take(sampler, 0, sampler.steps_per_epoch).tolist())) == size
    assert sampler.epoch_of(step) == step * batch // size


def test_resuming_with_another_world_size_sees_the_rest_of_the_epoch():
    sampler = ShuffledSampler(240, 24, seed=3)
    before = [sampler.batch(step, rank, 2) for step in range(4) for rank in range(2)]
    after = [sampler.batch(step, rank, 3) for step in range(4, 10) for rank in range(3)]
    assert sorted(np.concatenate(before + after)) == list(range(240))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(take(ShuffledSampler(50, 10, seed), 5 * epoch, 5 * epoch + 5)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_a_batch_larger_than_the_table_holds_whole_epochs():
    assert Counter(ShuffledSampler(3, 10).batch(0).tolist()).most_common()[-1][1] == 3


@repeatable
@given(seed=st.integers(0, 99), per_class=st.integers(1, 4), num_classes=st.integers(1, 20))
def test_classes_take_turns_and_so_do_their_pictures(seed, per_class, num_classes):
    rng = np.random.default_rng(seed)
    classes = np.concatenate([np.arange(num_classes), rng.integers(-1, num_classes, 60)])
    rng.shuffle(classes)
    sampler = ClassBalancedSampler(classes, 5, per_class, seed)
    turns = 12
    rows = take(sampler, 0, -(-turns * num_classes // 5))[: turns * num_classes * per_class]
    drawn = classes[rows].reshape(turns, num_classes, per_class)
    assert (drawn == drawn[:, :, :1]).all()  # pictures of one class side by side
    assert all(sorted(turn[:, 0]) == list(range(num_classes)) for turn in drawn)
    uses = Counter(rows.tolist())
    for label in range(num_classes):
        counts = [uses[row] for row in np.flatnonzero(classes == label)]
        assert max(counts) - min(counts) <= 1


def test_a_class_with_one_picture_repeats_it_and_pictures_without_a_class_never_come():
    sampler = ClassBalancedSampler([-1, 4, 9, 9, -1], classes_per_batch=2, per_class=2)
    for step in range(20):
        assert sorted(sampler.batch(step)) == [1, 1, 2, 3]


def test_fewer_classes_than_asked_fill_the_batch_by_repeating():
    rows = ClassBalancedSampler([0, 0, 1, 1], classes_per_batch=5, per_class=1).batch(0)
    assert len(rows) == 5
    assert {0, 1} <= {int(row) // 2 for row in rows}


def test_a_class_missing_from_a_rank_is_with_another():
    classes = np.arange(8)
    sampler = ClassBalancedSampler(classes, classes_per_batch=8, per_class=1)
    first, second = (set(sampler.batch(0, rank, 2).tolist()) for rank in range(2))
    assert not first & second
    assert first | second == set(range(8))


def test_rare_classes_come_as_often_as_frequent_ones():
    classes = np.array([0] * 990 + [1] * 10)
    rows = take(ClassBalancedSampler(classes, 2, 3), 0, 50)
    assert Counter(classes[rows].tolist()) == {0: 150, 1: 150}


@repeatable
@given(seed=st.integers(0, 99), size=st.integers(1, 60), batch=st.integers(1, 30))
def test_copies_an_epoch_are_the_factor_rounded_either_way(seed, size, batch):
    factors = np.random.default_rng(seed).choice([0.0, 0.3, 1.0, 1.5, 2.25, 7.0], size)
    factors[0] = 1
    sampler = RepeatSampler(factors, batch, seed)
    assert sampler.size == max(round(factors.sum()), 1)
    scaled = factors * sampler.size / factors.sum()
    stream = take(sampler, 0, -(-3 * sampler.size // batch))
    for epoch in range(3):
        counts = np.bincount(stream[epoch * sampler.size : (epoch + 1) * sampler.size], minlength=size)
        assert (counts >= np.floor(scaled - 1e-9)).all() and (counts <= np.ceil(scaled + 1e-9)).all()


def test_copies_over_many_epochs_approach_the_factor():
    factors = np.array([1.0, 1.3, 2.5, 0.2, 0.0])  # 5 an epoch
    sampler = RepeatSampler(factors, 5, seed=1)
    counts = np.bincount(take(sampler, 0, 4000), minlength=5) / 4000
    assert np.abs(counts - factors).max() < 0.03
    assert counts[4] == 0


def test_repeat_factors_lift_the_rarest_label_of_a_picture():
    labels = [["a", "b"], ["a"], ["a"], ["a", "a"], [], ["b"], ["a"], ["a"]]  # a in 6 of 8, b in 2 of 8
    factors = repeat_factors(labels, threshold=0.5)
    assert factors == pytest.approx([2**0.5, 1, 1, 1, 1, 2**0.5, 1, 1])


def test_a_mixture_has_equal_shares_on_every_rank_and_the_largest_set_defines_the_epoch():
    small = SubsetSampler(np.arange(1000, 1010), ShuffledSampler(10, 8))
    sampler = MixtureSampler([ShuffledSampler(100, 8), small])
    assert (sampler.batch_size, sampler.steps_per_epoch) == (16, 13)
    for rank in range(4):
        rows = sampler.batch(5, rank, 4)
        assert (rows >= 1000).tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ShuffledSampler(0, 4), "size: expected at least 1"),
        (lambda: ShuffledSampler(4, 0), "batch_size"),
        (lambda: ShuffledSampler(4, 4).batch(-1), "step"),
        (lambda: ShuffledSampler(4, 4).batch(0, 2, 2), "rank: expected 0 to 1, got 2"),
        (lambda: ShuffledSampler(4, 4).batch(0, 0, 3), "divisor of the batch of 4"),
        (lambda: ClassBalancedSampler([-1, -1], 2, 2), "expected a class for some of the 2"),
        (lambda: ClassBalancedSampler([0], 2, 0), "per_class"),
        (lambda: RepeatSampler([1.0, -1.0], 2), "factors"),
        (lambda: RepeatSampler([0.0], 2), "factors"),
        (lambda: RepeatSampler([float("nan")], 2), "factors"),
        (lambda: MixtureSampler([]), "equal shares"),
        (lambda: MixtureSampler([ShuffledSampler(4, 4), ShuffledSampler(4, 2)]), r"\[4, 2\]"),
        (lambda: repeat_factors([["a"]], 0), "threshold"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ArgumentInvalid, match=words):
        call()
