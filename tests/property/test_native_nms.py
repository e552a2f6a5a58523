"""The compiled suppression against the reference, and what must hold of any suppression."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import box_sets, crowds, every_level, generators, repeatable, simd

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


@every_level
@settings(repeatable, max_examples=15)
@given(case=crowds())
def test_many_boxes_equal_the_reference(level: str, case: BoxSet) -> None:
    """Thousands of clustered boxes, which the kernel looks up by place, give the reference's survivors."""
    boxes, scores, classes, max_iou = case
    with simd(level):
        alone = native.nms(boxes, scores, max_iou=max_iou)
        by_class = native.nms(boxes, scores, max_iou=max_iou, classes=classes)
    np.testing.assert_array_equal(alone, reference.nms(boxes, scores, max_iou=max_iou))
    np.testing.assert_array_equal(by_class, reference.nms(boxes, scores, max_iou=max_iou, classes=classes))


@every_level
@pytest.mark.parametrize("far", [1, 20, 300])
@pytest.mark.parametrize("distance", [1e5, -1e5, 3e38])
def test_boxes_far_away_change_nothing(level: str, far: int, distance: float) -> None:
    """Boxes beyond the grid, at every place of the input, are suppressed by each other and by nothing else."""
    rng = np.random.default_rng(9)
    corner = rng.integers(0, 60, (1500, 2)) * 8.0
    boxes = np.concatenate([corner, corner + rng.integers(1, 4, (1500, 2)) * 8], axis=1).astype(np.float32)
    which = rng.choice(1500, far, replace=False)
    boxes[which] += np.float32(distance)
    scores = rng.integers(0, 300, 1500).astype(np.float32)
    with simd(level):
        actual = native.nms(boxes, scores, max_iou=0.3)
    np.testing.assert_array_equal(actual, reference.nms(boxes, scores, max_iou=0.3))


@every_level
@pytest.mark.parametrize("scale", [1.0, 1e-23, 1e30])
def test_areas_out_of_range_change_nothing(level: str, scale: float) -> None:
    """Areas that underflow or overflow float32 give what the same operations of the reference give."""
    rng = np.random.default_rng(4)
    corner = rng.random((900, 2)) * 100
    boxes = (np.concatenate([corner, corner + rng.random((900, 2)) * 30], axis=1) * scale).astype(np.float32)
    scores = rng.random(900, np.float32)
    with simd(level), np.errstate(over="ignore", under="ignore", invalid="ignore"):
        actual, expected = native.nms(boxes, scores, max_iou=0.4), reference.nms(boxes, scores, max_iou=0.4)
    np.testing.assert_array_equal(actual, expected)


@every_level
@repeatable
@given(
    cases=st.lists(box_sets(), max_size=4), max_kept=st.sampled_from([None, 0, 1, 50, 400]), threads=st.integers(1, 3)
)
def test_a_batch_is_each_image_alone(level: str, cases: list[BoxSet], max_kept: int | None, threads: int) -> None:
    """Images padded to one length give what each gives alone, cut to max_kept, and the padding is never looked at."""
    longest = max((len(boxes) for boxes, *_ in cases), default=0)
    boxes, scores = np.ones((len(cases), longest, 4), np.float32), np.full((len(cases), longest), 9, np.float32)
    classes, counts = np.zeros((len(cases), longest), np.int64), np.zeros(len(cases), np.int32)
    for image, case in enumerate(cases):
        counts[image] = count = len(case[0])
        boxes[image, :count], scores[image, :count], classes[image, :count] = case[:3]
    options: dict[str, Any] = {"max_iou": 0.25, "classes": classes, "counts": counts, "max_kept": max_kept}
    with simd(level):
        indices, kept = native.batched_nms(boxes, scores, **options, num_threads=threads)
    expected_indices, expected_kept = reference.batched_nms(boxes, scores, **options)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(kept, expected_kept)
    for image, (alone, of_one, group, _) in enumerate(cases):
        first = native.nms(alone, of_one, max_iou=0.25, classes=group)[: indices.shape[1]]
        np.testing.assert_array_equal(indices[image, : kept[image]], first)


@repeatable
@given(case=box_sets(), rng=generators())
def test_the_order_of_boxes_does_not_matter(case: BoxSet, rng: np.random.Generator) -> None:
    """With distinct scores a permutation of the boxes keeps the same boxes in the same order."""
    boxes, scores, classes, max_iou = case
    scores = rng.permutation(len(scores)).astype(np.float32)
    order = rng.permutation(len(boxes))
    kept = native.nms(boxes, scores, max_iou=max_iou, classes=classes)
    moved = native.nms(boxes[order], scores[order], max_iou=max_iou, classes=classes[order])
    np.testing.assert_array_equal(order[moved], kept)


@every_level
@repeatable
@given(
    case=box_sets(),
    method=st.sampled_from(["gaussian", "linear"]),
    sigma=st.sampled_from([0.01, 0.5, 3.0]),
    min_score=st.sampled_from([0.0, 0.001, 0.5]),
)
def test_soft_suppression_equals_the_reference(
    level: str, case: BoxSet, method: Literal["gaussian", "linear"], sigma: float, min_score: float
) -> None:
    """Indices, their order, and scores to the last bit, with classes and without."""
    boxes, scores, classes, max_iou = case
    for of_class in (None, classes):
        with simd(level):
            indices, decayed = native.soft_nms(
                boxes, scores, method=method, sigma=sigma, max_iou=max_iou, min_score=min_score, classes=of_class
            )
        expected_indices, expected_decayed = reference.soft_nms(
            boxes, scores, method=method, sigma=sigma, max_iou=max_iou, min_score=min_score, classes=of_class
        )
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(decayed, expected_decayed)


def test_soft_suppression_of_one_pair() -> None:
    """The score of the second box falls by exp(-IoU^2 / sigma), or by 1 - IoU where that exceeds max_iou."""
    boxes, scores = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32), np.array([0.5, 0.8], np.float32)
    indices, decayed = native.soft_nms(boxes, scores, sigma=0.5)
    assert indices.tolist() == [1, 0]
    np.testing.assert_allclose(decayed, [0.8, 0.5 * np.exp(-0.5)], rtol=1e-6)
    np.testing.assert_allclose(native.soft_nms(boxes, scores, method="linear", max_iou=0.4)[1], [0.8, 0.25])
    np.testing.assert_allclose(native.soft_nms(boxes, scores, method="linear", max_iou=0.5)[1], [0.8, 0.5])
    assert native.soft_nms(boxes, scores, sigma=0.5, min_score=0.31)[0].tolist() == [1]
