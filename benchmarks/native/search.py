"""Scan, then exact re-ranking: one search as the retrieval service does it, beside faiss and NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks import report
from bowerbird import native

Array = npt.NDArray[Any]

SEED = 20
CODES, CODE_BITS = 1_000_000, 256
ROWS, QUICK_ROWS = 1_000_000, 250_000  # float16; both far beyond any cache
DIMENSION = 1280
K = 200
QUERIES = 64
REPEATS, QUICK_REPEATS = 101, 21


def rows(*, quick: bool) -> Iterator[report.Row]:
    """The scan keeps K candidates; the re-ranking orders them."""
    rng = np.random.default_rng(SEED)
    num_rows = QUICK_ROWS if quick else ROWS
    codes = rng.integers(0, 256, (CODES, CODE_BITS // 8), dtype=np.uint8)
    query_codes = rng.integers(0, 256, (QUERIES, CODE_BITS // 8), dtype=np.uint8)
    vectors = make_rows(rng, num_rows, DIMENSION)
    query = rng.standard_normal((1, DIMENSION), dtype=np.float32)
    index = faiss.IndexBinaryFlat(CODE_BITS)
    index.add(codes)
    turns = itertools.cycle(query_codes[:, None, :])

    def ours() -> Array:
        candidates = native.scan(codes, next(turns), K)[1] % num_rows
        return native.rerank(vectors, query, candidates, K)[0]

    def peer() -> Array:
        candidates = index.search(next(turns), K)[1][0] % num_rows
        return numpy_rerank(vectors, query[0], candidates, K)[0]

    # The last distance is tied by many codes, and each side keeps some of them: compare what must agree.
    np.testing.assert_array_equal(native.scan(codes, query_codes, K)[0], index.search(query_codes, K)[0])
    candidates = rng.integers(0, num_rows, (1, K))
    ranked = native.rerank(vectors, query, candidates, K)[0][0]
    expected = numpy_rerank(vectors, query[0], candidates[0], K)[0]
    np.testing.assert_allclose(ranked, expected, rtol=1e-4, atol=1e-3)
    yield from report.compare(
        f"search {CODES} x {CODE_BITS} bits, top {K}, exact re-rank of {DIMENSION}-d float16 ({num_rows} rows)",
        ours,
        {"faiss IndexBinaryFlat + NumPy": peer},
        QUICK_REPEATS if quick else REPEATS,
    )


def make_rows(rng: np.random.Generator, count: int, dimension: int) -> Array:
    """float16 rows that repeat every 4096, so that they are made quickly; each lies at an address of its own."""
    some = rng.standard_normal((4096, dimension), dtype=np.float32).astype(np.float16)
    return np.resize(some, (count, dimension))


def numpy_rerank(rows: Array, query: Array, ids: Array, k: int) -> tuple[Array, Array]:
    """Gather, widen, multiply, sort: what one writes without a kernel. As many ids as results."""
    scores = rows[ids].astype(np.float32) @ query
    best = np.argsort(-scores, kind="stable")[:k]
    return scores[best], ids[best]
