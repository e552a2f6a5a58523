"""Exact re-ranking in float64, by a full sort.

Legend: N rows, D dimensions, Q queries, K candidates a query, k results a query.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def rerank(
    rows: npt.NDArray[np.floating[Any]],
    queries: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.int64],
    k: int,
    *,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores (Q, k) float32 and row ids (Q, k) int64 of the best candidates; see `bowerbird.native.rerank`."""
    del num_threads  # one is enough for an oracle
    scores = np.full((len(queries), k), -np.inf, np.float32)
    indices = np.full((len(queries), k), -1, np.int64)
    for q, query in enumerate(queries):
        ids = candidates[q][candidates[q] >= 0]
        products = rows[ids].astype(np.float64) @ query.astype(np.float64)
        best = np.lexsort((ids, -products))[:k]  # last key first: by score, then by id
        scores[q, : len(best)] = products[best]
        indices[q, : len(best)] = ids[best]
    return scores, indices
