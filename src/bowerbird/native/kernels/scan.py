"""Hamming scan of packed binary codes with a fused bounded top-k.

Legend: N codes, Q queries, W bytes a code.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer
from bowerbird.native.places import place_of

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]


def scan(
    codes: ByteArray, queries: ByteArray, k: int, *, mask: ByteArray | None = None, num_threads: int = 1
) -> tuple[npt.NDArray[np.int32], IntArray]:
    """Distances and indices of the k codes with the fewest differing bits, nearest first, for each query.

    Args:
        codes: (N, W) uint8, W a multiple of 8 from 8 to 512 (64 to 4096 bits); N may be 0.
        queries: (Q, W) uint8.
        k: at least 1; where fewer codes are there or let in, the rest is -1.
        mask: (ceil(N / 8),) uint8, little bit order (`numpy.packbits(allowed, bitorder="little")`); only codes whose
            bit is 1 are found. None lets all in.
        num_threads: 1 to 256.
    Returns:
        distances (Q, k) int32 in bits and indices (Q, k) int64; ties keep the lower index.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    return _core.scan(
        place_of(codes),
        codes,
        queries,
        integer(k, "k"),
        mask,
        integer(num_threads, "num_threads"),
    )
