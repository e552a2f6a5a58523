"""Scores and ids of the best among candidate rows, beside NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.native import floors
from bowerbird import native

SEED = 20
ROWS, QUICK_ROWS = 1_000_000, 250_000  # float16; both far beyond any cache
DIMENSION = 1280
CANDIDATES = (200, 1000)
K = 200
REPEATS, QUICK_REPEATS = 101, 21

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One query over candidates that were not read lately."""
    rng = np.random.default_rng(SEED)
    vectors = make_rows(rng, QUICK_ROWS if quick else ROWS, DIMENSION)
    query = rng.standard_normal((1, DIMENSION), dtype=np.float32)
    for num_candidates in CANDIDATES:
        yield from measure(rng, vectors, query, num_candidates, QUICK_REPEATS if quick else REPEATS)


def make_rows(rng: np.random.Generator, count: int, dimension: int) -> Array:
    """(count, dimension) float16. They repeat every 4096, to be made quickly; each lies at an address of its own."""
    some = rng.standard_normal((4096, dimension), dtype=np.float32).astype(np.float16)
    return np.resize(some, (count, dimension))


def numpy_rerank(rows: Array, query: Array, ids: Array, k: int) -> tuple[Array, Array]:
    """Gather, widen, multiply, partial sort: what one writes without a kernel."""
    scores = rows[ids].astype(np.float32) @ query
    best = np.argpartition(-scores, k - 1)[:k] if k < len(ids) else np.arange(len(ids))
    best = best[np.argsort(-scores[best], kind="stable")]
    return scores[best], ids[best]


def measure(
    rng: np.random.Generator, vectors: Array, query: Array, num_candidates: int, repeats: int
) -> list[report.Row]:
    """Every call has fresh candidates; the floor gathers as many rows."""
    fresh = itertools.cycle(rng.integers(0, len(vectors), (64, 1, num_candidates)))
    ids = next(fresh)
    ours = native.rerank(vectors, query, ids, K)[0][0]
    np.testing.assert_allclose(ours, numpy_rerank(vectors, query[0], ids[0], K)[0], rtol=1e-4, atol=1e-3)
    return report.compare(
        f"rerank {num_candidates} of {len(vectors)} x {DIMENSION}-d float16, top {K}",
        lambda: native.rerank(vectors, query, next(fresh), K),
        {"NumPy": lambda: numpy_rerank(vectors, query[0], next(fresh)[0], K)},
        repeats,
        floors={"prefetched gather": floors.gather_read(vectors, fresh)},
    )
