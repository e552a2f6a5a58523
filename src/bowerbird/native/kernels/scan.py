"""Hamming scan of packed binary codes with a fused bounded top-k, over all codes or by lists.

Legend: N codes, Q queries, W bytes a code, L lists, P probes a query.
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
    codes: ByteArray,
    queries: ByteArray,
    k: int,
    *,
    mask: ByteArray | None = None,
    ids: IntArray | None = None,
    list_offsets: IntArray | None = None,
    probes: IntArray | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.int32], IntArray]:
    """Distances and indices of the k codes with the fewest differing bits, nearest first, for each query.

    With `list_offsets` and `probes` (both or neither) it scans an inverted file: codes that belong together lie side by
    side as a list, and a query looks only at the lists that a coarse quantiser chose for it.

    Args:
        codes: (N, W) uint8, W a multiple of 8 from 8 to 512 (64 to 4096 bits); N may be 0.
        queries: (Q, W) uint8.
        k: at least 1; where fewer codes are there or let in, the rest is -1.
        mask: (ceil(N / 8),) uint8, little bit order (`numpy.packbits(allowed, bitorder="little")`); only codes whose
            bit is 1 are found. None lets all in.
        ids: (N,) int64, what is given back in place of a code's position; None gives back positions.
        list_offsets: (L + 1,) int64, ascending from 0 to N; list l is codes[list_offsets[l]:list_offsets[l + 1]].
        probes: (Q, P) int64, the lists that each query looks at, in any order; -1 is skipped, and a list named twice is
            scanned once. On a device, whose memory the host does not read, any number that is no list is skipped.
        num_threads: 1 to 256; means nothing on a device.
    Returns:
        distances (Q, k) int32 in bits and indices (Q, k) int64; ties keep the lower position.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    Source:
        the inverted file of Jegou et al. 2011, "Product quantization for nearest neighbor search", section IV, over
        binary codes.
    """
    return _core.scan(
        place_of(codes),
        codes,
        queries,
        integer(k, "k"),
        mask,
        ids,
        list_offsets,
        probes,
        integer(num_threads, "num_threads"),
    )
