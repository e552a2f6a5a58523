"""Exact re-ranking of candidates: gather, score and top-k in one pass.

Legend: N rows, D dimensions, Q queries, K candidates a query.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
IntArray = npt.NDArray[np.int64]


def rerank(
    rows: FloatArray | HalfArray, queries: FloatArray, candidates: IntArray, k: int, *, num_threads: int = 1
) -> tuple[FloatArray, IntArray]:
    """Scores and row ids of the k candidates with the largest inner product, best first, for each query.

    Args:
        rows: (N, D) float32 or float16, may be memory-mapped; only candidate rows are read.
        queries: (Q, D) float32, finite.
        candidates: (Q, K) int64, ids of rows; -1 is skipped, so lists may be ragged; an id listed twice counts twice.
        k: at least 1; where fewer candidates are there, scores are -infinity and ids -1.
        num_threads: 1 to 256; threads share out the queries.
    Returns:
        scores (Q, k) float32, summed in float32, and indices (Q, k) int64; ties keep the lower id.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value, a candidate is no row, or a candidate row has
            NaN; the message names the argument.
    """
    return _core.rerank(
        place_of(rows),
        rows,
        queries,
        candidates,
        integer(k, "k"),
        integer(num_threads, "num_threads"),
    )
