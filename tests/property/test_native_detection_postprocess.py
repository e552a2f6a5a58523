"""The fused post-processing against the reference, and what must hold of any."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import every_level, network_outputs, repeatable, simd

Array = npt.NDArray[Any]
Case = tuple[Array, Array, dict[str, Any]]
BOXES = np.array([[[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]]], np.float32)


def assert_same(actual: tuple[Array, ...], expected: tuple[Array, ...], *, exact: bool) -> None:
    """Counts and classes are equal; boxes and scores too, or within the rounding of an expectation over bins."""
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.dtype == theirs.dtype
    np.testing.assert_array_equal(actual[3], expected[3])
    np.testing.assert_array_equal(actual[2], expected[2])
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(actual[1], expected[1], **tolerance)
    np.testing.assert_allclose(actual[0], expected[0], **tolerance)


@every_level
@repeatable
@given(case=network_outputs())
def test_equals_the_reference(level: str, case: Case) -> None:
    """Every decoding, activation and kind of suppression."""
    scores, boxes, options = case
    with simd(level):
        actual = native.detection_postprocess(scores, boxes, **options)
    expected = reference.detection_postprocess(scores, boxes, **options)
    assert_same(actual, expected, exact=boxes.shape[2] == 4)


@repeatable
@given(case=network_outputs())
def test_levels_and_threads_agree_to_the_last_bit(case: Case) -> None:
    """One result whatever the instruction set and the number of threads."""
    scores, boxes, options = case
    expected = native.detection_postprocess(scores, boxes, **options)
    for level in native._core.simd_levels():
        with simd(level):
            actual = native.detection_postprocess(scores, boxes, **options, num_threads=3)
        assert_same(actual, expected, exact=True)


@repeatable
@given(case=network_outputs())
def test_a_batch_is_each_image_alone(case: Case) -> None:
    """No image looks at another."""
    scores, boxes, options = case
    together = native.detection_postprocess(scores, boxes, **options)
    for image in range(len(scores)):
        alone = native.detection_postprocess(scores[image : image + 1], boxes[image : image + 1], **options)
        assert_same(alone, tuple(part[image : image + 1] for part in together), exact=True)


@every_level
@pytest.mark.parametrize("max_candidates", [1, 100, 8000, 100_000])
@pytest.mark.parametrize("distinct", [2, 5000])
def test_the_best_of_very_many_candidates_are_looked_at(level: str, max_candidates: int, distinct: int) -> None:
    """Far more pairs than candidates pass the threshold; of equal scores the lower pairs are chosen."""
    rng = np.random.default_rng(7)
    scores = (rng.integers(0, distinct, (2, 3000, 11)) / distinct).astype(np.float32)
    corner = rng.random((2, 3000, 2), np.float32) * 2000
    boxes = np.concatenate([corner, corner + 1], axis=2)
    with simd(level):
        actual = native.detection_postprocess(
            scores, boxes, min_score=0.0, max_iou=1.0, max_candidates=max_candidates, max_detections=40_000
        )
    assert actual[3].tolist() == [min(max_candidates, 33_000)] * 2
    for image in range(2):
        pairs = np.argsort(-scores[image].ravel(), kind="stable")[:max_candidates]
        found = slice(0, len(pairs))
        np.testing.assert_array_equal(actual[2][image, found], pairs % 11)
        np.testing.assert_array_equal(actual[0][image, found], boxes[image, pairs // 11])


@every_level
@pytest.mark.parametrize("anchors", [1, 15, 16, 63, 64, 65, 1365, 1366, 5000])
def test_nan_is_found_wherever_it_is(level: str, anchors: int) -> None:
    """A score that is not a number is an error, below the threshold or not, wanted or not."""
    rng = np.random.default_rng(anchors)
    scores = rng.random((1, anchors, 3), np.float32)
    scores.reshape(-1)[rng.integers(scores.size)] = np.nan
    with simd(level), pytest.raises(ValueError, match="scores: expected no NaN"):
        native.detection_postprocess(
            scores, np.zeros((1, anchors, 4), np.float32), min_score=2.0, max_iou=0.5, wanted=np.zeros(3, bool)
        )


def test_only_boxes_of_candidates_are_read() -> None:
    """What is not finite matters where it would be decoded, and not elsewhere."""
    scores, boxes = np.array([[[0.9], [0.1]]], np.float32), np.full((1, 2, 4), np.inf, np.float32)
    boxes[0, 0] = [0, 0, 1, 1]
    assert native.detection_postprocess(scores, boxes, min_score=0.5, max_iou=0.5)[3].tolist() == [1]
    with pytest.raises(ValueError, match="boxes: expected finite numbers, also once decoded; anchor 1 has others"):
        native.detection_postprocess(scores, boxes, min_score=0.05, max_iou=0.5)


def test_classes_without_anchors_take_no_memory() -> None:
    """An image without candidates is empty, however many classes there are."""
    scores, boxes = np.empty((1, 0, 2**31 - 1), np.float32), np.empty((1, 0, 4), np.float32)
    for soft_sigma in (None, 0.5):
        found = native.detection_postprocess(scores, boxes, min_score=0.5, max_iou=0.5, soft_sigma=soft_sigma)
        assert found[3].tolist() == [0]


def test_a_score_at_the_threshold_counts() -> None:
    """The threshold is inclusive, as a score and as a logit; one ulp below is out."""
    below = np.nextafter(np.float32(0.25), np.float32(0))
    scores = np.array([[[0.25], [below], [0.0]]], np.float32)
    assert native.detection_postprocess(scores, BOXES, min_score=0.25, max_iou=1.0)[3].tolist() == [1]
    logits = np.array([[[0.0], [np.nextafter(np.float32(0), np.float32(-1))], [-1.0]]], np.float32)
    found = native.detection_postprocess(logits, BOXES, activation="sigmoid", min_score=0.5, max_iou=1.0)
    assert found[3].tolist() == [1]
    assert found[1][0, 0] == 0.5


def test_infinite_logits_are_certain() -> None:
    """Plus infinity is the score 1, minus infinity 0."""
    logits = np.array([[[np.inf], [-np.inf], [0.0]]], np.float32)
    found = native.detection_postprocess(logits, BOXES, activation="sigmoid", min_score=0.0, max_iou=1.0)
    assert found[1][0, :4].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert found[3].tolist() == [3]
    sure = native.detection_postprocess(logits, BOXES, activation="sigmoid", min_score=1.0, max_iou=1.0)
    assert sure[3].tolist() == [1]
