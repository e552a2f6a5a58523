"""Related items by random walks with restart on a graph of items and boards, and the tables that bias their steps.

Legend: N items, M boards, E edges, T query items in all, Q queries.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import bits, integer, real
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]


def walk(
    item_offsets: IntArray,
    item_boards: IdArray,
    board_offsets: IntArray,
    board_items: IdArray,
    queries: IntArray,
    weights: FloatArray,
    offsets: IntArray,
    k: int,
    *,
    steps: int = 100_000,
    restart: float = 0.5,
    seed: int = 0,
    item_bias: IdArray | None = None,
    board_bias: IdArray | None = None,
    stop_items: int = 0,
    stop_visits: int = 0,
    boost: bool = True,
    max_degree: int | None = None,
    num_threads: int = 1,
) -> tuple[FloatArray, IntArray, IntArray]:
    """Scores and ids of the k items that walks from each query's items visit most, best first, and the steps taken.

    Query q is the set of items queries[offsets[q]:offsets[q + 1]]. A step goes from an item to one of its boards and on
    to an item of that board. The same seed and query give the same visits to the last one, whatever the number of
    threads, the other queries of the batch, and the order of a query's items; `native/include/bowerbird/walk.hpp`
    defines every step. After Pixie (Eksombatchai et al., WWW 2018), with these deviations:

    - The share of an item of degree d is d (1 + ln max_degree - ln d), for without the 1 an item of the highest degree
      gets no step; the paper's d (max_degree - ln d) all but follows the degree.
    - Budgets are split by weight times share and sum to `steps`; the paper's grow with the weights.
    - A walker begins anew after 128 steps, and the early stop is looked for every 8192, so that 64 can walk abreast.
    - A query's own items are left out of its results.

    Args:
        item_offsets: (N + 1,) int64, ascending from 0 to E; item i is on the boards
            item_boards[item_offsets[i]:item_offsets[i + 1]].
        item_boards: (E,) int32, board ids.
        board_offsets: (M + 1,) int64, as for items; the two sides need not hold the same edges.
        board_items: (E',) int32, item ids.
        queries: (T,) int64, item ids. One named twice in a query counts once, with the sum of its weights.
        weights: (T,) float32, finite, 0 or more. An item of weight 0 takes no steps and is only left out of the result.
        offsets: (Q + 1,) int64, ascending from 0 to T.
        k: at least 1; where fewer items were visited, scores are 0 and ids -1. A query's own items are left out.
        steps: of a query, 1 to 10^8 (8 bytes of memory each, up to 84 on a device), split over its items by weight and
            degree. A query of items without boards, or of weights 0, takes none.
        restart: probability, 0 to 1, of a return to the query item after a step.
        seed: any 64 bits, -2^63 to 2^64 - 1; -1 and 2^64 - 1 are the same.
        item_bias: (E, 3) int32 of `bias_table(item_offsets, item_boards, ...)`: boards are chosen by weight. None:
            alike.
        board_bias: (E', 3) int32 of `bias_table(board_offsets, board_items, ...)`, for the items of a board.
        stop_items: the walk of one query item ends early, at the next multiple of 8192 steps, once it has visited so
            many items stop_visits times; 0 never does. Pixie finds 2000 and 4 a good choice.
        stop_visits: at least 1 with stop_items.
        boost: score by (sum of sqrt(visits))^2 over the walks of the query's items, which favours what several of them
            reach; False sums visits.
        max_degree: the most boards of an item, for the split of the budget. None finds it where a query has several
            items, at the price of reading all of item_offsets.
        num_threads: 1 to 256, shared out over queries first, then over the walkers of a query; with stop_items over
            queries alone. Not used on a device.
    Returns:
        scores (Q, k) float32, items (Q, k) int64, ties keep the lower id, and steps taken (Q,) int64.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value, or a step meets an offset or an id that is out of
            range; the message names the argument. Values no step meets are not looked at. On a device, whose values
            the host does not read, what is out of range counts as an item without boards, a bad weight as 0, and all
            queries are empty where `offsets` do not ascend from 0 to T.
    """
    return _core.walk(
        place_of(item_offsets),
        (item_offsets, item_boards, board_offsets, board_items),
        (queries, weights, offsets),
        integer(k, "k"),
        integer(steps, "steps"),
        real(restart, "restart"),
        bits(seed, "seed"),
        item_bias,
        board_bias,
        integer(stop_items, "stop_items"),
        integer(stop_visits, "stop_visits"),
        bool(boost),
        None if max_degree is None else integer(max_degree, "max_degree"),
        integer(num_threads, "num_threads"),
    )


def bias_table(offsets: IntArray, neighbours: IdArray, weights: FloatArray, *, num_threads: int = 1) -> IdArray:
    """Alias tables of weighted edges, made once a graph, from which `walk` draws an edge with one load.

    Args:
        offsets: (N + 1,) int64, ascending from 0 to E; on the CPU.
        neighbours: (E,) int32.
        weights: (E,) float32, finite, 0 or more. An edge of weight 0 is never taken, unless all edges of its row weigh
            nothing: such a row has no preference.
        num_threads: 1 to 256; threads share out the rows.
    Returns:
        (E, 3) int32: threshold, own neighbour, alias. Entry e of a row stands for its own neighbour with probability
        threshold / 2^31, and for the alias otherwise (Walker 1977, Vose 1991).
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value, or lies on a device; the message names it.
    """
    table: IdArray = _core.bias_table(
        place_of(offsets), offsets, neighbours, weights, integer(num_threads, "num_threads")
    )
    return table
