from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.native import floors


@pytest.fixture(scope="module")
def library() -> object:
    loaded = floors.load("floors.cpp")
    if loaded is None:
        pytest.skip("no C++ compiler")
    return loaded


def fold(words: np.ndarray) -> int:
    """What the probes return of what they read: the exclusive or of all words of 64 bits."""
    return int(np.bitwise_xor.reduce(words, axis=None))


@pytest.mark.parametrize("streams", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("ahead", [0, 4096])
def test_the_sequential_probe_reads_every_word(library: object, streams: int, ahead: int) -> None:
    """Its fold is that of the whole buffer, which no word left out would give."""
    data = np.random.default_rng(1).integers(0, 2**63, 16 * 16 * 32 * 3, dtype=np.uint64)

    read = library.sequential_read(data.ctypes.data, data.nbytes, streams, ahead)

    assert read == fold(data)


@pytest.mark.parametrize("row_bytes", [16, 48, 64, 80, 256, 1040])
@pytest.mark.parametrize("ahead", [0, 3, 1000])
@pytest.mark.parametrize("cache", floors.CACHES)
@pytest.mark.parametrize("scaled", [False, True])
def test_the_gather_probe_reads_every_row_whole(
    library: object, row_bytes: int, ahead: int, cache: int, scaled: bool
) -> None:
    """Changing any word of a row it was asked for, or its scale, changes its fold; other rows do not matter."""
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 2**63, (50, row_bytes // 8), dtype=np.uint64)
    scales = np.ones(len(rows), np.float32)
    ids = np.array([3, 11, 49, 0])

    def gather() -> int:
        scales_at = scales.ctypes.data if scaled else None
        return library.gather_read(rows.ctypes.data, row_bytes, scales_at, ids.ctypes.data, len(ids), ahead, cache)

    before = gather()
    rows[4] += 1
    assert gather() == before
    for row, word in itertools.product((3, 11, 49, 0), range(row_bytes // 8)):
        rows[row, word] ^= np.uint64(1)
        assert gather() != before
        rows[row, word] ^= np.uint64(1)
    for row in range(len(rows)):
        scales[row] = 2
        assert (gather() != before) == (scaled and row in ids)
        scales[row] = 1


def test_the_probes_say_what_they_do_not_take() -> None:
    """Rows and codes that the probes cannot read are refused."""
    with pytest.raises(ValueError, match="rows"):
        floors.gather_read(np.zeros((4, 3), np.float32), itertools.repeat(np.zeros(1, np.int64)))
    with pytest.raises(ValueError, match="scales"):
        floors.gather_read(np.zeros((4, 4), np.float32), itertools.repeat(np.zeros(1, np.int64)), np.ones(4))
    with pytest.raises(ValueError, match="code_bytes"):
        floors.tiled_popcount(10, 12, 1)
    with pytest.raises(ValueError, match="array"):
        floors.sequential_read(np.zeros((4, 4))[:, :2])


@pytest.mark.parametrize("variant", floors.TILES)
@pytest.mark.parametrize("words", [4, 5, 16])
def test_the_popcount_probe_counts_the_bits_of_every_pair(variant: tuple[int, int], words: int) -> None:
    """Its fold is the disjunction of the distances of each lane, of all tiles, exclusively or-ed."""
    source = floors.popcount_source(words)
    library = source and floors.load(source)
    if library is None:
        pytest.skip("no probe for this processor")
    tile, unroll = variant
    lanes, groups, rng = library.popcount_lanes(), 6, np.random.default_rng(3)
    block = rng.integers(0, 2**63, (groups, words, lanes), dtype=np.uint64)
    queries = rng.integers(0, 2**63, (tile, words), dtype=np.uint64)

    counted = library.popcount_tiles(
        block.ctypes.data, groups, queries.ctypes.data, words, 2,
        tile, unroll,
    )  # fmt: skip

    distances = np.bitwise_count(block[None] ^ queries[:, None, :, None]).sum(axis=2, dtype=np.uint64)
    assert counted == fold(np.bitwise_or.reduce(distances, axis=1))
