"""The compiled suppression against the reference, and what must hold of any suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import box_sets, every_level, repeatable, simd

Array = npt.NDArray[Any]
BoxSet = tuple[Array, Array, Array, float]


@every_level
@repeatable
@given(case=box_sets())
def test_equals_the_reference(level: str, case: BoxSet) -> None:
    """The survivors and their order are the reference's, with classes and without."""
    boxes, scores, classes, max_iou = case
    with simd(level):
        alone = native.nms(boxes, scores, max_iou=max_iou)
        by_class = native.nms(boxes, scores, max_iou=max_iou, classes=classes)
    np.testing.assert_array_equal(alone, reference.nms(boxes, scores, max_iou=max_iou))
    np.testing.assert_array_equal(by_class, reference.nms(boxes, scores, max_iou=max_iou, classes=classes))


@repeatable
@given(case=box_sets())
def test_classes_are_independent(case: BoxSet) -> None:
    """Suppression by class keeps what suppression of each class alone keeps."""
    boxes, scores, classes, max_iou = case
    kept = set(native.nms(boxes, scores, max_iou=max_iou, classes=classes).tolist())
    each = set()
    for class_id in np.unique(classes):
        members = np.flatnonzero(classes == class_id)
        each.update(members[native.nms(boxes[members], scores[members], max_iou=max_iou)].tolist())
    assert kept == each


@repeatable
@given(case=box_sets())
def test_survivors_survive_again(case: BoxSet) -> None:
    """Suppressing the survivors once more removes none."""
    boxes, scores, _, max_iou = case
    kept = native.nms(boxes, scores, max_iou=max_iou)
    np.testing.assert_array_equal(native.nms(boxes[kept], scores[kept], max_iou=max_iou), np.arange(len(kept)))


@every_level
def test_a_pair_at_exactly_the_threshold_survives(level: str) -> None:
    """IoU of 1/2 survives max_iou 0.5 and not the next smaller number."""
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    with simd(level):
        assert native.nms(boxes, scores, max_iou=0.5).tolist() == [0, 1]
        assert native.nms(boxes, scores, max_iou=float(np.nextafter(np.float32(0.5), np.float32(0)))).tolist() == [0]


@every_level
def test_boxes_without_area_survive_and_suppress_nothing(level: str) -> None:
    """Points, lines and inverted boxes have IoU 0 with everything, themselves included."""
    boxes = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 5, 0], [4, 4, 2, 2], [0, 0, 5, 5], [0, 0, 5, 5]], np.float32)
    scores = np.linspace(1, 0.5, 6, dtype=np.float32)
    with simd(level):
        assert native.nms(boxes, scores, max_iou=0.0).tolist() == [0, 1, 2, 3, 4]


def test_both_zeros_are_one_score() -> None:
    """-0.0 and 0.0 tie, so the lower index wins; negative scores sort below them."""
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10], [20, 20, 21, 21]], np.float32)
    scores = np.array([-0.5, -0.0, 0.0, -3.0], np.float32)
    assert native.nms(boxes, scores, max_iou=0.5).tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("count", [5000])
def test_many_boxes_of_many_classes(count: int) -> None:
    """Thousands of clustered boxes give the reference's survivors."""
    rng = np.random.default_rng(12)
    centres = rng.random((50, 2)) * 1000
    corners = centres[rng.integers(0, 50, count)] + rng.normal(0, 8, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 60, (count, 2))], axis=1).astype(np.float32)
    scores, classes = rng.random(count, np.float32), rng.integers(0, 80, count)
    actual = native.nms(boxes, scores, max_iou=0.5, classes=classes)
    np.testing.assert_array_equal(actual, reference.nms(boxes, scores, max_iou=0.5, classes=classes))
