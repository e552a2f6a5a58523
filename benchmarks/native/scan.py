"""Distances and indices of the nearest codes, over all codes and by lists, beside faiss's best modes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.native import floors
from bowerbird import native

SEED = 20
CODES = 1_000_000
CODE_BITS = (256, 1024)
K = 100
BATCH = 64
LISTS, PROBED = 1024, 16
REPEATS, QUICK_REPEATS = 101, 21
BATCH_SHARE = 3  # of the repeats: a batch takes long
BUDGET_S, QUICK_BUDGET_S = 30.0, 0.7  # of a row of peers

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One query and a batch for each width of a code, then a batch with two threads, then one by lists."""
    rng = np.random.default_rng(SEED)
    repeats = QUICK_REPEATS if quick else REPEATS
    measure = functools.partial(measure_all_codes, budget_s=QUICK_BUDGET_S if quick else BUDGET_S, quick=quick)
    for bits in CODE_BITS:
        codes = rng.integers(0, 256, (CODES, bits // 8), dtype=np.uint8)
        queries = rng.integers(0, 256, (BATCH, bits // 8), dtype=np.uint8)
        yield from measure(codes, queries[:1].copy(), repeats)
        yield from measure(codes, queries, repeats // BATCH_SHARE)
        if bits == CODE_BITS[0]:
            yield from measure(codes, queries, repeats // BATCH_SHARE, threads=2)
            yield from measure_lists(codes, queries, repeats)


def measure_all_codes(
    codes: Array, queries: Array, repeats: int, *, budget_s: float, quick: bool, threads: int = 1
) -> list[report.Row]:
    """A scan either reads the codes as fast as memory gives them or counts bits as fast as the processor can."""
    peers = faiss_modes(codes, queries, threads)
    distances = native.scan(codes, queries, K, num_threads=threads)[0]
    seconds = {}
    for mode, search in peers.items():
        start = time.perf_counter()
        np.testing.assert_array_equal(distances, search()[0])
        seconds[mode] = time.perf_counter() - start
    if quick:  # only faiss's fastest mode takes turns with ours
        best = min(seconds, key=lambda mode: seconds[mode])
        peers = {best: peers[best]}
    probes = {
        "sequential read": floors.sequential_read(codes),
        "tiled popcount": floors.tiled_popcount(len(codes), codes.shape[1], len(queries)),
    }
    measured = report.compare(
        f"scan {len(codes)} x {codes.shape[1] * 8} bits, top {K}, {len(queries)} queries{shared(threads)}",
        lambda: native.scan(codes, queries, K, num_threads=threads),
        peers,
        repeats,
        budget_s=budget_s,
        floors=probes if threads == 1 else None,  # they probe one thread
    )
    return [{**row, "threads": threads} for row in measured]


def faiss_modes(codes: Array, queries: Array, threads: int) -> dict[str, Callable[[], Any]]:
    """faiss keeps the nearest in a heap or counts them by distance, and takes 32 or 64 queries a pass."""

    def search(index: Any) -> Any:
        faiss.omp_set_num_threads(threads)  # a setting of the whole process, which others change
        return index.search(queries, K)

    modes = {}
    for name, use_heap, batch in (("heap", True, 32), ("counting", False, 32), ("counting, batch 64", False, 64)):
        if batch > 32 >= len(queries):
            continue
        index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        index.add(codes)
        index.use_heap, index.query_batch_size = use_heap, batch
        modes[f"faiss IndexBinaryFlat, {name}"] = lambda index=index: search(index)
    return modes


def measure_lists(codes: Array, queries: Array, repeats: int) -> list[report.Row]:
    """The same lists and probes on both sides: faiss's quantiser assigns codes to lists and chooses those to probe."""
    faiss.omp_set_num_threads(1)
    bits = codes.shape[1] * 8
    quantiser = faiss.IndexBinaryFlat(bits)
    quantiser.add(codes[:: len(codes) // LISTS][:LISTS].copy())
    index = faiss.IndexBinaryIVF(quantiser, bits, LISTS)
    index.is_trained, index.nprobe = True, PROBED
    index.add(codes)
    ids, offsets = lists_of(index)
    near, probes = quantiser.search(queries, PROBED)
    by_list = codes[ids]

    def ours() -> Any:
        return native.scan(by_list, queries, K, ids=ids, list_offsets=offsets, probes=probes)

    def peer() -> Any:
        return index.search_preassigned(queries, K, probes, near)

    # faiss 1.15 has two other modes: use_heap = False finds nothing here, and per_invlist_search refuses as many probes
    # as there are lists.
    np.testing.assert_array_equal(ours()[0], peer()[0])
    return report.compare(
        f"scan {len(codes)} x {bits} bits in {LISTS} lists, {PROBED} probed, top {K}, {len(queries)} queries",
        ours,
        {"faiss IndexBinaryIVF": peer},
        repeats,
    )


def lists_of(index: Any) -> tuple[Array, Array]:
    """Positions of the codes in the order of the lists of a faiss inverted file, and where each list begins."""
    lists = index.invlists
    sizes = [lists.list_size(number) for number in range(index.nlist)]
    ids = [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes)]
    return np.concatenate(ids).astype(np.int64), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def shared(threads: int) -> str:
    """How a row's name ends."""
    return "" if threads == 1 else f", {threads} threads (OMP_WAIT_POLICY=passive)"
