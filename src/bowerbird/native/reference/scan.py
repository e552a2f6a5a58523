"""Hamming scan, by a full sort of all distances.

Legend: N codes, Q queries, W bytes a code, k results a query.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def scan(
    codes: npt.NDArray[np.uint8],
    queries: npt.NDArray[np.uint8],
    k: int,
    *,
    mask: npt.NDArray[np.uint8] | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Distances (Q, k) int32 and indices (Q, k) int64 of the nearest codes; see `bowerbird.native.scan`."""
    del num_threads  # one is enough for an oracle
    allowed = np.arange(len(codes))
    if mask is not None:
        allowed = allowed[np.unpackbits(mask, count=len(codes), bitorder="little").astype(bool)]
    distances = np.full((len(queries), k), -1, np.int32)
    indices = np.full((len(queries), k), -1, np.int64)
    for q, query in enumerate(queries):
        differing = np.unpackbits(codes[allowed] ^ query, axis=1).sum(axis=1)
        nearest = np.argsort(differing, kind="stable")[:k]  # stable: ties keep the lower index
        distances[q, : len(nearest)] = differing[nearest]
        indices[q, : len(nearest)] = allowed[nearest]
    return distances, indices
