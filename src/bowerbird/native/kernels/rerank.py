"""Exact re-ranking of candidates: gather, score and top-k in one pass.

Legend: N rows, D dimensions, Q queries, K candidates a query, T candidates in all.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

Metric = Literal["inner_product", "l2", "cosine"]


def rerank(
    rows: npt.NDArray[Any],
    queries: FloatArray,
    candidates: IntArray,
    k: int,
    *,
    metric: Metric = "inner_product",
    scales: FloatArray | None = None,
    offsets: IntArray | None = None,
    num_threads: int = 1,
) -> tuple[FloatArray, IntArray]:
    """Scores and row ids of the k best candidates, best first, for each query.

    Args:
        rows: (N, D) float32, float16, bfloat16 (of torch or ml_dtypes) or int8; may be memory-mapped: only candidate
            rows are read.
        queries: (Q, D) float32, finite.
        candidates: (Q, K) int64, or (T,) with `offsets`: ids of rows; -1 is skipped; an id listed twice counts twice.
        k: at least 1; where fewer candidates are there, ids are -1 and scores the worst there is.
        metric: "inner_product" and "cosine" rank the greatest first, "l2" the least squared distance. A vector of
            zeros has cosine 0 with every other.
        scales: (N,) float32, for int8 rows and only for them: row i stands for scales[i] * rows[i].
        offsets: (Q + 1,) int64, from 0 ascending to T: candidates[offsets[q]:offsets[q + 1]] are those of query q.
        num_threads: 1 to 256; threads share out the queries, and where these are few, their lists. A device takes no
            notice of it.
    Returns:
        scores (Q, k) float32, summed in float32 (for inner products of int8 rows with AVX-512 in integers, the query
            rounded by at most 2^-22 of its greatest value), and indices (Q, k) int64; ties keep the lower id. Padding
            is -1 and -infinity, for "l2" +infinity.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value, a candidate is no row, or a candidate row yields
            a score that is not a number (it has NaN; or, for "cosine", its squared length is beyond float32); the
            message names the argument. A device does not look at values: it leaves such a candidate out, like -1, and
            cuts offsets to 0 ... T.
    """
    if not isinstance(metric, str):
        raise TypeError(f"metric: expected a string, got {type(metric).__name__}")
    return _core.rerank(
        place_of(rows),
        rows,
        queries,
        candidates,
        integer(k, "k"),
        metric,
        scales,
        offsets,
        integer(num_threads, "num_threads"),
    )
