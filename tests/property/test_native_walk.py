"""The compiled random walk against the reference, and what must hold of any random walk with restart."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import native
from bowerbird.native import reference
from bowerbird.native.reference.walk import WALKER_STEPS, budgets, degree_scale
from tests.graphs import Graph, make_graph, random_graph, walks
from tests.strategies import generators, repeatable

Array = npt.NDArray[Any]
STEPS = 20_000


def one_query(*items: int) -> tuple[Array, Array, Array]:
    return np.array(items, np.int64), np.ones(len(items), np.float32), np.array([0, len(items)], np.int64)


def assert_same(ours: tuple[Array, ...], theirs: tuple[Array, ...]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


@repeatable
@given(case=walks())
def test_equals_the_reference(case: tuple[tuple[Array, ...], dict[str, Any]]) -> None:
    """Every visit is the reference's, and so are scores, order and steps, to the last bit."""
    arguments, options = case
    assert_same(native.walk(*arguments, **options), reference.walk(*arguments, **options))


@pytest.mark.parametrize("stop", [{}, {"stop_items": 40, "stop_visits": 12}])
def test_a_long_walk_equals_the_reference(stop: dict[str, int]) -> None:
    """Many groups of walkers, parts and rounds; the early stop ends the walks where the reference's end."""
    graph = random_graph(np.random.default_rng(5), 300, 100, 900)
    query = (np.array([3, 7, 7, 200, 5]), np.array([1, 2, 1, 0.5, 0], np.float32), np.array([0, 4, 5]))
    ours = native.walk(*graph, *query, 50, steps=60_000, **stop)
    assert_same(ours, reference.walk(*graph, *query, 50, steps=60_000, **stop))
    assert (ours[2][0] < 60_000) == bool(stop)


@repeatable
@given(case=walks(), num_threads=st.integers(2, 5))
def test_threads_and_batch_change_nothing(case: tuple[tuple[Array, ...], dict[str, Any]], num_threads: int) -> None:
    """The same on any number of threads, and for each query alone."""
    (*graph, queries, weights, offsets, k), options = case
    batch = native.walk(*graph, queries, weights, offsets, k, **options)
    assert_same(batch, native.walk(*graph, queries, weights, offsets, k, **options, num_threads=num_threads))
    for q, (begin, end) in enumerate(itertools.pairwise(offsets)):
        alone = (queries[begin:end], weights[begin:end], np.array([0, end - begin]), k)
        assert_same(native.walk(*graph, *alone, **options, num_threads=2), tuple(part[q : q + 1] for part in batch))


def test_the_order_of_a_querys_items_changes_nothing() -> None:
    """A query is a set with weights; an item named twice counts as one of the summed weight."""
    graph = random_graph(np.random.default_rng(6), 50, 20, 200)
    weights = np.array([1, 2, 3], np.float32)
    first = native.walk(*graph, np.array([4, 8, 2]), weights, np.array([0, 3]), 20, steps=STEPS)
    assert_same(first, native.walk(*graph, np.array([2, 4, 8]), weights[[2, 0, 1]], np.array([0, 3]), 20, steps=STEPS))
    twice = (np.array([4, 2, 8, 4]), np.array([0.25, 3, 2, 0.75], np.float32), np.array([0, 4]))
    assert_same(first, native.walk(*graph, *twice, 20, steps=STEPS))


def test_the_seed_changes_the_visits() -> None:
    """And leaves the number of steps."""
    graph = random_graph(np.random.default_rng(7), 50, 20, 200)
    first, second = (native.walk(*graph, *one_query(3), 20, steps=STEPS, seed=seed) for seed in (1, 2))
    assert first[2] == second[2] == STEPS
    assert (first[0] != second[0]).any()


@pytest.mark.parametrize(("seed", "same"), [(2**64 - 1, -1), (np.uint64(2**63), -(2**63))])
def test_a_seed_is_64_bits_signed_or_not(seed: int, same: int) -> None:
    """Seeds that are hashes, unsigned, are taken like those that are int64."""
    graph = random_graph(np.random.default_rng(7), 50, 20, 200)
    ours = native.walk(*graph, *one_query(3), 20, steps=STEPS, seed=seed)
    assert_same(ours, native.walk(*graph, *one_query(3), 20, steps=STEPS, seed=same))
    assert_same(ours, reference.walk(*graph, *one_query(3), 20, steps=STEPS, seed=int(seed)))


def expected_visits(
    graph: Graph, start: int, steps: int, restart: float, weights: tuple[Array, Array] | None = None
) -> Array:
    """Visits of each item by power iteration of the walk's kernel, walkers of 128 steps."""
    items, boards = (transition(*side, weights and weights[i]) for i, side in enumerate((graph[:2], graph[2:])))
    step = (items @ boards).T
    visits, here = np.zeros(len(graph[0]) - 1), np.zeros(len(graph[0]) - 1)
    for i in range(steps):
        if i % WALKER_STEPS == 0:
            here[:] = 0
            here[start] = 1
        there = step @ here
        visits += there
        here = (1 - restart) * there
        here[start] += 1 - here.sum()
    return visits


def transition(offsets: Array, neighbours: Array, weights: Array | None) -> Array:
    """Probability of each neighbour, dense; as wide as the largest id."""
    matrix = np.zeros((len(offsets) - 1, 1000))
    weights = np.ones(len(neighbours)) if weights is None else weights.astype(np.float64)
    for row, (begin, end) in enumerate(itertools.pairwise(offsets)):
        np.add.at(matrix[row], neighbours[begin:end], weights[begin:end] / max(weights[begin:end].sum(), 1e-30))
    return matrix[:, : max(neighbours, default=0) + 1]


SIX = make_graph(np.array([0, 0, 1, 1, 2, 3, 3, 4, 4, 5]), np.array([0, 1, 0, 2, 1, 1, 2, 2, 3, 3]), 6, 4)
"""Six items on four boards."""


def count_all(graph: Graph, start: int, steps: int, **options: Any) -> Array:
    """Visits of every item but the start."""
    scores, items, _ = native.walk(*graph, *one_query(start), len(graph[0]), steps=steps, **options)
    visits = np.zeros(len(graph[0]) - 1)
    visits[items[items >= 0]] = scores[items >= 0]
    return visits


@pytest.mark.parametrize("restart", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("biased", [False, True])
def test_visits_are_those_of_power_iteration(restart: float, biased: bool) -> None:
    """On six items, the mean visits of many seeds are the expected ones, within five standard errors."""
    rng = np.random.default_rng(8)
    weights = (rng.random(10).astype(np.float32), rng.random(10).astype(np.float32)) if biased else None
    options: dict[str, Any] = {"restart": restart}
    if weights is not None:
        options |= {"item_bias": native.bias_table(*SIX[:2], weights[0])}
        options |= {"board_bias": native.bias_table(*SIX[2:], weights[1])}
    steps, seeds = 1000, 400
    counted = np.array([count_all(SIX, 1, steps, seed=seed, **options) for seed in range(seeds)])
    expected = expected_visits(SIX, 1, steps, restart, weights)
    expected[1] = 0
    error = counted.std(axis=0) / np.sqrt(seeds)
    assert (np.abs(counted.mean(axis=0) - expected) <= 5 * error).all()
    assert expected.sum() > 300


def test_ranks_are_those_of_personalised_pagerank() -> None:
    """On 300 items, visits and the stationary distribution of the restarting walk agree in order (Spearman > 0.9)."""
    graph = random_graph(np.random.default_rng(9), 300, 100, 1500)
    step = (transition(*graph[:2], None) @ transition(*graph[2:], None)).T
    rank = np.zeros(300)
    for _ in range(200):
        rank = step @ (0.5 * rank + 0.5 * (np.arange(300) == 17))
    rank[17] = 0
    visits = count_all(graph, 17, 300_000)
    places = [np.argsort(np.argsort(values)) for values in (visits, rank)]
    assert np.corrcoef(*places)[0, 1] > 0.9


def test_budgets_sum_to_the_steps() -> None:
    """Whatever the weights and degrees; and no item of the highest degree goes without."""
    rng = np.random.default_rng(10)
    for steps in (1, 99, 100_000):
        wanted = {int(item): float(weight) for item, weight in zip(rng.permutation(40), rng.random(40), strict=True)}
        degrees = rng.integers(0, 50, 40)
        split = budgets(wanted, degrees, int(degrees.max()), steps)
        assert sum(split.values()) == steps
        assert all(n == 0 for item, n in split.items() if degrees[item] == 0)
    assert budgets({0: 1.0, 1: 1.0}, np.array([7, 7]), 7, 100) == {0: 50, 1: 50}


def test_the_scale_of_a_degree_is_pixies() -> None:
    """s = d (1 + ln D - ln d): exact to the third digit, rising with the degree."""
    degrees = np.array([1, 2, 3, 10, 1000, 39_832])
    scales = np.array([degree_scale(int(d), 39_832) for d in degrees]) / 1477
    np.testing.assert_allclose(scales, degrees * (1 + np.log(39_832) - np.log(degrees)), rtol=3e-3)
    assert degree_scale(1, 1) > 0


def test_several_items_add_up_as_pixie_says() -> None:
    """With boost (sum of roots)^2, without it the sum, of the walks of the items alone with their budgets."""
    graph = random_graph(np.random.default_rng(11), 40, 15, 200)
    split = budgets({3: 1.0, 9: 1.0}, np.diff(graph[0]), int(np.diff(graph[0]).max()), STEPS)
    alone = [count_all(graph, item, steps) for item, steps in split.items()]
    for boost, expected in ((True, (np.sqrt(alone[0]) + np.sqrt(alone[1])) ** 2), (False, alone[0] + alone[1])):
        scores, items, _ = native.walk(*graph, *one_query(3, 9), 38, steps=STEPS, boost=boost)
        found = items[0][items[0] >= 0]
        assert set(found) == set(np.flatnonzero(expected)) - {3, 9}
        np.testing.assert_allclose(scores[0, : len(found)], expected[found], rtol=1e-6)  # one rounding to float32


def test_an_early_stop_ends_at_the_first_check_that_holds() -> None:
    """Steps are a multiple of 8192; without reaching the target they are all taken; visits are a prefix's."""
    graph = random_graph(np.random.default_rng(12), 300, 100, 900)
    scores, items, steps = native.walk(*graph, *one_query(5), 300, steps=100_000, stop_items=60, stop_visits=50)
    assert steps[0] % 8192 == 0
    assert 0 < steps[0] < 100_000
    assert (scores[0] >= 50).sum() >= 59  # the query item itself is one of the 60, and is left out
    prefix = native.walk(*graph, *one_query(5), 300, steps=int(steps[0]))
    assert_same((scores, items), prefix[:2])
    earlier = native.walk(*graph, *one_query(5), 300, steps=int(steps[0]) - 8192)
    assert (earlier[0] >= 50).sum() < 60
    assert native.walk(*graph, *one_query(5), 9, steps=20_000, stop_items=301, stop_visits=1)[2] == 20_000


def test_dead_ends_return_to_the_query_item() -> None:
    """Steps to an item without boards, or a board without items, count as steps; the rest is still walked."""
    item_offsets, item_boards = np.array([0, 2, 2, 3]), np.array([0, 1, 0], np.int32)
    board_offsets, board_items = np.array([0, 3, 3]), np.array([0, 1, 2], np.int32)
    graph = (item_offsets, item_boards, board_offsets, board_items)
    scores, items, steps = native.walk(*graph, *one_query(0), 3, steps=STEPS, restart=0.2)
    assert steps[0] == STEPS
    assert sorted(items[0, :2]) == [1, 2]
    assert 0.1 * STEPS < scores[0, 1] < STEPS / 2
    scores, items, steps = native.walk(*graph, *one_query(1), 3)
    assert (scores[0].tolist(), items[0].tolist(), steps[0]) == ([0, 0, 0], [-1, -1, -1], 0)


@repeatable
@given(rng=generators(), num_threads=st.integers(1, 3))
def test_a_bias_table_stands_for_the_weights(rng: np.random.Generator, num_threads: int) -> None:
    """The probabilities of a row's neighbours, added up over its slots, are the weights' shares to within 2^-31."""
    graph = random_graph(rng, 6000, 40, int(rng.choice([0, 5, 20_000])))[:2]
    weights = rng.choice(np.array([0, 1e-30, 0.1, 1, 7, 1e30], np.float32), len(graph[1]))
    table = native.bias_table(*graph, weights, num_threads=num_threads)
    assert table.shape == (len(weights), 3)
    np.testing.assert_array_equal(table, reference.bias_table(*graph, weights))
    threshold, own, alias = table.T
    np.testing.assert_array_equal(own, graph[1])
    degrees = np.diff(graph[0])
    row = np.repeat(np.arange(6000), degrees)
    drawn, wanted = np.zeros((6000, 40)), np.zeros((6000, 40))
    np.add.at(drawn, (row, own), threshold / 2**31)
    np.add.at(drawn, (row, alias), 1 - threshold / 2**31)
    totals = np.bincount(row, weights, 6000)
    np.add.at(wanted, (row, own), np.where(totals[row] > 0, weights, 1))
    shares = wanted / np.maximum(wanted.sum(axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(drawn, shares * degrees[:, None], rtol=0, atol=1e-7)
    assert (drawn[wanted == 0] == 0).all()


def test_draws_follow_the_weights() -> None:
    """Chi-square of a star's 20 boards, one item each, at 19 degrees of freedom: below the 99.9 % point."""
    weights = np.arange(1, 21, dtype=np.float32)
    star = make_graph(np.array([0] * 20 + list(range(1, 21))), np.array([*range(20), *range(20)]), 21, 20)
    star = (*star[:2], np.arange(21), np.arange(1, 21, dtype=np.int32))
    edges = np.concatenate([weights, np.ones(20, np.float32)])
    visits = count_all(star, 0, 210_000, restart=1.0, item_bias=native.bias_table(*star[:2], edges))[1:]
    expected = 210_000 * weights / weights.sum()
    assert visits.sum() == 210_000
    assert ((visits - expected) ** 2 / expected).sum() < 43.8
    assert ((visits - 10_500) ** 2 / 10_500).sum() > 1000  # without the weights it would not pass


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"item_offsets": np.array([0, 5, 3])},
            "item_offsets: expected values that ascend from 0 to 3, got 0 and 5 at",
        ),
        ({"item_offsets": np.array([-1, 2, 3])}, "item_offsets: expected values that ascend from 0 to 3, got -1 and"),
        ({"item_boards": np.array([0, 2, 1], np.int32)}, "item_boards: expected ids from 0 to below 2, got 2"),
        ({"item_boards": np.array([0, -1, 1], np.int32)}, "item_boards: expected ids from 0 to below 2, got -1"),
        ({"board_offsets": np.array([0, 9, 3])}, "board_offsets: expected values that ascend from 0 to 3"),
        ({"board_items": np.array([0, 1, 7], np.int32)}, "board_items: expected ids from 0 to below 2, got 7"),
        ({"item_bias": np.full((3, 3), 9, np.int32)}, "item_bias: expected ids from 0 to below 2, got 9"),
        ({"board_bias": np.full((3, 3), -9, np.int32)}, "board_bias: expected ids from 0 to below 2, got -9"),
    ],
)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_step_out_of_the_graph_is_refused(changed: dict[str, Array], message: str, num_threads: int) -> None:
    """What a step meets is checked: the error names the array."""
    graph = {"item_offsets": np.array([0, 2, 3]), "item_boards": np.array([0, 1, 1], np.int32)}
    graph |= {"board_offsets": np.array([0, 1, 3]), "board_items": np.array([0, 1, 0], np.int32)}
    queries = dict(zip(("queries", "weights", "offsets"), one_query(0), strict=True))
    native.walk(**graph, **queries, k=2, steps=STEPS)
    with pytest.raises(ValueError, match=message):
        native.walk(**(graph | queries | changed), k=2, steps=STEPS, num_threads=num_threads)
