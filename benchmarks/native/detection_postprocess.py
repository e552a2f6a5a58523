"""Detections out of the outputs of a network, beside NumPy with OpenCV's suppression.

Logits are as a trained detector gives them: nearly all pairs of anchor and class lie far below the threshold, noise
lifts about one in a thousand above it, and every object some dozens of anchors in its class. About 0.3 % pass; the row
says how many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.native import floors
from benchmarks.native.nms import opencv_boxes
from bowerbird import native

SEED = 20
IMAGES, SIDE, STRIDES, CLASSES = 8, 640, (8, 16, 32), 80  # 8400 anchors
OBJECTS, ANCHORS_AN_OBJECT = 40, 32  # of an image
MIN_SCORE, MAX_IOU, MAX_CANDIDATES, MAX_DETECTIONS = 0.05, 0.5, 1000, 100
REPEATS, QUICK_REPEATS = 51, 11
BUDGET_S, QUICK_BUDGET_S = 20.0, 3.0

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """A batch of images."""
    rng = np.random.default_rng(SEED)
    cv2.setNumThreads(1)
    anchors = anchor_points()
    scores, boxes = network_outputs(rng, anchors)
    yield from measure(scores, boxes, anchors, quick=quick)


def anchor_points() -> Array:
    """(A, 3) float32: x, y and stride of the points of each level."""
    levels = []
    for stride in STRIDES:
        x, y = np.meshgrid(np.arange(SIDE // stride), np.arange(SIDE // stride))
        points = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride
        levels.append(np.concatenate([points, np.full((len(points), 1), stride)], axis=1))
    return np.concatenate(levels).astype(np.float32)


def network_outputs(rng: np.random.Generator, anchors: Array) -> tuple[Array, Array]:
    """Logits (B, A, C) and distances (B, A, 4) float32: random, but right for the anchors nearest to each object."""
    scores = rng.normal(-6, 1, (IMAGES, len(anchors), CLASSES)).astype(np.float32)
    boxes = np.exp(rng.normal(0.5, 0.5, (IMAGES, len(anchors), 4))).astype(np.float32)
    for image in range(IMAGES):
        centres, sizes = rng.random((OBJECTS, 2)) * SIDE, np.exp(rng.normal(4.3, 0.6, (OBJECTS, 2)))
        for centre, size, class_ in zip(centres, sizes, rng.integers(0, CLASSES, OBJECTS), strict=True):
            stride = STRIDES[int(np.clip(np.log2(size.max() / 32), 0, 2))]
            of_level = np.flatnonzero(anchors[:, 2] == stride)
            away = np.abs(anchors[of_level, :2] - centre).max(axis=1)
            near = of_level[np.argsort(away)[:ANCHORS_AN_OBJECT]]
            jittered = size * np.exp(rng.normal(0, 0.1, (len(near), 2))) / 2
            moved = centre + rng.normal(0, 0.05, (len(near), 2)) * size - anchors[near, :2]
            boxes[image, near] = np.concatenate([jittered - moved, jittered + moved], axis=1) / stride
            scores[image, near, class_] = rng.normal(0, 1.5, len(near))
    return scores, boxes


def measure(scores: Array, boxes: Array, anchors: Array, *, quick: bool) -> list[report.Row]:
    """The peer that decodes and activates everything first, and the one that puts that off; both call OpenCV."""
    peers = {
        "NumPy, OpenCV": lambda: [decode_first(*image, anchors) for image in zip(scores, boxes, strict=True)],
        "NumPy after threshold, OpenCV": lambda: [
            select_first(*image, anchors) for image in zip(scores, boxes, strict=True)
        ],
    }
    for peer in peers.values():
        check(detect(scores, boxes, anchors), peer())
    passing = float((scores >= np.log(MIN_SCORE / (1 - MIN_SCORE))).mean())
    measured = report.compare(
        f"detection_postprocess {IMAGES} images x {len(anchors)} anchors x {CLASSES} classes",
        lambda: detect(scores, boxes, anchors),
        peers,
        QUICK_REPEATS if quick else REPEATS,
        floors={"sequential read": floors.sequential_read(scores)},
        budget_s=QUICK_BUDGET_S if quick else BUDGET_S,
    )
    return [row | {"share_above_threshold": round(passing, 5)} for row in measured]


def detect(scores: Array, boxes: Array, anchors: Array) -> tuple[Array, ...]:
    """Ours."""
    return native.detection_postprocess(
        scores, boxes, anchors=anchors, decoding="distances", activation="sigmoid", image_size=(SIDE, SIDE),
        min_score=MIN_SCORE, max_iou=MAX_IOU, max_candidates=MAX_CANDIDATES, max_detections=MAX_DETECTIONS,
    )  # fmt: skip


def decode_first(logits: Array, distances: Array, anchors: Array) -> tuple[Array, Array, Array]:
    """The plain way: all scores, all boxes, then the threshold."""
    scores, boxes = sigmoid(logits), decode(distances, anchors)
    points, classes = np.nonzero(scores >= MIN_SCORE)
    return suppress(boxes[points], scores[points, classes], classes)


def select_first(logits: Array, distances: Array, anchors: Array) -> tuple[Array, Array, Array]:
    """The careful way: the threshold as a logit; scores and boxes of what is left."""
    points, classes = np.nonzero(logits >= np.float32(np.log(MIN_SCORE / (1 - MIN_SCORE))))
    return suppress(decode(distances[points], anchors[points]), sigmoid(logits[points, classes]), classes)


def sigmoid(logits: Array) -> Array:
    """float32 in (0, 1)."""
    return 1 / (1 + np.exp(-logits))


def decode(distances: Array, anchors: Array) -> Array:
    """(N, 4) float32 xyxy inside the image."""
    reach = distances * anchors[:, 2:]
    return np.clip(np.concatenate([anchors[:, :2] - reach[:, :2], anchors[:, :2] + reach[:, 2:]], axis=1), 0, SIDE)


def suppress(boxes: Array, scores: Array, classes: Array) -> tuple[Array, Array, Array]:
    """The best candidates, suppressed by OpenCV."""
    if len(scores) > MAX_CANDIDATES:
        best = np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES]
        boxes, scores, classes = boxes[best], scores[best], classes[best]
    kept = np.asarray(cv2.dnn.NMSBoxesBatched(opencv_boxes(boxes), scores, classes, 0.0, MAX_IOU))[:MAX_DETECTIONS]
    return boxes[kept], scores[kept], classes[kept]


def check(ours: tuple[Array, ...], theirs: list[tuple[Array, Array, Array]]) -> None:
    """Same detections in the same order."""
    for image, (boxes, scores, classes) in enumerate(theirs):
        count = ours[3][image]
        assert count == len(scores)
        np.testing.assert_array_equal(ours[2][image, :count], classes)
        np.testing.assert_allclose(ours[1][image, :count], scores, rtol=1e-5)
        np.testing.assert_allclose(ours[0][image, :count], boxes, rtol=1e-5, atol=1e-3)
