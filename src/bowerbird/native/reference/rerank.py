"""Exact re-ranking in float64, by a full sort.

Legend: N rows, D dimensions, Q queries, K candidates a query, T candidates in all, k results a query.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def rerank(
    rows: Array,
    queries: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.int64],
    k: int,
    *,
    metric: str = "inner_product",
    scales: npt.NDArray[np.float32] | None = None,
    offsets: npt.NDArray[np.int64] | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores (Q, k) float32 and row ids (Q, k) int64 of the best candidates; see `bowerbird.native.rerank`."""
    del num_threads  # one is enough for an oracle
    sign = -1.0 if metric == "l2" else 1.0  # times the score: greater is better
    scores = np.full((len(queries), k), -sign * np.inf, np.float32)
    indices = np.full((len(queries), k), -1, np.int64)
    for q, query in enumerate(queries):
        ids = candidates[q] if offsets is None else candidates[offsets[q] : offsets[q + 1]]
        ids = ids[ids >= 0]
        values = rows[ids].astype(np.float64)
        if scales is not None:
            values *= scales[ids, None].astype(np.float64)
        found = score(values, query.astype(np.float64), metric).astype(np.float32)
        best = np.lexsort((ids, -sign * found))[:k]  # last key first: by score, then by id
        scores[q, : len(best)] = found[best]
        indices[q, : len(best)] = ids[best]
    return scores, indices


def score(rows: Array, query: Array, metric: str) -> Array:
    """(K,) float64: inner products of rows (K, D) and the query, their squared distances, or their cosines."""
    if metric == "l2":
        return np.asarray(((rows - query) ** 2).sum(axis=1))
    products = np.asarray(rows @ query)
    if metric == "inner_product":
        return products
    lengths = np.sqrt((rows**2).sum(axis=1)) * np.sqrt((query**2).sum())
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
