"""Related items by random walks on a graph of items and boards, beside the same walks in numba.

The graph: 1,000,000 items on 200,000 boards, about 10,000,000 edges. Sizes of boards are Pareto (index 1.2, cut at
10,000 times the smallest, scaled to the edges: 8 to 98,000); the popularity of an item falls as its rank^-0.6 (0 to
40,000 boards, 10 on average). A query is one item, drawn by popularity; each call takes the next of several.

Ours and the peers take the same steps, count and rank them. The peers hold a count for every item of the graph between
calls, and clear what they touched. "walker by walker" is what one writes; "64 walkers abreast" is the order of our
kernel without its prefetches, which numba does not have.

The floor: the loads of these very steps, four a step, at addresses that are all known in advance, so that as many are
under way as the core can take. It makes no random number, counts nothing and ranks nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.native import floors
from bowerbird import native

SEED = 20
ITEMS, BOARDS, EDGES = 1_000_000, 200_000, 10_000_000
STEPS, RESTART, K = 100_000, 0.5, 1000
QUERIES, QUICK_QUERIES = 32, 8
BATCH = 8
REPEATS, QUICK_REPEATS = 32, 8
ALIGNMENT, LOAD_BYTES = 64, 16
WALKER_STEPS, LANES = 128, 64
GOLDEN, HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
THRESHOLD = np.uint64(RESTART * 2**32)

Array = npt.NDArray[Any]
Graph = tuple[Array, Array, Array, Array]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One query a call on one thread; then how one query, and a batch, gain by a second thread."""
    rng = np.random.default_rng(SEED)
    memory, graph, popular = make_graph(rng)
    items = popular[rng.integers(0, len(popular), QUICK_QUERIES if quick else QUERIES)].astype(np.int64)
    repeats = QUICK_REPEATS if quick else REPEATS
    yield from measure_one(memory, graph, items, repeats)
    yield from measure_threads(graph, items, 1, repeats)
    yield from measure_threads(graph, items[:BATCH], BATCH, max(3, repeats // 4))


def make_graph(rng: np.random.Generator) -> tuple[Array, Graph, Array]:
    """The memory that holds the graph, offsets and neighbours of both sides in it, and the item of each edge."""
    sizes = np.minimum(rng.random(BOARDS) ** (-1 / 1.2), 10_000)
    boards = np.repeat(np.arange(BOARDS, dtype=np.int32), np.round(sizes * EDGES / sizes.sum()).astype(np.int64))
    ranks = (ITEMS * rng.random(len(boards)) ** (1 / (1 - 0.6))).astype(np.int64)
    items = rng.permutation(ITEMS).astype(np.int32)[ranks]
    memory, graph = allocate(len(boards))
    group(items, boards, *graph[:2])
    group(boards, items, *graph[2:])
    return memory, graph, items


def allocate(num_edges: int) -> tuple[Array, Graph]:
    """One piece of memory, and the four arrays of a graph in it."""
    wanted = ((ITEMS + 1, np.int64), (num_edges, np.int32), (BOARDS + 1, np.int64), (num_edges, np.int32))
    sizes = [-(-length * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT for length, dtype in wanted]
    starts = [0, *itertools.accumulate(sizes)]
    memory = np.zeros(starts[-1], np.uint8)
    item_offsets, item_boards, board_offsets, board_items = (
        memory[start : start + length * np.dtype(dtype).itemsize].view(dtype)
        for start, (length, dtype) in zip(starts, wanted, strict=False)
    )
    return memory, (item_offsets, item_boards, board_offsets, board_items)


@numba.njit(cache=True)
def group(rows: Array, values: Array, offsets: Array, grouped: Array) -> None:
    """Write where each row begins, and the values by row in their order."""
    for row in rows:
        offsets[row + 1] += 1
    for row in range(len(offsets) - 1):
        offsets[row + 1] += offsets[row]
    ends = offsets[:-1].copy()
    for i in range(len(rows)):
        grouped[ends[rows[i]]] = values[i]
        ends[rows[i]] += 1


@numba.njit(cache=True, inline="always")
def mix(z: Any) -> Any:
    """The finalizer of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def stream_of(item: int, walker: int) -> Any:
    """Where the random numbers of a walker begin."""
    seeded = mix(np.uint64(SEED) + GOLDEN)
    return mix((mix((seeded ^ np.uint64(item)) + GOLDEN) ^ np.uint64(walker)) + GOLDEN)


@numba.njit(cache=True, inline="always")
def choose(offsets: Array, row: int, bits: Any) -> int:
    """Index of an edge of the row, which has some: items are reached over edges that both sides hold."""
    begin = offsets[row]
    return begin + np.int64(((bits >> HALF) * np.uint64(offsets[row + 1] - begin)) >> HALF)


@numba.njit(cache=True)
def walk_one_by_one(graph: Graph, item: int, counts: Array) -> Array:
    """The items visited, counted: one walker after the other."""
    item_offsets, item_boards, board_offsets, board_items = graph
    visited = np.empty(STEPS, np.int32)
    found = 0
    for first in range(0, STEPS, WALKER_STEPS):
        stream = stream_of(item, first // WALKER_STEPS)
        here = item
        for _ in range(min(WALKER_STEPS, STEPS - first)):
            board = item_boards[choose(item_offsets, here, mix(stream + GOLDEN))]
            there = board_items[choose(board_offsets, board, mix(stream + np.uint64(2) * GOLDEN))]
            stream += np.uint64(3) * GOLDEN
            if counts[there] == 0:
                visited[found] = there
                found += 1
            counts[there] += 1
            here = item if mix(stream) >> HALF < THRESHOLD else there
    return visited[:found]


@numba.njit(cache=True)
def walk_abreast(graph: Graph, item: int, counts: Array) -> Array:
    """The items visited, counted: 64 walkers side by side, so that the processor may overlap their loads."""
    item_offsets, item_boards, board_offsets, board_items = graph
    visited = np.empty(STEPS, np.int32)
    streams, here = np.empty(LANES, np.uint64), np.empty(LANES, np.int64)
    boards, there = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    found = 0
    for first in range(0, STEPS, LANES * WALKER_STEPS):
        full, rest = divmod(min(STEPS - first, LANES * WALKER_STEPS), WALKER_STEPS)
        for lane in range(LANES):
            streams[lane] = stream_of(item, first // WALKER_STEPS + lane)
            here[lane] = item
        for turn in range(WALKER_STEPS if full > 0 else rest):
            lanes = full + (1 if turn < rest else 0)
            for lane in range(lanes):
                boards[lane] = item_boards[choose(item_offsets, here[lane], mix(streams[lane] + GOLDEN))]
            for lane in range(lanes):
                edge = choose(board_offsets, boards[lane], mix(streams[lane] + np.uint64(2) * GOLDEN))
                there[lane] = board_items[edge]
            for lane in range(lanes):
                streams[lane] += np.uint64(3) * GOLDEN
                here[lane] = item if mix(streams[lane]) >> HALF < THRESHOLD else there[lane]
            for lane in range(lanes):
                if counts[there[lane]] == 0:
                    visited[found] = there[lane]
                    found += 1
                counts[there[lane]] += 1
    return visited[:found]


@numba.njit(cache=True)
def trace(graph: Graph, item: int, starts: Array) -> Array:
    """The loads of the walk, four a step, in pieces of LOAD_BYTES of the memory that holds the graph."""
    item_offsets, item_boards, board_offsets, board_items = graph
    loads = np.empty((STEPS, 4), np.int64)
    for step in range(STEPS):
        if step % WALKER_STEPS == 0:
            stream = stream_of(item, step // WALKER_STEPS)
            here = item
        out = choose(item_offsets, here, mix(stream + GOLDEN))
        board = item_boards[out]
        back = choose(board_offsets, board, mix(stream + np.uint64(2) * GOLDEN))
        loads[step] = starts + np.array([8 * here, 4 * out, 8 * board, 4 * back])
        stream += np.uint64(3) * GOLDEN
        here = item if mix(stream) >> HALF < THRESHOLD else board_items[back]
    return loads // LOAD_BYTES


def numba_walk(walk: Callable[..., Array], graph: Graph, counts: Array, item: int) -> tuple[Array, Array]:
    """Visits and items of one walk, best first, ties keep the lower id."""
    visited = walk(graph, item, counts)
    keys = visited - (counts[visited].astype(np.int64) << 32)  # ascending: the more visits, then the lower id
    counts[visited] = 0
    keys = keys[visited != item]
    keys = np.sort(np.partition(keys, K)[:K] if len(keys) > K else keys)
    return (-(keys >> 32)).astype(np.float32), keys & 0xFFFFFFFF


def our_walk(graph: Graph, items: Array, num_threads: int = 1) -> tuple[Array, Array, Array]:
    """The walk of each of the items, a query each."""
    queries = (items, np.ones(len(items), np.float32), np.arange(len(items) + 1))
    return native.walk(*graph, *queries, K, steps=STEPS, restart=RESTART, seed=SEED, num_threads=num_threads)


def measure_one(memory: Array, graph: Graph, items: Array, repeats: int) -> list[report.Row]:
    """One thread, one query a call; every contender takes the queries in the same order."""
    counts = np.zeros(ITEMS, np.int32)
    peers = {
        "numba, walker by walker": functools.partial(numba_walk, walk_one_by_one, graph, counts),
        "numba, 64 walkers abreast": functools.partial(numba_walk, walk_abreast, graph, counts),
    }
    for item, peer in itertools.product(items[:3], peers.values()):
        scores, found, _ = our_walk(graph, np.array([item]))
        for ours, theirs in zip((scores[0], found[0]), peer(item), strict=True):
            np.testing.assert_array_equal(ours[: len(theirs)], theirs)
    starts = np.array([part.ctypes.data - memory.ctypes.data for part in graph])
    loads = itertools.cycle([trace(graph, item, starts) for item in items[:BATCH]])
    pieces = memory[: len(memory) // LOAD_BYTES * LOAD_BYTES].reshape(-1, LOAD_BYTES)
    return report.compare(
        f"walk {len(graph[1]):,} edges, {STEPS:,} steps, 1 query",
        in_turn(items, lambda item: our_walk(graph, np.array([item]))),
        {name: in_turn(items, peer) for name, peer in peers.items()},
        repeats,
        floors={"its loads, addresses known": floors.gather_read(pieces, loads)},
    )


def measure_threads(graph: Graph, items: Array, batch: int, repeats: int) -> list[report.Row]:
    """Two threads beside one; the ratio is how it scales."""
    batches = items.reshape(-1, batch)
    for mine, other in zip(our_walk(graph, batches[0], 2), our_walk(graph, batches[0]), strict=True):
        np.testing.assert_array_equal(mine, other)
    compared = report.compare(
        f"walk {len(graph[1]):,} edges, {STEPS:,} steps, {batch} {'query' if batch == 1 else 'queries'}, 2 threads",
        in_turn(batches, lambda queries: our_walk(graph, queries, 2)),
        {"ours, 1 thread": in_turn(batches, lambda queries: our_walk(graph, queries))},
        repeats,
    )
    return [row | {"threads": 2} for row in compared]


def in_turn(values: Array, function: Callable[[Any], object]) -> Callable[[], object]:
    """A function that is called with the next of the values each time."""
    endless = itertools.cycle(values)
    return lambda: function(next(endless))
