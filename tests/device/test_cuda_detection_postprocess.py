"""Detection post-processing on a device against the host's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from bowerbird import native
from tests.device_arrays import in_every_order, needs_device, to_device, to_host
from tests.strategies import network_outputs, repeatable

Array = npt.NDArray[Any]

pytestmark = [needs_device, in_every_order]

SPILLED = 4096  # candidates beyond these are sorted outside of shared memory


def on_device(scores: Array, boxes: Array, **options: Any) -> tuple[Array, ...]:
    arrays = {name: to_device(options.pop(name, None)) for name in ("anchors", "wanted")}
    found = native.detection_postprocess(to_device(scores), to_device(boxes), **arrays, **options)
    return tuple(to_host(part) for part in found)


def assert_as_on_the_host(scores: Array, boxes: Array, **options: Any) -> None:
    """To the bit: the exponentials of both agree but for one value in 2^28, which these cases do not have."""
    expected = native.detection_postprocess(scores, boxes, **options)
    for got, wanted in zip(on_device(scores, boxes, **options), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@settings(repeatable, max_examples=15)  # in each of four orders
@given(case=network_outputs())
def test_as_on_the_host(case: tuple[Array, Array, dict[str, Any]]) -> None:
    """Every decoding, activation and kind of suppression."""
    scores, boxes, options = case
    assert_as_on_the_host(scores, boxes, **options)


@pytest.mark.parametrize("max_candidates", [1, 1500, SPILLED + 1, 100_000])
@pytest.mark.parametrize("distinct", [2, 5000])
def test_the_best_of_very_many_pairs(max_candidates: int, distinct: int) -> None:
    """Far more pairs than candidates pass the threshold, so lists are narrowed; of equal scores the lower stay."""
    rng = np.random.default_rng(7)
    scores = (rng.integers(0, distinct, (1, 800, 11)) / distinct).astype(np.float32)
    corner = rng.random((1, 800, 2), np.float32) * 300
    boxes = np.concatenate([corner, corner + 10], axis=2)
    options = {"min_score": 0.0, "max_iou": 0.5, "max_candidates": max_candidates}
    assert_as_on_the_host(scores, boxes, max_detections=40_000 if distinct == 2 else 100, **options)


def test_a_bin_with_more_keys_than_the_short_list_holds() -> None:
    """All scores are alike: then the long list is searched."""
    scores = np.full((1, 33_000, 2), 0.5, np.float32)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (1, 33_000, 1))
    found = on_device(scores, boxes, min_score=0.5, max_iou=0.5, max_candidates=10)
    assert found[3].tolist() == [2]
    assert found[2][0, :3].tolist() == [0, 1, -1]


def test_what_is_no_number_is_left_out() -> None:
    """A NaN score is no candidate; a candidate whose numbers or box are not finite is dropped after the selection."""
    rng = np.random.default_rng(3)
    scores = rng.random((2, 60, 3), np.float32)
    corner = rng.random((2, 60, 2), np.float32) * 50
    boxes = np.concatenate([corner, corner + 10], axis=2)
    bad = rng.random((2, 60)) < 0.4
    spoiled = boxes.copy()
    spoiled[bad, rng.integers(0, 4, bad.sum())] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
    boxes[bad] = 0  # empty, so the host drops it at the same point
    scores[rng.random(scores.shape) < 0.2] = -1
    options = {"min_score": 0.1, "max_iou": 0.3, "max_candidates": 70}
    expected = native.detection_postprocess(scores, boxes, **options)
    actual = on_device(np.where(scores == -1, np.float32(np.nan), scores), spoiled, **options)
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
