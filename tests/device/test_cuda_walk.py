"""The random walk on a device against the host's, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from tests.device_arrays import in_every_order, needs_device, to_device, to_host
from tests.graphs import random_graph, walks
from tests.strategies import generators, repeatable

Array = npt.NDArray[Any]

pytestmark = needs_device


def assert_same(ours: tuple[Array, ...], theirs: tuple[Array, ...]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


def on_device(arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Array, ...]:
    """The walk on the device, results copied back."""
    (*arrays, k) = arguments
    moved = {name: to_device(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}
    return tuple(to_host(part) for part in native.walk(*map(to_device, arrays), k, **moved))


@in_every_order
@repeatable
@given(case=walks())
def test_a_device_gives_what_the_host_does(case: tuple[tuple[Array, ...], dict[str, Any]]) -> None:
    """Scores, order and steps to the last bit, in whatever order threads run."""
    arguments, options = case
    assert_same(on_device(arguments, options), native.walk(*arguments, **options))


@pytest.mark.parametrize("stop", [{}, {"stop_items": 40, "stop_visits": 12}])
def test_a_device_walks_long_and_stops_early(stop: dict[str, int]) -> None:
    """Several rounds and a batch of queries; more results than are sorted in shared memory."""
    graph = random_graph(np.random.default_rng(5), 9000 if not stop else 300, 100, 20_000)
    query = (np.array([3, 7, 7, 200, 5]), np.array([1, 2, 1, 0.5, 0], np.float32), np.array([0, 4, 4, 5]))
    options = {"steps": 30_000, **stop}
    assert_same(on_device((*graph, *query, 5000), options), native.walk(*graph, *query, 5000, **options))


@repeatable
@given(rng=generators())
def test_a_device_survives_any_values(rng: np.random.Generator) -> None:
    """Offsets, ids and weights out of range: nothing is read or written out of place, and results stay in range."""
    wild = np.array([-(2**63), -1, 0, 1, 2, 3, 5, 2**31, 2**62])
    graph = random_graph(rng, 9, 5, 30)
    arrays = [*graph, rng.integers(0, 9, 6), rng.random(6).astype(np.float32), np.array([0, 2, 2, 6])]
    for array in arrays:
        if rng.random() < 0.4:
            values = wild if array.dtype.kind == "i" else np.array([np.nan, -1, np.inf, -np.inf, 0])
            array[rng.integers(array.size)] = rng.choice(values).astype(array.dtype)
    scores, items, steps = on_device((*arrays, 8), {"steps": 500})
    assert ((items >= -1) & (items < 9)).all()
    assert ((scores > 0) == (items >= 0)).all()
    assert ((steps >= 0) & (steps <= 500)).all()


@pytest.mark.parametrize("offsets", [[0, 2, 5], [1, 2, 6], [0, 4, 2, 6], [0, 7]])
def test_queries_on_a_device_are_empty_unless_their_offsets_cover_all_items(offsets: list[int]) -> None:
    """What the host refuses takes no step: a query left out of the offsets is not passed over in silence."""
    graph = random_graph(np.random.default_rng(5), 9, 5, 30)
    query = (np.arange(6), np.ones(6, np.float32), np.array(offsets))
    with pytest.raises(ValueError, match="offsets: expected values that ascend from 0 to 6"):
        native.walk(*graph, *query, 8, steps=500)
    scores, items, steps = on_device((*graph, *query, 8), {"steps": 500})
    assert (scores == 0).all()
    assert (items == -1).all()
    assert (steps == 0).all()
