"""Suppression on a device against the host's, bit for bit; on the emulated device in several orders of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import native
from tests.device_arrays import in_every_order, needs_device, to_device, to_host
from tests.strategies import box_sets, crowds, generators, repeatable

Array = npt.NDArray[Any]

pytestmark = [needs_device, in_every_order]

CHUNK = 1024  # boxes that one block settles


few = settings(repeatable, max_examples=12)  # in each of four orders


def batched_on_device(boxes: Array, scores: Array, **options: Any) -> tuple[Array, Array]:
    arrays = {name: to_device(options.pop(name, None)) for name in ("classes", "counts")}
    indices, counts = native.batched_nms(to_device(boxes), to_device(scores), **arrays, **options)
    return to_host(indices), to_host(counts)


def assert_as_on_the_host(boxes: Array, scores: Array, **options: Any) -> None:
    expected = native.batched_nms(boxes, scores, **options)
    actual = batched_on_device(boxes, scores, **options)
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@few
@given(case=box_sets())
def test_one_image(case: tuple[Array, Array, Array, float]) -> None:
    """Ties, touching boxes, exact thresholds: the survivors and their order are the host's, and so is their shape."""
    boxes, scores, classes, max_iou = case
    for of_box in (None, classes):
        kept = native.nms(to_device(boxes), to_device(scores), max_iou=max_iou, classes=to_device(of_box))
        expected = native.nms(boxes, scores, max_iou=max_iou, classes=of_box)
        np.testing.assert_array_equal(to_host(kept), expected)


@settings(repeatable, max_examples=4)
@given(case=crowds())
def test_segments_of_several_chunks(case: tuple[Array, Array, Array, float]) -> None:
    """More boxes of a class than a block settles, so that chunks wait for each other; extreme coordinates."""
    boxes, scores, classes, max_iou = case
    for of_box in (None, classes):
        options = {} if of_box is None else {"classes": of_box[None]}
        assert_as_on_the_host(boxes[None], scores[None], max_iou=max_iou, **options)


@few
@given(rng=generators(), images=st.integers(0, 5), max_kept=st.sampled_from([None, 0, 1, 3, 40, 5000]))
def test_a_batch(rng: np.random.Generator, images: int, max_kept: int | None) -> None:
    """Images of different counts, classes of any value, limits below and above the survivors."""
    length = int(rng.integers(0, 400))
    corner = rng.integers(0, 60, (images, length, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, corner.shape)], axis=2).astype(np.float32)
    scores = (rng.integers(-5, 5, (images, length)) / 4).astype(np.float32)
    values = np.array([0, 256, -1, 2**62, 2**62 + 1, -(2**63), 511], np.int64)  # some share a bucket
    classes = values[rng.integers(0, len(values), (images, length))]
    counts = rng.integers(0, length + 1, images).astype(np.int32)
    for options in ({}, {"classes": classes}, {"classes": classes, "counts": counts}):
        assert_as_on_the_host(boxes, scores, max_iou=0.25, max_kept=max_kept, **options)


@pytest.mark.parametrize("count", [CHUNK, CHUNK + 1, 2500])
@pytest.mark.parametrize("spread", [30.0, 3000.0])
def test_many_boxes(count: int, spread: float) -> None:
    """Nearly all suppressed, and nearly all kept; lengths around those of tiles and chunks, in a batch of two."""
    rng = np.random.default_rng(count)
    corner = rng.random((2, count, 2)) * spread
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape)], axis=2).astype(np.float32)
    scores = rng.random((2, count), np.float32)
    assert_as_on_the_host(boxes, scores, max_iou=0.5)
    assert_as_on_the_host(boxes, scores, max_iou=0.5, max_kept=50, classes=rng.integers(0, 3, (2, count)))


def test_a_chain_in_which_each_box_suppresses_the_next() -> None:
    """Every second box survives, and each decision waits for the one before: the longest way through a group."""
    left = np.arange(1200, dtype=np.float32) * 4
    boxes = np.stack([left, np.zeros_like(left), left + 10, np.ones_like(left)], axis=1)
    scores = np.linspace(1, 0, len(left), dtype=np.float32)
    kept = native.nms(to_device(boxes), to_device(scores), max_iou=0.25)
    np.testing.assert_array_equal(to_host(kept), np.arange(0, len(left), 2))


def test_what_is_not_finite_is_left_out() -> None:
    """NaN and infinity, in a score or a corner, and counts beyond the ends: as if the boxes were not there."""
    rng = np.random.default_rng(5)
    corner = rng.random((3, 200, 2), np.float32) * 50
    boxes = np.concatenate([corner, corner + 10], axis=2)
    scores = rng.random((3, 200), np.float32)
    bad = rng.random((3, 200)) < 0.3
    spoiled_boxes, spoiled_scores = boxes.copy(), scores.copy()
    for image, box in np.argwhere(bad):
        if rng.random() < 0.5:
            spoiled_boxes[image, box, rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf])
        else:
            spoiled_scores[image, box] = rng.choice([np.nan, np.inf, -np.inf])
    counts = np.array([-7, 10_000, 150], np.int32)
    indices, found = batched_on_device(spoiled_boxes, spoiled_scores, max_iou=0.3, counts=counts)
    for image, count in enumerate(np.clip(counts, 0, 200)):
        members = np.flatnonzero(~bad[image, :count])
        kept = members[native.nms(boxes[image, members], scores[image, members], max_iou=0.3)]
        np.testing.assert_array_equal(indices[image, : found[image]], kept)
        assert (indices[image, found[image] :] == -1).all()


@few
@given(case=box_sets(), gaussian=st.booleans(), min_score=st.sampled_from([0.0, 0.01, 0.5]))
def test_soft(case: tuple[Array, Array, Array, float], gaussian: bool, min_score: float) -> None:
    """The picks, their order and their scores are the host's.

    On a GPU a factor may differ in its last bit, once in 2^28: these cases have none.
    """
    boxes, scores, classes, max_iou = case
    options = {"method": "gaussian" if gaussian else "linear", "max_iou": max_iou, "min_score": min_score}
    for of_box in (None, classes):
        indices, decayed = native.soft_nms(to_device(boxes), to_device(scores), classes=to_device(of_box), **options)
        expected_indices, expected_scores = native.soft_nms(boxes, scores, classes=of_box, **options)
        np.testing.assert_array_equal(to_host(indices), expected_indices)
        np.testing.assert_array_equal(to_host(decayed), expected_scores)


def test_soft_of_more_boxes_than_threads() -> None:
    """A thread holds several boxes; what is not finite is left out."""
    rng = np.random.default_rng(9)
    corner = rng.random((1500, 2), np.float32) * 300
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape).astype(np.float32)], axis=1)
    scores, classes = rng.random(1500, np.float32), rng.integers(0, 4, 1500)
    members = np.flatnonzero(rng.random(1500) < 0.9)
    spoiled = np.full(1500, np.nan, np.float32)
    spoiled[members] = scores[members]
    indices, decayed = native.soft_nms(to_device(boxes), to_device(spoiled), min_score=0.8, classes=to_device(classes))
    expected, expected_scores = native.soft_nms(
        boxes[members], scores[members], min_score=0.8, classes=classes[members]
    )
    np.testing.assert_array_equal(to_host(indices), members[expected])
    np.testing.assert_array_equal(to_host(decayed), expected_scores)
