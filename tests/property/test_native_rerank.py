"""The compiled re-ranking against the reference, and what must hold of any re-ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import METRICS, ROW_TYPES, Reranking, every_level, repeatable, rerankings, rows_of, simd

every_type = pytest.mark.parametrize("row_type", ROW_TYPES)


@every_level
@repeatable
@given(case=rerankings())
def test_equals_the_reference(level: str, case: Reranking) -> None:
    """Where every sum is exact, scores and ids are the reference's to the last bit, ties and padding included."""
    expected = reference.rerank(case.widened, case.queries, case.candidates, case.k, **case.rest)
    with simd(level):
        actual = native.rerank(case.rows, case.queries, case.candidates, case.k, **case.rest)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])


@every_level
@every_type
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [3, 64, 257, 1280])
def test_scores_of_real_numbers(level: str, row_type: str, metric: Any, dimension: int) -> None:
    """Scores of random rows differ from float64 by rounding alone."""
    rng = np.random.default_rng(dimension)
    rows, widened = rows_of(rng.standard_normal((400, dimension)) * 40, row_type)
    scales = rng.random(400, np.float32) if row_type == "int8" else None
    queries = rng.standard_normal((3, dimension)).astype(np.float32)
    candidates = np.tile(np.arange(400), (3, 1))
    with simd(level):
        scores, indices = native.rerank(rows, queries, candidates, 400, metric=metric, scales=scales)
    values = widened.astype(np.float64) * (1.0 if scales is None else scales[:, None])
    terms = (values - queries[:, None]) ** 2 if metric == "l2" else values * queries[:, None]
    if metric == "cosine":
        terms /= np.linalg.norm(values, axis=1)[:, None] * np.linalg.norm(queries, axis=1)[:, None, None]
    exact = np.take_along_axis(terms.sum(axis=2), indices, axis=1)
    # A float32 sum of D terms errs by less than D ulps of the sum of their sizes, and a term by 3; partial sums err
    # less. The length of the cosine is such a sum, too.
    bound = (2 * dimension + 3) * np.finfo(np.float32).eps * np.abs(terms).sum(axis=2).max()
    np.testing.assert_allclose(scores, exact, rtol=0, atol=bound)
    steps = np.diff(scores, axis=1)
    assert ((steps >= 0) if metric == "l2" else (steps <= 0)).all()


@every_level
@pytest.mark.parametrize("dimension", [100, 5000])
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-20, 1.0, 1e30])
def test_int8_rows_and_queries_of_any_size(level: str, dimension: int, size: float) -> None:
    """Where a level multiplies in integers, the rounded query costs no more than 2^-22 of its greatest value."""
    rng = np.random.default_rng(13)
    rows, scales = rng.integers(-128, 128, (50, dimension)).astype(np.int8), rng.random(50, np.float32)
    queries = (rng.standard_normal((2, dimension)) * size * 10.0 ** rng.uniform(-4, 0, dimension)).astype(np.float32)
    with simd(level):
        scores, indices = native.rerank(rows, queries, np.tile(np.arange(50), (2, 1)), 50, scales=scales)
    values = rows.astype(np.float64) * scales[:, None]
    exact = np.take_along_axis(queries.astype(np.float64) @ values.T, indices, axis=1)
    rounding = 2.0**-22 * np.abs(queries).max() * np.abs(values).sum(axis=1).max()
    summing = dimension * 2.0**-24 * (np.abs(queries).astype(np.float64) @ np.abs(values).T).max()
    np.testing.assert_allclose(scores, exact, rtol=0, atol=rounding + summing)


@every_level
@pytest.mark.parametrize("row_type", ["float16", "bfloat16", "int8"])
def test_every_narrow_value(level: str, row_type: str) -> None:
    """Each finite value of a narrow type, denormals included, is widened exactly."""
    if row_type == "int8":
        rows = widened = np.arange(-128, 128).astype(np.int8)[:, None]
    else:
        bits = np.arange(2**16, dtype=np.uint16)
        values = bits.view(np.float16) if row_type == "float16" else (bits.astype(np.uint32) << 16).view(np.float32)
        rows, widened = rows_of(values[np.isfinite(values)][:, None], row_type)
    scales = np.ones(len(widened), np.float32) if row_type == "int8" else None
    with simd(level):
        scores, indices = native.rerank(
            rows, np.ones((1, 1), np.float32), np.arange(len(widened))[None], len(widened), scales=scales
        )
    np.testing.assert_array_equal(scores[0], widened[indices[0], 0].astype(np.float32))


@every_level
@every_type
@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_score_equally_wherever_they_lie(level: str, row_type: str, metric: Any) -> None:
    """Copies of one row get one score, so that they stay in the order of their ids."""
    rng = np.random.default_rng(9)
    rows, _ = rows_of(np.repeat(rng.standard_normal((1, 333)) * 40, 601, axis=0), row_type)
    scales = np.full(601, 0.3, np.float32) if row_type == "int8" else None
    candidates, query = rng.permutation(601)[None], rng.standard_normal((1, 333)).astype(np.float32)
    with simd(level):
        scores, indices = native.rerank(rows, query, candidates, 601, metric=metric, scales=scales)
    assert len(np.unique(scores)) == 1
    np.testing.assert_array_equal(indices[0], np.arange(601))


@every_level
def test_a_near_row_keeps_its_distance(level: str) -> None:
    """Differences are squared, not taken of squares: a row close to a long query has its distance to all digits."""
    query = np.full((1, 100), 1000.0, np.float32)
    rows = query + np.arange(4, dtype=np.float32)[:, None] * 0.125
    with simd(level):
        scores, _ = native.rerank(rows, query, np.arange(4)[None], 4, metric="l2")
    np.testing.assert_array_equal(scores[0], 100 * (np.arange(4) * 0.125) ** 2)


@every_level
def test_a_length_beyond_float32_has_no_cosine(level: str) -> None:
    """A row whose squared length overflows is refused; one whose length is 0 has cosine 0."""
    query = np.ones((1, 2), np.float32)
    with simd(level):
        with pytest.raises(ValueError, match="rows: row 1 has a value that is not finite"):
            native.rerank(np.array([[1, 1], [1e30, 0]], np.float32), query, np.arange(2)[None], 1, metric="cosine")
        scores, indices = native.rerank(
            np.array([[-1, -1], [0, 0]], np.float32), query, np.arange(2)[None], 2, metric="cosine"
        )
    assert indices.tolist() == [[1, 0]]
    np.testing.assert_allclose(scores, [[0, -1]], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_refused_where_it_is_used(bad: float) -> None:
    """Only the scales of candidates are read."""
    rows, scales = np.zeros((3, 5), np.int8), np.array([1, 1, bad], np.float32)
    query = np.ones((1, 5), np.float32)
    for metric in METRICS:
        wanted: Any = {"metric": metric, "scales": scales}
        native.rerank(rows, query, np.array([[0, 1]]), 1, **wanted)
        with pytest.raises(ValueError, match="scales: row 2 has a value that is not finite"):
            native.rerank(rows, query, np.array([[0, 2]]), 1, **wanted)


def test_torch_bfloat16() -> None:
    """A tensor of torch is read as it lies."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    rows = torch.arange(-60, 60).reshape(20, 6).to(torch.bfloat16)
    query, candidates = torch.ones(1, 6), torch.arange(20)[None]
    scores, indices = native.rerank(rows, query, candidates, 3)
    assert indices.tolist() == [[19, 18, 17]]
    assert scores.tolist() == rows.float().sum(dim=1)[[19, 18, 17]][None].tolist()


@every_level
def test_infinite_scores_sort_to_the_ends(level: str) -> None:
    """An infinite value in a row is a score like any other."""
    rows = np.array([[1.0], [np.inf], [-np.inf], [2.0]], np.float32)
    with simd(level):
        scores, indices = native.rerank(rows, np.ones((1, 1), np.float32), np.arange(4)[None], 5)
    assert indices.tolist() == [[1, 3, 0, 2, -1]]
    assert scores.tolist() == [[np.inf, 2.0, 1.0, -np.inf, -np.inf]]


@pytest.mark.parametrize("num_threads", [1, 2, 7])
def test_threads_and_batches_do_not_change_the_result(num_threads: int) -> None:
    """A ragged batch on several threads answers as its queries do one by one."""
    rng = np.random.default_rng(10)
    rows = rng.standard_normal((500, 96)).astype(np.float16)
    queries = rng.standard_normal((23, 96)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 120, 23))])
    candidates = rng.integers(-1, 500, offsets[-1])
    scores, indices = native.rerank(rows, queries, candidates, 30, offsets=offsets, num_threads=num_threads)
    for q in range(len(queries)):
        alone = native.rerank(rows, queries[q : q + 1], candidates[None, offsets[q] : offsets[q + 1]], 30)
        np.testing.assert_array_equal(scores[q], alone[0][0])
        np.testing.assert_array_equal(indices[q], alone[1][0])


@pytest.mark.parametrize("num_threads", [2, 5])
@pytest.mark.parametrize("k", [1, 100, 20_000])
def test_a_long_list_is_shared_out(num_threads: int, k: int) -> None:
    """Threads without a query of their own take a part of another's list; ties across the parts keep their order."""
    rng = np.random.default_rng(12)
    rows = rng.integers(-2, 3, (400, 8)).astype(np.int8)
    queries, scales = rng.integers(-2, 3, (1, 8)).astype(np.float32), np.ones(400, np.float32)
    candidates = rng.integers(-1, 400, (1, 20_000))
    shared = native.rerank(rows, queries, candidates, k, scales=scales, num_threads=num_threads)
    expected = native.rerank(rows, queries, candidates, k, scales=scales)
    np.testing.assert_array_equal(shared[0], expected[0])
    np.testing.assert_array_equal(shared[1], expected[1])


def test_only_gaps_give_only_padding() -> None:
    """A list of nothing but -1 answers with -infinity and -1."""
    scores, indices = native.rerank(
        np.ones((2, 4), np.float32), np.ones((1, 4), np.float32), np.full((1, 6), -1, np.int64), 3
    )
    assert np.isneginf(scores).all()
    assert (indices == -1).all()


def test_reads_a_memory_mapped_file(tmp_path: Path) -> None:
    """Rows may stay in a file."""
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((300, 40)).astype(np.float16)
    (tmp_path / "rows").write_bytes(rows.tobytes())
    mapped = np.memmap(tmp_path / "rows", np.float16, "r", shape=rows.shape)
    queries, candidates = rng.standard_normal((2, 40)).astype(np.float32), rng.integers(0, 300, (2, 50))
    from_file = native.rerank(mapped, queries, candidates, 9)
    np.testing.assert_array_equal(from_file[1], native.rerank(rows, queries, candidates, 9)[1])
