"""The compiled Hamming scan against the reference, and what must hold of any scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import code_sets, every_level, list_sets, repeatable, simd

Array = npt.NDArray[Any]


@every_level
@repeatable
@given(case=code_sets())
def test_equals_the_reference(level: str, case: tuple[Array, Array, Array | None, int]) -> None:
    """Distances and indices are the reference's to the last bit, ties and padding included."""
    codes, queries, mask, k = case
    expected = reference.scan(codes, queries, k, mask=mask)
    with simd(level):
        actual = native.scan(codes, queries, k, mask=mask)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])


@every_level
@repeatable
@given(case=list_sets())
def test_lists_equal_the_reference(level: str, case: tuple[tuple[Array, Array, int], dict[str, Any]]) -> None:
    """So it is with lists of any size, empty ones, -1 and repeats among the probes, masks and ids."""
    positional, named = case
    expected = reference.scan(*positional, **named)
    with simd(level):
        actual = native.scan(*positional, **named)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])


@every_level
@pytest.mark.parametrize("bits", [64, 192, 256, 320, 512, 576, 1024, 4096])
@pytest.mark.parametrize("num_queries", [1, 2, 65])
def test_each_way_of_comparing_gives_the_same(level: str, bits: int, num_queries: int) -> None:
    """One query reads the codes as they lie, several an arranged block, masked codes are picked: same results."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 256, (1211, bits // 8), dtype=np.uint8)
    queries = codes[rng.integers(0, len(codes), num_queries)] ^ rng.integers(0, 2, (num_queries, bits // 8), np.uint8)
    expected = reference.scan(codes, queries, 15)
    everything = np.full((len(codes) + 7) // 8, 255, np.uint8)
    with simd(level):
        for mask in (None, everything):
            np.testing.assert_array_equal(native.scan(codes, queries, 15, mask=mask), expected)


@every_level
@pytest.mark.parametrize("bits", range(64, 4097, 64))
def test_every_code_length(level: str, bits: int) -> None:
    """Each length from 64 to 4096 bits gives the reference's result."""
    rng = np.random.default_rng(bits)
    codes, queries = (rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (77, 2))
    with simd(level):
        actual = native.scan(codes, queries, 10)
    np.testing.assert_array_equal(actual, reference.scan(codes, queries, 10))


@every_level
@pytest.mark.parametrize("bits", [64, 192, 256, 320, 1024, 4096])
@pytest.mark.parametrize("num_queries", [1, 3])
def test_extreme_distances(level: str, bits: int, num_queries: int) -> None:
    """All bits equal is 0, all bits different is their number, in each way of comparing: no counter overflows."""
    codes = np.stack([np.zeros(bits // 8, np.uint8), np.full(bits // 8, 255, np.uint8)] * 70)
    with simd(level):
        distances, indices = native.scan(codes, np.repeat(codes[:1], num_queries, axis=0), 140)
    assert distances.tolist() == [[0] * 70 + [bits] * 70] * num_queries
    assert indices.tolist() == [[*range(0, 140, 2), *range(1, 140, 2)]] * num_queries


@pytest.mark.parametrize("num_queries", [1, 3, 40])
@pytest.mark.parametrize("num_threads", [2, 3, 8])
def test_threads_do_not_change_the_result(num_queries: int, num_threads: int) -> None:
    """The same distances and indices come out of one thread and of several, also where codes are shared out."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 4, (200_003, 8), dtype=np.uint8)  # few values: many ties across the shares
    queries = rng.integers(0, 4, (num_queries, 8), dtype=np.uint8)
    mask = np.packbits(rng.random(len(codes)) < 0.5, bitorder="little")
    single = native.scan(codes, queries, 300, mask=mask)
    several = native.scan(codes, queries, 300, mask=mask, num_threads=num_threads)
    np.testing.assert_array_equal(several[0], single[0])
    np.testing.assert_array_equal(several[1], single[1])


def test_batch_equals_loop() -> None:
    """A batch of queries answers as its queries do one by one."""
    rng = np.random.default_rng(6)
    codes, queries = (rng.integers(0, 16, (n, 32), dtype=np.uint8) for n in (5000, 37))
    distances, indices = native.scan(codes, queries, 20)
    for q, query in enumerate(queries):
        alone = native.scan(codes, query[None], 20)
        np.testing.assert_array_equal(alone[0][0], distances[q])
        np.testing.assert_array_equal(alone[1][0], indices[q])


def inverted_file() -> tuple[Array, Array, dict[str, Array]]:
    """Codes, queries, and lists of which one is long and one empty, with probes, mask and ids."""
    rng = np.random.default_rng(9)
    codes, queries = (rng.integers(0, 4, (n, 16), dtype=np.uint8) for n in (150_001, 70))
    offsets = np.concatenate([[0, 0, 90_000], np.sort(rng.integers(90_000, len(codes), 30)), [len(codes)]])
    named = {
        "list_offsets": offsets,
        "probes": rng.integers(-1, len(offsets) - 1, (len(queries), 6)),
        "mask": np.packbits(rng.random(len(codes)) < 0.7, bitorder="little"),
        "ids": rng.permutation(len(codes)),
    }
    return codes, queries, named


@pytest.mark.parametrize("num_queries", [1, 3, 70])
@pytest.mark.parametrize("num_threads", [2, 5])
def test_threads_do_not_change_the_result_of_lists(num_queries: int, num_threads: int) -> None:
    """Lists are shared out among threads, a long one in parts, and the answer stays."""
    codes, queries, named = inverted_file()
    named["probes"] = named["probes"][:num_queries].copy()
    named["probes"][:, 0] = 1  # the long one
    single = native.scan(codes, queries[:num_queries], 100, **named)
    several = native.scan(codes, queries[:num_queries], 100, num_threads=num_threads, **named)
    np.testing.assert_array_equal(several[0], single[0])
    np.testing.assert_array_equal(several[1], single[1])


def test_batch_equals_loop_over_lists() -> None:
    """Queries that share a list answer as they do alone."""
    codes, queries, named = inverted_file()
    distances, indices = native.scan(codes, queries, 20, **named)
    for q, query in enumerate(queries):
        alone = native.scan(codes, query[None], 20, **named | {"probes": named["probes"][q : q + 1]})
        np.testing.assert_array_equal(alone[0][0], distances[q])
        np.testing.assert_array_equal(alone[1][0], indices[q])


def test_all_lists_are_all_codes() -> None:
    """Probing every list, in any order, equals the scan without lists."""
    codes, queries, named = inverted_file()
    lists = len(named["list_offsets"]) - 1
    named["probes"] = np.random.default_rng(10).permuted(np.tile(np.arange(lists), (len(queries), 1)), axis=1)
    whole = native.scan(codes, queries, 50, mask=named["mask"], ids=named["ids"])
    np.testing.assert_array_equal(native.scan(codes, queries, 50, **named), whole)


def test_ids_stand_for_positions() -> None:
    """Ids come back as they are, negative and repeated ones too; ties keep the lower position, not the lower id."""
    codes = np.zeros((4, 8), np.uint8)
    ids = np.array([7, -3, 7, 2**62])
    distances, indices = native.scan(codes, codes[:1], 5, ids=ids)
    assert indices.tolist() == [[7, -3, 7, 2**62, -1]]
    assert distances.tolist() == [[0, 0, 0, 0, -1]]


def test_order_of_codes_does_not_change_distances() -> None:
    """Shuffled codes give the same distances, and indices that point at codes of those distances."""
    rng = np.random.default_rng(7)
    codes, queries = (rng.integers(0, 256, (n, 16), dtype=np.uint8) for n in (3000, 4))
    order = rng.permutation(len(codes))
    shuffled, indices = native.scan(codes[order], queries, 50)
    np.testing.assert_array_equal(shuffled, native.scan(codes, queries, 50)[0])
    found = np.unpackbits(codes[order][indices] ^ queries[:, None, :], axis=2).sum(axis=2)
    np.testing.assert_array_equal(found, shuffled)


def test_codes_that_get_nearer_all_the_way() -> None:
    """The worst order for a bounded top-k, every code better than all before, still gives the best."""
    count = 4096
    bits = np.tri(count, count, -1, dtype=np.uint8)[::-1]  # code i has count - 1 - i ones
    codes = np.packbits(bits, axis=1)
    distances, indices = native.scan(codes, np.zeros((1, count // 8), np.uint8), 5)
    assert distances.tolist() == [[0, 1, 2, 3, 4]]
    assert indices.tolist() == [[4095, 4094, 4093, 4092, 4091]]


def test_bits_of_the_mask_beyond_the_end_are_ignored() -> None:
    """A mask whose last byte has stray ones finds nothing that is not there."""
    codes = np.zeros((9, 8), np.uint8)
    distances, indices = native.scan(codes, codes[:1], 12, mask=np.full(2, 255, np.uint8))
    assert indices[0].tolist() == [*range(9), -1, -1, -1]
    assert distances[0].tolist() == [0] * 9 + [-1] * 3


def test_reads_a_memory_mapped_file(tmp_path: Path) -> None:
    """Codes may stay in a file."""
    codes = np.random.default_rng(8).integers(0, 256, (1000, 32), dtype=np.uint8)
    (tmp_path / "codes").write_bytes(codes.tobytes())
    mapped = np.memmap(tmp_path / "codes", np.uint8, "r", shape=codes.shape)
    np.testing.assert_array_equal(native.scan(mapped, codes[:3], 7), native.scan(codes, codes[:3], 7))
