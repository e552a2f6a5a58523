"""Re-ranking on a CUDA device against the kernel of the CPU, and what must hold there alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from tests.device_arrays import EMULATED, EmulatedArray, in_every_order, needs_device, needs_gpu, to_device, to_host
from tests.strategies import METRICS, ROW_TYPES, Reranking, repeatable, rerankings, rows_of

pytestmark = needs_device

Array = npt.NDArray[Any]


def on_device(rows: Any, queries: Array, candidates: Array, k: int, **rest: Any) -> tuple[Array, Array]:
    """The call with all arrays on the device, its results back."""
    arrays = {name: value if name == "metric" else to_device(value) for name, value in rest.items()}
    scores, ids = native.rerank(to_device(rows), to_device(queries), to_device(candidates), k, **arrays)
    return to_host(scores), to_host(ids)


@in_every_order
@repeatable
@given(case=rerankings())
def test_equals_the_cpu(case: Reranking) -> None:
    """Where every sum is exact, scores and ids are the CPU's to the last bit, ties and padding included."""
    expected = native.rerank(case.rows, case.queries, case.candidates, case.k, **case.rest)
    scores, ids = on_device(case.rows, case.queries, case.candidates, case.k, **case.rest)
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("row_type", ROW_TYPES)
@pytest.mark.parametrize("dimension", [3, 256, 768, 776])
def test_scores_of_real_numbers(row_type: str, metric: Any, dimension: int) -> None:
    """Scores of random rows differ from float64 by rounding alone, in loads of 16 bytes and element by element."""
    rng = np.random.default_rng(dimension)
    rows, widened = rows_of(rng.standard_normal((90, dimension)) * 40, row_type)
    scales = rng.random(90).astype(np.float32) if row_type == "int8" else None
    query = rng.standard_normal((1, dimension)).astype(np.float32)
    scores, ids = on_device(rows, query, np.arange(90)[None], 90, metric=metric, scales=scales)
    exact_rows = widened.astype(np.float64) * (1 if scales is None else scales.astype(np.float64)[:, None])
    terms = {
        "inner_product": exact_rows * query,
        "l2": (exact_rows - query) ** 2,
        "cosine": exact_rows * query / np.linalg.norm(exact_rows, axis=1, keepdims=True) / np.linalg.norm(query),
    }[metric]
    # A lane's float32 sum of D / 32 products and 5 more additions, each of which errs by an ulp of the terms' sizes.
    bound = (dimension / 8 + 10) * np.finfo(np.float32).eps * np.abs(terms).sum(axis=1).max()
    np.testing.assert_allclose(scores[0], terms.sum(axis=1)[ids[0]], rtol=0, atol=bound)
    assert (np.diff(scores[0]) * (1 if metric == "l2" else -1) >= 0).all()


@pytest.mark.parametrize("dimension", [8, 64, 256, 333])
def test_equal_rows_score_equally_wherever_they_lie(dimension: int) -> None:
    """Copies of one row get one score, whichever lanes and warps compute it."""
    rng = np.random.default_rng(9)
    rows = np.repeat(rng.standard_normal((1, dimension)).astype(np.float16), 601, axis=0)
    query = rng.standard_normal((1, dimension)).astype(np.float32)
    scores, ids = on_device(rows, query, rng.permutation(601)[None], 601)
    assert len(np.unique(scores)) == 1
    np.testing.assert_array_equal(ids[0], np.arange(601))


def test_what_is_no_row_is_left_out() -> None:
    """The host reads no candidates there: an id out of range counts like -1, and so does a row that scores NaN."""
    rng = np.random.default_rng(10)
    rows = rng.standard_normal((40, 24)).astype(np.float32)
    query = rng.standard_normal((1, 24)).astype(np.float32)
    candidates = np.arange(40)[None]
    bad = candidates.copy()
    bad[0, [0, 5, 39]] = 40, -(2**62), 2**62
    rows[7] = np.nan
    gaps = np.where((bad == candidates) & (candidates != 7), candidates, -1)
    expected = native.rerank(rows, query, gaps, 45)
    scores, ids = on_device(rows, query, bad, 45)
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offsets", [[-5, 10, 2**60], [0, 25, 10], [30, 0, 30], [-1, -1, -1]])
def test_any_offsets_are_safe(offsets: list[int]) -> None:
    """Offsets that go astray give row ids or -1, whatever they are."""
    rows, queries = np.ones((5, 8), np.float32), np.ones((2, 8), np.float32)
    _, ids = on_device(rows, queries, np.zeros(30, np.int64), 40, offsets=np.array(offsets))
    assert ((ids >= -1) & (ids < 5)).all()


def test_offsets_beyond_the_ends_are_cut() -> None:
    """Ascending offsets mean what lies within the candidates."""
    rows, queries = np.arange(24, dtype=np.float32).reshape(6, 4), np.ones((2, 4), np.float32)
    candidates = np.arange(6)
    cut = on_device(rows, queries, candidates, 7, offsets=np.array([0, 2, 6]))
    np.testing.assert_array_equal(on_device(rows, queries, candidates, 7, offsets=np.array([-9, 2, 99])), cut)


@pytest.mark.parametrize("k", [4096, 4097, 5000, 7000])
def test_more_results_than_shared_memory_holds(k: int) -> None:
    """Many results are sorted in scratch memory; ties keep the lower id there too."""
    rng = np.random.default_rng(11)
    rows = rng.integers(-3, 4, (6000, 4)).astype(np.float32)
    query, candidates = np.ones((1, 4), np.float32), rng.permutation(6000)[None]
    expected = native.rerank(rows, query, candidates, k)
    scores, ids = on_device(rows, query, candidates, k)
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


@pytest.mark.skipif(not EMULATED, reason="needs an array longer than its memory, which torch does not make")
def test_lists_beyond_the_counters_are_refused() -> None:
    """Candidates of a list are counted in 32 bits; the error comes before any memory is asked for."""
    endless = np.lib.stride_tricks.as_strided(np.zeros(1, np.int64), (1, 2**32), (2**35, 8))
    rows = np.ones((5, 8), np.float32)
    with pytest.raises(ValueError, match="candidates: expected lists of less than 2\\^32 on a CUDA device"):
        native.rerank(to_device(rows), to_device(rows[:1]), EmulatedArray(endless), 3)


def test_rows_at_an_odd_address() -> None:
    """Rows that start between multiples of 16 bytes are read element by element."""
    rng = np.random.default_rng(12)
    rows = rng.integers(-8, 9, (50, 64)).astype(np.float16)
    queries, candidates = rng.integers(-8, 9, (2, 64)).astype(np.float32), rng.integers(0, 50, (2, 40))
    padded = to_device(np.concatenate([np.zeros(1, np.float16), rows.ravel()]))
    shifted = padded[1:].reshape(50, 64)
    scores, ids = native.rerank(shifted, to_device(queries), to_device(candidates), 9)
    expected = native.rerank(rows, queries, candidates, 9)
    np.testing.assert_array_equal(to_host(scores), expected[0])
    np.testing.assert_array_equal(to_host(ids), expected[1])


@needs_gpu
def test_a_graph_replays_it() -> None:
    """It can be captured in a CUDA graph on a stream of its own, and a replay sees new values."""
    import torch

    rng = np.random.default_rng(13)
    rows, queries = rng.standard_normal((2, 500, 64)), rng.standard_normal((2, 3, 64))
    candidates = to_device(rng.integers(0, 500, (3, 200)))
    stored, asked = to_device(rows[0].astype(np.float16)), to_device(queries[0].astype(np.float32))
    native.rerank(stored, asked, candidates, 10)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores, ids = native.rerank(stored, asked, candidates, 10)
    stored.copy_(torch.from_numpy(rows[1]))
    asked.copy_(torch.from_numpy(queries[1]))
    graph.replay()
    expected = native.rerank(stored, asked, candidates, 10)
    torch.testing.assert_close(scores, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(ids, expected[1], rtol=0, atol=0)
