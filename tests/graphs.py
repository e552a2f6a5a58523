"""Graphs of items and boards for the tests of random walks, and arguments of whole calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from bowerbird import native
from tests.strategies import generators

Array = npt.NDArray[Any]
Graph = tuple[Array, Array, Array, Array]


def make_graph(items: Array, boards: Array, num_items: int, num_boards: int) -> Graph:
    """CSR of both sides out of edge lists."""
    return (*group(items, boards, num_items), *group(boards, items, num_boards))


def group(rows: Array, values: Array, count: int) -> tuple[Array, Array]:
    order = np.argsort(rows, kind="stable")
    return np.searchsorted(rows[order], np.arange(count + 1)).astype(np.int64), values[order].astype(np.int32)


def random_graph(rng: np.random.Generator, num_items: int, num_boards: int, num_edges: int) -> Graph:
    items, boards = rng.integers(0, num_items, num_edges), rng.integers(0, num_boards, num_edges)
    return make_graph(items, boards, num_items, num_boards)


@st.composite
def walks(draw: st.DrawFn) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Arguments and options: graphs with empty rows on either side, queries with repeats, nothing, and weights 0."""
    rng = draw(generators())
    num_items, num_boards = draw(st.sampled_from([1, 2, 9, 60])), draw(st.sampled_from([1, 3, 20]))
    num_edges = draw(st.sampled_from([0, 1, 4, 50, 300]))
    graph = random_graph(rng, num_items, num_boards, num_edges)
    if draw(st.booleans()):  # the two sides need not agree
        graph = (*graph[:2], *random_graph(rng, num_items, num_boards, draw(st.sampled_from([0, 3, 50])))[2:])
    lengths = rng.integers(0, draw(st.sampled_from([2, 6, 40])), draw(st.integers(0, 4)))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    queries = rng.integers(0, num_items, offsets[-1])
    weights = rng.choice(np.array([0, 0.5, 1, 3.25], np.float32), offsets[-1])
    options = {
        "steps": draw(st.sampled_from([1, 5, 127, 128, 129, 1000, 2000])),
        "restart": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        "seed": draw(st.sampled_from([0, 1, -1, 2**63 - 1])),
        "boost": draw(st.booleans()),
        "max_degree": draw(st.sampled_from([None, 1, 1000])),
    }
    if draw(st.booleans()):
        values = np.array([0, 0, 1, 2.5], np.float32)
        options["item_bias"] = native.bias_table(*graph[:2], rng.choice(values, len(graph[1])))
        options["board_bias"] = native.bias_table(*graph[2:], rng.choice(values, len(graph[3])))
    return (*graph, queries, weights, offsets, draw(st.sampled_from([1, 4, 100]))), options
