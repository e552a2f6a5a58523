"""Indices of the boxes that survive suppression, beside NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from bowerbird import native

SEED = 20
COUNTS = (1000, 5000)
MAX_IOU = 0.5
REPEATS, QUICK_REPEATS = 101, 21

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """All boxes alike, and each class apart."""
    rng = np.random.default_rng(SEED)
    for count in COUNTS:
        yield from measure(rng, count, QUICK_REPEATS if quick else REPEATS)


def detector_boxes(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Boxes as a detector gives them: about fifty jittered proposals an object, 80 classes."""
    objects = max(1, count // 50)
    centres, sizes = rng.random((objects, 2)) * 1000, np.exp(rng.normal(4, 0.6, (objects, 2)))
    which = rng.integers(0, objects, count)
    centre = centres[which] + rng.normal(0, 0.1, (count, 2)) * sizes[which]
    size = sizes[which] * np.exp(rng.normal(0, 0.15, (count, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    return boxes, rng.beta(2, 5, count).astype(np.float32), which % 80


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


def measure(rng: np.random.Generator, count: int, repeats: int) -> list[report.Row]:
    """Survivors of all boxes, and of each class (the peer: one call a class)."""
    boxes, scores, classes = detector_boxes(rng, count)

    def peer_by_class() -> Array:
        members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
        kept = np.concatenate([m[numpy_nms(boxes[m], scores[m], MAX_IOU)] for m in members])
        return kept[np.lexsort((kept, -scores[kept]))]

    np.testing.assert_array_equal(native.nms(boxes, scores, max_iou=MAX_IOU), numpy_nms(boxes, scores, MAX_IOU))
    np.testing.assert_array_equal(native.nms(boxes, scores, max_iou=MAX_IOU, classes=classes), peer_by_class())
    return [
        *report.compare(
            f"nms {count} boxes",
            lambda: native.nms(boxes, scores, max_iou=MAX_IOU),
            {"NumPy": lambda: numpy_nms(boxes, scores, MAX_IOU)},
            repeats,
        ),
        *report.compare(
            f"nms {count} boxes, {len(np.unique(classes))} classes",
            lambda: native.nms(boxes, scores, max_iou=MAX_IOU, classes=classes),
            {"NumPy": peer_by_class},
            repeats,
        ),
    ]
