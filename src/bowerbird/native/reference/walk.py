"""Random walks, one step after the other, on unbounded integers.

The random numbers, which every version shares (all sums and products modulo 2^64, G = 0x9E3779B97F4A7C15):

    mix(z):   z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;  z = (z ^ z >> 27) * 0x94D049BB133111EB;  z ^ z >> 31
    fold(h, v) = mix((h ^ v) + G)
    stream of a walker = fold(fold(fold(0, seed), query item), number of the walker in its walk)
    draw d (1: board, 2: item, 3: restart) of the walker's step i = mix(stream + (3 i + d) G)

A draw's high 32 bits h choose slot h * degree >> 32, or restart if h < floor(restart * 2^32); its low 31 bits are the
coin of a biased choice.

Legend: Q queries, k results a query.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Edges = tuple[Array, Array, Array | None]  # offsets, neighbours, bias

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
WALKER_STEPS = 128
CHECK_STEPS = 64 * WALKER_STEPS


def walk(
    item_offsets: Array,
    item_boards: Array,
    board_offsets: Array,
    board_items: Array,
    queries: Array,
    weights: Array,
    offsets: Array,
    k: int,
    *,
    steps: int = 100_000,
    restart: float = 0.5,
    seed: int = 0,
    item_bias: Array | None = None,
    board_bias: Array | None = None,
    stop_items: int = 0,
    stop_visits: int = 0,
    boost: bool = True,
    max_degree: int | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Scores (Q, k) float32, items (Q, k) int64 and steps taken (Q,) int64; see `bowerbird.native.walk`."""
    del num_threads  # one is enough for an oracle
    count = len(offsets) - 1
    scores, items = np.zeros((count, k), np.float32), np.full((count, k), -1, np.int64)
    steps_taken = np.zeros(count, np.int64)
    degrees = np.diff(item_offsets)
    largest = max_degree or max(degrees, default=0)
    for q in range(count):
        wanted: dict[int, float] = defaultdict(float)
        for t in range(offsets[q], offsets[q + 1]):
            wanted[int(queries[t])] += float(weights[t])
        sums: Counter[int] = Counter()
        for item, budget in budgets(wanted, degrees, int(largest), steps).items():
            path = walk_from(item, budget, seed, restart, (item_offsets, item_boards, item_bias),
                             (board_offsets, board_items, board_bias))  # fmt: skip
            visits, taken = count_visits(path, stop_items, stop_visits)
            steps_taken[q] += taken
            for visited, n in visits.items():
                sums[visited] += int(math.sqrt(n) * 2**32) if boost else n
        ranked = [(-np.float32((root / 2**32) ** 2 if boost else root), item) for item, root in sums.items()]
        best = sorted(entry for entry in ranked if entry[1] not in wanted)[:k]
        scores[q, : len(best)] = [-score for score, _ in best]
        items[q, : len(best)] = [item for _, item in best]
    return scores, items, steps_taken


def bias_table(offsets: Array, neighbours: Array, weights: Array, *, num_threads: int = 1) -> npt.NDArray[np.int32]:
    """Alias tables (E, 3) int32 by Vose's construction; see `bowerbird.native.bias_table`."""
    del num_threads
    table = np.stack([np.full(len(neighbours), 2**31 - 1), neighbours, neighbours], axis=1).astype(np.int32)
    for begin, end in itertools.pairwise(offsets.tolist()):
        row = [float(weight) for weight in weights[begin:end]]
        total = sum_in_order(row)
        if total == 0:
            continue
        shares = [weight * ((end - begin) / total) for weight in row]
        small = [i for i, share in enumerate(shares) if share < 1]
        large = [i for i, share in enumerate(shares) if share >= 1]
        while small and large:
            low, high = small.pop(), large[-1]
            table[begin + low] = int(shares[low] * (2**31 - 1) + 0.5), neighbours[begin + low], neighbours[begin + high]
            shares[high] -= 1 - shares[low]
            if shares[high] < 1:
                small.append(large.pop())
        for i in small:
            if row[i] == 0:  # left by rounding alone
                table[begin + i] = 0, neighbours[begin + i], neighbours[begin + row.index(max(row))]
    return table


def sum_in_order(values: Iterable[float]) -> float:
    """The sum from left to right, rounded at each step; `sum` is more exact from Python 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total


def budgets(wanted: dict[int, float], degrees: Array, max_degree: int, steps: int) -> dict[int, int]:
    """The steps of each item of a query: the weights are scaled by degree, and the sum is split by running totals."""
    shares = {item: wanted[item] * degree_scale(int(degrees[item]), max_degree) for item in sorted(wanted)}
    total = sum_in_order(shares.values())
    split, running, spent = {}, 0.0, 0
    for item, share in shares.items():
        running += share
        due = int(steps * (running / total)) if total else 0
        split[item], spent = due - spent, due
    return split


def degree_scale(degree: int, max_degree: int) -> float:
    """degree * (1 + ln max_degree - ln degree), in units of log2(e) / 1477; 0 for degree 0."""
    if degree == 0:
        return 0.0
    return float(min(degree, 2**31 - 1) * (1477 + log2_fixed(max(max_degree, degree)) - log2_fixed(degree)))


def log2_fixed(value: int) -> int:
    """log2(value) in units of 2^-10: ten times, the mantissa of 32 bits is squared, and cut to 32 bits again."""
    value = min(value, 2**31 - 1)
    log = value.bit_length() - 1
    mantissa = value << (31 - log)
    for _ in range(10):
        mantissa = mantissa * mantissa >> 31
        carry = mantissa >> 32
        mantissa >>= carry
        log = 2 * log + carry
    return log


def walk_from(item: int, budget: int, seed: int, restart: float, boards: Edges, items: Edges) -> Iterator[int]:
    """The item visited by each step of the walk from this item; -1 where a step found no board or no item."""
    threshold = int(restart * 2**32)
    for number in range(-(-budget // WALKER_STEPS)):
        stream = fold(fold(fold(0, seed & MASK), item), number)
        here = item
        for i in range(min(WALKER_STEPS, budget - number * WALKER_STEPS)):
            board, there = -1, -1
            board_bits, item_bits, restart_bits = (mix(stream + (3 * i + d) * GOLDEN & MASK) for d in (1, 2, 3))
            if boards[0][here] < boards[0][here + 1]:
                board = choose(boards, here, board_bits)
            if board >= 0 and items[0][board] < items[0][board + 1]:
                there = choose(items, board, item_bits)
            here = item if there < 0 or restart_bits >> 32 < threshold else there
            yield there


def choose(edges: Edges, row: int, bits: int) -> int:
    """A neighbour of the row."""
    offsets, neighbours, bias = edges
    degree = int(offsets[row + 1] - offsets[row])
    edge = int(offsets[row]) + ((bits >> 32) * degree >> 32)
    if bias is None:
        return int(neighbours[edge])
    threshold, own, alias = bias[edge]
    return int(own if bits & 0x7FFFFFFF < threshold else alias)


def count_visits(path: Iterator[int], stop_items: int, stop_visits: int) -> tuple[Counter[int], int]:
    """How often each item was visited, and the number of steps, up to the check that ends the walk."""
    visits: Counter[int] = Counter()
    taken = 0
    for taken, item in enumerate(path, 1):
        if item >= 0:
            visits[item] += 1
        checked = stop_items > 0 and taken % CHECK_STEPS == 0
        if checked and sum(n >= stop_visits for n in visits.values()) >= stop_items:
            break
    return visits, taken


def fold(value: int, more: int) -> int:
    """A hash of both."""
    return mix((value ^ more) + GOLDEN & MASK)


def mix(z: int) -> int:
    """The finalizer of SplitMix64."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31
