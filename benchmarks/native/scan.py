"""Distances and indices of the nearest codes, beside faiss and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
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
K = 200
BATCH = 64
REPEATS, QUICK_REPEATS = 101, 21

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One query and a batch, for each width of a code."""
    rng = np.random.default_rng(SEED)
    repeats = QUICK_REPEATS if quick else REPEATS
    faiss.omp_set_num_threads(1)
    for bits in CODE_BITS:
        codes = rng.integers(0, 256, (CODES, bits // 8), dtype=np.uint8)
        queries = rng.integers(0, 256, (BATCH, bits // 8), dtype=np.uint8)
        index = faiss.IndexBinaryFlat(bits)
        index.add(codes)
        yield from measure(codes, queries[:1].copy(), index, repeats)
        yield from measure(codes, queries, index, max(3, repeats // 7))


def measure(codes: Array, queries: Array, index: Any, repeats: int) -> list[report.Row]:
    """A scan either reads the codes as fast as memory gives them or counts bits as fast as the processor can."""
    np.testing.assert_array_equal(native.scan(codes, queries, K)[0], index.search(queries, K)[0])
    return report.compare(
        f"scan {len(codes)} x {codes.shape[1] * 8} bits, top {K}, {len(queries)} queries",
        lambda: native.scan(codes, queries, K),
        {"faiss IndexBinaryFlat": lambda: index.search(queries, K)},
        repeats,
        floors={
            "sequential read": floors.sequential_read(codes),
            "tiled popcount": floors.tiled_popcount(len(codes), codes.shape[1], len(queries)),
        },
    )
