"""Greedy non-maximum suppression, by the full matrix of pairs.

Legend: N boxes, K of them kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    *,
    max_iou: float,
    classes: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """Indices (K,) int64 of the boxes that survive; see `bowerbird.native.nms`."""
    if classes is None:
        classes = np.zeros(len(boxes), np.int64)
    suppresses = _overlapping(boxes, np.float32(max_iou)) & (classes[:, None] == classes[None, :])
    alive = np.ones(len(boxes), bool)
    kept = []
    for i in np.argsort(-scores, kind="stable"):  # stable: ties keep the lower index
        if alive[i]:
            kept.append(i)
            alive &= ~suppresses[i]
    return np.array(kept, np.int64)


def _overlapping(boxes: npt.NDArray[np.float32], max_iou: np.float32) -> npt.NDArray[np.bool_]:
    """(N, N) bool: the pair's IoU exceeds max_iou. Compared as products, so that no area is divided by zero."""
    x_min, y_min, x_max, y_max = boxes.T
    areas = np.maximum(x_max - x_min, 0) * np.maximum(y_max - y_min, 0)
    widths = np.maximum(np.minimum.outer(x_max, x_max) - np.maximum.outer(x_min, x_min), 0)
    heights = np.maximum(np.minimum.outer(y_max, y_max) - np.maximum.outer(y_min, y_min), 0)
    inter = widths * heights
    return np.asarray(inter > max_iou * (np.add.outer(areas, areas) - inter))
