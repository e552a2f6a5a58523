"""Hamming scan, by a full sort of all distances.

Legend: N codes, Q queries, W bytes a code, L lists, P probes a query, k results a query.
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
    ids: npt.NDArray[np.int64] | None = None,
    list_offsets: npt.NDArray[np.int64] | None = None,
    probes: npt.NDArray[np.int64] | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Distances (Q, k) int32 and indices (Q, k) int64 of the nearest codes; see `bowerbird.native.scan`."""
    del num_threads  # one is enough for an oracle
    positions = np.arange(len(codes))
    let_in = np.ones(len(codes), bool)
    if mask is not None:
        let_in = np.unpackbits(mask, count=len(codes), bitorder="little").astype(bool)
    distances = np.full((len(queries), k), -1, np.int32)
    indices = np.full((len(queries), k), -1, np.int64)
    for q, query in enumerate(queries):
        looked_at = let_in
        if list_offsets is not None and probes is not None:
            list_of = np.repeat(np.arange(len(list_offsets) - 1), np.diff(list_offsets))
            looked_at = let_in & np.isin(list_of, probes[q])
        allowed = positions[looked_at]
        differing = np.unpackbits(codes[allowed] ^ query, axis=1).sum(axis=1)
        nearest = np.argsort(differing, kind="stable")[:k]  # stable: ties keep the lower position
        distances[q, : len(nearest)] = differing[nearest]
        indices[q, : len(nearest)] = allowed[nearest] if ids is None else ids[allowed[nearest]]
    return distances, indices
