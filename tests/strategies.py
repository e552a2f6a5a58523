"""Inputs that hypothesis draws for the kernels, and the SIMD levels that every kernel is tested at.

Values are drawn from few choices on purpose: ties, duplicates, touching boxes and exact thresholds are where kernels
go wrong, and random floats never hit them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from bowerbird.native import _core

Array = npt.NDArray[Any]

repeatable = settings(derandomize=True, deadline=None, max_examples=40)
every_level = pytest.mark.parametrize("level", _core.simd_levels())


@contextmanager
def simd(level: str) -> Iterator[None]:
    """Run the block at this level, then go back to the one before."""
    before = _core.simd_level()
    _core.use_simd_level(level)
    try:
        yield
    finally:
        _core.use_simd_level(before)


def generators() -> st.SearchStrategy[np.random.Generator]:
    """A numpy generator from a drawn seed: big arrays at the price of one number."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def code_sets(draw: st.DrawFn) -> tuple[Array, Array, Array | None, int]:
    """Codes (N, W), queries (Q, W), mask or None, and k; most distances tie."""
    rng = draw(generators())
    width = draw(st.sampled_from([8, 16, 24, 32, 40, 64, 72, 128, 256, 504, 512]))
    count = draw(st.sampled_from([0, 1, 3, 31, 32, 33, 64, 65, 127, 1023, 1024, 1025, 2500]))
    pool = rng.integers(0, 256, (8, width), dtype=np.uint8)  # few distinct codes: ties
    codes = pool[rng.integers(0, 8, count)].copy()
    codes[:, rng.integers(0, width, 3)] ^= rng.integers(0, 4, (count, 3), dtype=np.uint8)
    queries = pool[rng.integers(0, 8, draw(st.integers(0, 18)))]
    share = draw(st.sampled_from([None, 0.0, 0.02, 0.3, 1.0]))
    mask = None if share is None else np.packbits(rng.random(count) < share, bitorder="little")
    return codes, queries, mask, draw(st.sampled_from([1, 2, 10, 100, 3000]))


@st.composite
def row_sets(draw: st.DrawFn) -> tuple[Array, Array, Array, int]:
    """Rows (N, D), queries (Q, D), candidates (Q, K) with gaps and repeats, and k.

    Values are small integers: every sum is exact in any order, so that scores must agree to the last bit.
    """
    rng = draw(generators())
    dimension = draw(st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 192, 257]))
    count = draw(st.integers(1, 300))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    rows = rng.integers(-8, 9, (count, dimension)).astype(dtype)
    queries = rng.integers(-8, 9, (draw(st.integers(0, 4)), dimension)).astype(np.float32)
    candidates = rng.integers(-1, count, (len(queries), draw(st.sampled_from([0, 1, 5, 255, 256, 257, 700]))))
    return rows, queries, candidates, draw(st.sampled_from([1, 3, 50, 1000]))


@st.composite
def box_sets(draw: st.DrawFn) -> tuple[Array, Array, Array, float]:
    """Boxes (N, 4), scores (N,), classes (N,) and max_iou.

    On a coarse grid many pairs have exactly the threshold's IoU, share edges, or have no area.
    """
    rng = draw(generators())
    count = draw(st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 100, 300]))
    if draw(st.booleans()):
        boxes = rng.integers(-3, 9, (count, 4)).astype(np.float32)
    else:
        corner = rng.random((count, 2), np.float32) * 10
        boxes = np.concatenate([corner, corner + rng.random((count, 2), np.float32) * 6 - 1], axis=1)
    scores = (rng.integers(-3, 20, count) / 8).astype(np.float32)
    classes = rng.integers(-2, draw(st.sampled_from([-1, 3, 40])), count)
    return boxes, scores, classes, draw(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0]))


def pictures() -> st.SearchStrategy[Array]:
    """A picture (H, W, 3) uint8 of any small size and contrast."""
    sides = st.sampled_from([1, 2, 3, 5, 16, 17, 40, 97, 150])
    return st.builds(
        lambda rng, height, width: rng.integers(0, 256, (height, width, 3), dtype=np.uint8), generators(), sides, sides
    )
