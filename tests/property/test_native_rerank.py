"""The compiled re-ranking against the reference, and what must hold of any re-ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import every_level, repeatable, row_sets, simd

Array = npt.NDArray[Any]


@every_level
@repeatable
@given(case=row_sets())
def test_equals_the_reference(level: str, case: tuple[Array, Array, Array, int]) -> None:
    """Where every sum is exact, scores and ids are the reference's to the last bit, ties and padding included."""
    rows, queries, candidates, k = case
    expected = reference.rerank(rows, queries, candidates, k)
    with simd(level):
        actual = native.rerank(rows, queries, candidates, k)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])


@every_level
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("dimension", [3, 64, 257, 1280])
def test_scores_of_real_numbers(level: str, dtype: npt.DTypeLike, dimension: int) -> None:
    """Scores of random rows differ from float64 by rounding alone."""
    rng = np.random.default_rng(dimension)
    rows = rng.standard_normal((400, dimension)).astype(dtype)
    queries = rng.standard_normal((3, dimension)).astype(np.float32)
    candidates = np.tile(np.arange(400), (3, 1))
    with simd(level):
        scores, indices = native.rerank(rows, queries, candidates, 400)
    exact = queries.astype(np.float64) @ rows.astype(np.float64).T
    # A float32 sum of D products errs by less than D ulps of the sum of their sizes; the lanes' partial sums err less.
    bound = dimension * np.finfo(np.float32).eps * (np.abs(queries) @ np.abs(rows.astype(np.float32)).T).max()
    np.testing.assert_allclose(scores, np.take_along_axis(exact, indices, axis=1), rtol=0, atol=bound)
    assert (np.diff(scores, axis=1) <= 0).all()


@every_level
def test_every_half_float(level: str) -> None:
    """Each finite float16, denormals included, is widened exactly."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    rows = values[np.isfinite(values)][:, None].copy()
    with simd(level):
        scores, indices = native.rerank(rows, np.ones((1, 1), np.float32), np.arange(len(rows))[None], len(rows))
    np.testing.assert_array_equal(scores[0], rows[indices[0], 0].astype(np.float32))


@every_level
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equal_rows_score_equally_wherever_they_lie(level: str, dtype: npt.DTypeLike) -> None:
    """Copies of one row get one score, so that they stay in the order of their ids."""
    rng = np.random.default_rng(9)
    rows = np.repeat(rng.standard_normal((1, 333)).astype(dtype), 600, axis=0)
    candidates = rng.permutation(600)[None]
    with simd(level):
        scores, indices = native.rerank(rows, rng.standard_normal((1, 333)).astype(np.float32), candidates, 600)
    assert len(np.unique(scores)) == 1
    np.testing.assert_array_equal(indices[0], np.arange(600))


@every_level
def test_infinite_scores_sort_to_the_ends(level: str) -> None:
    """An infinite value in a row is a score like any other."""
    rows = np.array([[1.0], [np.inf], [-np.inf], [2.0]], np.float32)
    with simd(level):
        scores, indices = native.rerank(rows, np.ones((1, 1), np.float32), np.arange(4)[None], 5)
    assert indices.tolist() == [[1, 3, 0, 2, -1]]
    assert scores.tolist() == [[np.inf, 2.0, 1.0, -np.inf, -np.inf]]


@pytest.mark.parametrize("num_threads", [2, 7])
def test_threads_and_batches_do_not_change_the_result(num_threads: int) -> None:
    """A batch on several threads answers as its queries do one by one."""
    rng = np.random.default_rng(10)
    rows = rng.standard_normal((500, 96)).astype(np.float16)
    queries = rng.standard_normal((23, 96)).astype(np.float32)
    candidates = rng.integers(-1, 500, (23, 120))
    scores, indices = native.rerank(rows, queries, candidates, 30, num_threads=num_threads)
    for q in range(len(queries)):
        alone = native.rerank(rows, queries[q : q + 1], candidates[q : q + 1], 30)
        np.testing.assert_array_equal(scores[q], alone[0][0])
        np.testing.assert_array_equal(indices[q], alone[1][0])


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
