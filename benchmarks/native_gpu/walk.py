"""Related items by random walks on a GPU, beside the same walks in torch.

The graph is that of `benchmarks.native.walk`. Torch takes the same steps, all walkers of all queries at once: a dozen
tensor operations a step, 128 steps in a row, visits in a dense count of every item for every query.

The floor is of memory: six random accesses a step (four loads, key and count of the visit), a sector of 32 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.native import walk as host
from benchmarks.native_gpu import clock
from bowerbird import native

BATCHES, QUICK_BATCHES = (1, 64, 512), (1, 64)
REPEATS, QUICK_REPEATS = 31, 7
ACCESSES_A_STEP, SECTOR_BYTES = 6, 32
LOW_HALF = 2**32 - 1


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One query, and batches, one item a query."""
    import torch

    rng = np.random.default_rng(host.SEED)
    _, graph, popular = host.make_graph(rng)
    on_device = tuple(torch.from_numpy(part).cuda() for part in graph)
    for batch in QUICK_BATCHES if quick else BATCHES:
        items = popular[rng.integers(0, len(popular), batch)].astype(np.int64)
        yield from measure(graph, on_device, items, QUICK_REPEATS if quick else REPEATS)


def measure(graph: host.Graph, on_device: tuple[Any, ...], items: Any, repeats: int) -> list[report.Row]:
    """The results of the device are the host's to the last bit, and torch's too."""
    import torch

    wanted = torch.from_numpy(items).cuda()
    weights = torch.ones(len(items), device="cuda")
    offsets = torch.arange(len(items) + 1, device="cuda")

    def ours() -> Any:
        options = {"steps": host.STEPS, "restart": host.RESTART, "seed": host.SEED}
        return native.walk(*on_device, wanted, weights, offsets, host.K, **options)  # type: ignore[arg-type]

    for mine, hosts in zip(ours(), host.our_walk(graph, items), strict=True):
        np.testing.assert_array_equal(mine.cpu().numpy(), hosts)
    scores, found = torch_walk(on_device, wanted)
    np.testing.assert_array_equal(scores.cpu().numpy(), ours()[0].cpu().numpy())
    np.testing.assert_array_equal(found.cpu().numpy(), ours()[1].cpu().numpy())
    return clock.compare(
        f"walk {len(graph[1]):,} edges, {host.STEPS:,} steps, {len(items)} queries",
        ours,
        {"torch, all walkers at once": lambda: torch_walk(on_device, wanted)},
        repeats,
        floor_bytes=len(items) * host.STEPS * ACCESSES_A_STEP * SECTOR_BYTES,
    )


def torch_walk(graph: tuple[Any, ...], items: Any) -> tuple[Any, Any]:
    """Visits and items, best first, ties keep the lower id: (Q, K) each, where every query visits K items at least."""
    import torch

    item_offsets, item_boards, board_offsets, board_items = graph
    walkers = torch.arange(-(-host.STEPS // host.WALKER_STEPS), device=items.device)
    start = fold(fold(fold(torch.zeros_like(items), host.SEED), items)[:, None], walkers)
    home = items[:, None].expand_as(start)
    counts = torch.zeros(len(items), host.ITEMS, dtype=torch.int32, device=items.device)
    here, stream = home, start
    for step in range(host.WALKER_STEPS):
        boards = item_boards[choose(item_offsets, here, mix(stream + GOLDEN))].long()
        there = board_items[choose(board_offsets, boards, mix(stream + wrap(2 * GOLDEN)))].long()
        stream = stream + wrap(3 * GOLDEN)
        walking = walkers * host.WALKER_STEPS + step < host.STEPS
        counts.scatter_add_(1, there, walking.int().expand_as(there).contiguous())
        here = torch.where((mix(stream) >> 32 & LOW_HALF) < int(host.THRESHOLD), home, there)
    counts.scatter_(1, items[:, None], 0)
    keys = counts.long() * 2**32 - torch.arange(host.ITEMS, device=items.device)
    best = keys.topk(host.K).values
    return (-(-best >> 32)).float(), -best & LOW_HALF


def choose(offsets: Any, rows: Any, bits: Any) -> Any:
    """Index of an edge of each row."""
    begin = offsets[rows]
    return begin + ((bits >> 32 & LOW_HALF) * (offsets[rows + 1] - begin) >> 32)


def mix(z: Any) -> Any:
    """The finalizer of SplitMix64 on signed integers, whose shifts have to be cut."""
    z = (z ^ (z >> 30 & 2**34 - 1)) * wrap(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27 & 2**37 - 1)) * wrap(0x94D049BB133111EB)
    return z ^ (z >> 31 & 2**33 - 1)


def fold(value: Any, more: Any) -> Any:
    """A hash of both."""
    return mix((value ^ more) + GOLDEN)


def wrap(value: int) -> int:
    """The signed integer of the same 64 bits."""
    return (value + 2**63) % 2**64 - 2**63


GOLDEN = wrap(0x9E3779B97F4A7C15)
