"""The Hamming scan on a CUDA device against the kernel of the CPU, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import native
from tests.device_arrays import in_every_order, needs_device, needs_gpu, to_device, to_host
from tests.strategies import code_sets, generators, repeatable

pytestmark = needs_device

Array = npt.NDArray[Any]

MANY = 20_000  # codes: enough that a sample bounds the search, see Plan in scan.cu


def assert_equals_the_cpu(codes: Array, queries: Array, k: int, **rest: Array | None) -> None:
    """Distances and indices of the device are those of the CPU."""
    expected = native.scan(codes, queries, k, **rest)
    arrays = {name: to_device(value) for name, value in rest.items()}
    distances, indices = native.scan(to_device(codes), to_device(queries), k, **arrays)
    np.testing.assert_array_equal(to_host(distances), expected[0])
    np.testing.assert_array_equal(to_host(indices), expected[1])


def packed_mask(rng: np.random.Generator, count: int, share: float) -> Array:
    """A mask that lets in this share."""
    return np.packbits(rng.random(count) < share, bitorder="little")


@in_every_order
@repeatable
@given(case=code_sets())
def test_few_codes(case: tuple[Array, Array, Array | None, int]) -> None:
    """Where every code has a place in the list."""
    codes, queries, mask, k = case
    assert_equals_the_cpu(codes, queries, k, mask=mask)


@pytest.mark.parametrize("bits", range(64, 4097, 64))
def test_every_code_length(bits: int) -> None:
    """Each length from 64 to 4096 bits, one query and several."""
    rng = np.random.default_rng(bits)
    codes, queries = (rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (77, 9))
    assert_equals_the_cpu(codes, queries, 10)
    assert_equals_the_cpu(codes, queries[:1], 10)


def test_extreme_distances() -> None:
    """All bits equal is 0, all bits different is 4096: no counter overflows into its neighbour."""
    codes = np.stack([np.zeros(512, np.uint8), np.full(512, 255, np.uint8)] * 3)
    assert_equals_the_cpu(codes, codes, 6)


@in_every_order
@pytest.mark.parametrize("num_queries", [1, 9])
@pytest.mark.parametrize("code_bytes", [8, 32, 96, 512])
def test_a_sample_bounds_the_search(num_queries: int, code_bytes: int) -> None:
    """Many codes: a histogram of some of them decides what is listed, in any order."""
    rng = np.random.default_rng(code_bytes)
    codes = rng.integers(0, 256, (MANY, code_bytes), dtype=np.uint8)
    queries = codes[rng.integers(0, MANY, num_queries)] ^ rng.integers(0, 4, (num_queries, code_bytes), dtype=np.uint8)
    assert_equals_the_cpu(codes, queries, 10)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.5])
def test_a_sample_under_a_mask(share: float) -> None:
    """A sample that lets in fewer than k bounds nothing, and all that is let in is listed."""
    rng = np.random.default_rng(3)
    codes, queries = (rng.integers(0, 256, (n, 16), dtype=np.uint8) for n in (MANY, 3))
    assert_equals_the_cpu(codes, queries, 20, mask=packed_mask(rng, MANY, share))


@pytest.mark.parametrize("values", [1, 2, 3])
def test_more_ties_than_the_list_holds(values: int) -> None:
    """With thousands of codes at one distance the keys are computed again; ties keep the lower position."""
    rng = np.random.default_rng(4)
    codes = rng.integers(0, values, (MANY, 8), dtype=np.uint8) // 2
    assert_equals_the_cpu(codes, codes[:2], 50)


def test_codes_that_get_nearer_all_the_way() -> None:
    """Codes in the worst order, each nearer than all before."""
    ones = np.tri(64, 64, -1, dtype=np.uint8)[::-1].repeat(MANY // 64, axis=0)
    assert_equals_the_cpu(np.packbits(ones, axis=1), np.zeros((1, 8), np.uint8), 400)


@pytest.mark.parametrize("k", [4096, 4097, 9000, 25_000])
def test_more_results_than_shared_memory_holds(k: int) -> None:
    """Many results are sorted in scratch memory, and beyond the codes comes padding."""
    rng = np.random.default_rng(5)
    codes, queries = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (MANY, 2))
    assert_equals_the_cpu(codes, queries, k)


@in_every_order
@repeatable
@given(
    rng=generators(),
    count=st.sampled_from([0, 1, 500, MANY]),
    num_lists=st.sampled_from([0, 1, 7, 300]),
    num_probes=st.sampled_from([0, 1, 5, 40]),
    options=st.tuples(st.booleans(), st.booleans()),
)
def test_lists(
    rng: np.random.Generator, count: int, num_lists: int, num_probes: int, options: tuple[bool, bool]
) -> None:
    """Inverted lists, empty and probed twice among them, with ids and a mask."""
    inner = np.sort(rng.integers(0, count + 1, max(num_lists - 1, 0)))
    list_offsets = np.concatenate([[0], inner, [count]]) if num_lists else np.zeros(1, np.int64)
    codes = rng.integers(0, 256, (count if num_lists else 0, 16), dtype=np.uint8)
    queries = rng.integers(0, 256, (3, 16), dtype=np.uint8)
    assert_equals_the_cpu(
        codes,
        queries,
        7,
        mask=packed_mask(rng, len(codes), 0.7) if options[0] else None,
        ids=rng.integers(-(2**62), 2**62, len(codes)) if options[1] else None,
        list_offsets=list_offsets,
        probes=rng.integers(-1, num_lists, (3, num_probes)),
    )


def test_lists_of_copies() -> None:
    """Ties that overflow the list are found again among the probed lists alone."""
    list_offsets = np.array([0, 9_000, 9_001, MANY])
    codes, probes = np.zeros((MANY, 8), np.uint8), np.array([[2, 0, 2, -1], [1, -1, 1, 1]])
    assert_equals_the_cpu(codes, codes[:2], 30, list_offsets=list_offsets, probes=probes)


def test_what_is_no_list_is_skipped() -> None:
    """The host reads no probes there: any number that is no list counts like -1, and lists are cut to the codes."""
    rng = np.random.default_rng(6)
    codes, queries = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (100, 1))
    expected = native.scan(codes, queries, 9, list_offsets=np.array([0, 30, 100]), probes=np.array([[1, 0]]))
    astray = {"list_offsets": np.array([-(2**40), 30, 2**40]), "probes": np.array([[1, 2, -5, 2**62, 0]])}
    arrays = {name: to_device(value) for name, value in astray.items()}
    distances, indices = native.scan(to_device(codes), to_device(queries), 9, **arrays)
    np.testing.assert_array_equal(to_host(distances), expected[0])
    np.testing.assert_array_equal(to_host(indices), expected[1])


@pytest.mark.parametrize("code_bytes", [8, 16, 32, 64])
@pytest.mark.parametrize("shift", [1, 4, 8])
def test_codes_at_an_odd_address(code_bytes: int, shift: int) -> None:
    """Codes that start between multiples of 16 bytes are read word by word or byte by byte."""
    rng = np.random.default_rng(shift)
    codes, queries = (rng.integers(0, 256, (n, code_bytes), dtype=np.uint8) for n in (300, 2))
    padded = to_device(np.concatenate([np.zeros(shift, np.uint8), codes.ravel()]))
    shifted = padded[shift:].reshape(codes.shape)
    distances, indices = native.scan(shifted, to_device(queries), 9)
    expected = native.scan(codes, queries, 9)
    np.testing.assert_array_equal(to_host(distances), expected[0])
    np.testing.assert_array_equal(to_host(indices), expected[1])


@needs_gpu
def test_queries_in_several_batches() -> None:
    """More queries than the scratch memory takes at once; too many threads for the emulated device."""
    rng = np.random.default_rng(7)
    codes, queries = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (10, 1000))
    assert_equals_the_cpu(codes, queries.repeat(150, axis=0), 3)


@needs_gpu
def test_a_graph_replays_it() -> None:
    """It can be captured in a CUDA graph on a stream of its own, and a replay sees new values."""
    import torch

    rng = np.random.default_rng(13)
    codes, queries = (to_device(rng.integers(0, 256, (n, 32), dtype=np.uint8)) for n in (100_000, 5))
    native.scan(codes, queries, 10)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        distances, indices = native.scan(codes, queries, 10)
    queries.copy_(codes[:5])
    graph.replay()
    expected = native.scan(codes, queries, 10)
    assert torch.equal(distances, expected[0])
    assert torch.equal(indices, expected[1])
