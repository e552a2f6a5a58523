"""Indices of the boxes that survive suppression, beside OpenCV and NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import report
from bowerbird import native

SEED = 20
COUNTS = (1000, 5000, 20_000)
MAX_IOU = 0.5
NUM_CLASSES = 80
REPEATS, QUICK_REPEATS = 101, 11
BUDGET_S, QUICK_BUDGET_S = 8.0, 0.4  # of a row of peers: the slowest takes a quarter of a second a call

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """All boxes alike, and each class apart."""
    rng = np.random.default_rng(SEED)
    cv2.setNumThreads(1)
    for count in COUNTS:
        boxes, scores, classes = detector_boxes(rng, count)
        for of_class in (None, classes):
            yield from measure(boxes, scores, of_class, quick=quick)


def detector_boxes(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Boxes as a detector gives them: about fifty jittered proposals an object, one in five of a class not its own."""
    objects = max(1, count // 50)
    centres, sizes = rng.random((objects, 2)) * 1000, np.exp(rng.normal(4, 0.6, (objects, 2)))
    which = rng.integers(0, objects, count)
    centre = centres[which] + rng.normal(0, 0.1, (count, 2)) * sizes[which]
    size = sizes[which] * np.exp(rng.normal(0, 0.15, (count, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    classes = np.where(rng.random(count) < 0.8, which % NUM_CLASSES, rng.integers(0, NUM_CLASSES, count))
    return boxes, rng.beta(2, 5, count).astype(np.float32), classes


def numpy_nms(boxes: Array, scores: Array, max_iou: float) -> Array:
    """Greedy suppression with one vectorised comparison a survivor."""
    x_min, y_min, x_max, y_max = boxes.T
    areas = (x_max - x_min) * (y_max - y_min)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        width = np.minimum(x_max[best], x_max[rest]) - np.maximum(x_min[best], x_min[rest])
        height = np.minimum(y_max[best], y_max[rest]) - np.maximum(y_min[best], y_min[rest])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        order = rest[inter <= np.float32(max_iou) * (areas[best] + areas[rest] - inter)]
    return np.array(kept)


def numpy_nms_by_class(boxes: Array, scores: Array, classes: Array, max_iou: float) -> Array:
    """One call a class, and the survivors merged."""
    members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    kept = np.concatenate([m[numpy_nms(boxes[m], scores[m], max_iou)] for m in members])
    return np.asarray(kept[np.lexsort((kept, -scores[kept]))])


def opencv_boxes(boxes: Array) -> Array:
    """The same boxes as OpenCV takes them: corner and size, in float64."""
    wide = boxes.astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def make_peers(boxes: Array, scores: Array, classes: Array | None) -> dict[str, Callable[[], Array]]:
    """Who computes the same, handed what it likes best: changing the form of the boxes is not timed."""
    corners = opencv_boxes(boxes)
    if classes is not None:
        return {
            "OpenCV NMSBoxesBatched": lambda: np.asarray(
                cv2.dnn.NMSBoxesBatched(corners, scores, classes, 0.0, MAX_IOU)
            ),
            "NumPy": lambda: numpy_nms_by_class(boxes, scores, classes, MAX_IOU),
        }
    corner_list, score_list = corners.tolist(), scores.tolist()
    return {
        "OpenCV NMSBoxes, arrays": lambda: np.asarray(cv2.dnn.NMSBoxes(corners, scores, 0.0, MAX_IOU)),
        "OpenCV NMSBoxes, lists": lambda: np.asarray(cv2.dnn.NMSBoxes(corner_list, score_list, 0.0, MAX_IOU)),
        "NumPy": lambda: numpy_nms(boxes, scores, MAX_IOU),
    }


def measure(boxes: Array, scores: Array, classes: Array | None, *, quick: bool) -> list[report.Row]:
    """All keep the same boxes in the same order; OpenCV's order among equal scores is its own."""
    kept = native.nms(boxes, scores, max_iou=MAX_IOU, classes=classes)
    peers = make_peers(boxes, scores, classes)
    for name, peer in peers.items():
        np.testing.assert_array_equal(scores[peer()], scores[kept], err_msg=name)
        np.testing.assert_array_equal(np.sort(peer()), np.sort(kept), err_msg=name)
    by_class = "" if classes is None else f", {len(np.unique(classes))} classes"
    return report.compare(
        f"nms {len(boxes)} boxes{by_class}",
        lambda: native.nms(boxes, scores, max_iou=MAX_IOU, classes=classes),
        peers,
        QUICK_REPEATS if quick else REPEATS,
        budget_s=QUICK_BUDGET_S if quick else BUDGET_S,
    )
