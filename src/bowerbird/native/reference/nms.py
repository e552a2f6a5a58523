"""Non-maximum suppression, by the full matrix of pairs.

Legend: B images, N boxes an image, K of them kept.
"""

from __future__ import annotations

import math

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


def batched_nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    *,
    max_iou: float,
    classes: npt.NDArray[np.int64] | None = None,
    counts: npt.NDArray[np.int32] | None = None,
    max_kept: int | None = None,
    num_threads: int = 1,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Indices (B, max_kept) int64 and counts (B,) int32; see `bowerbird.native.batched_nms`."""
    del num_threads
    width = boxes.shape[1] if max_kept is None else max_kept
    indices, kept_counts = np.full((len(boxes), width), -1, np.int64), np.zeros(len(boxes), np.int32)
    for image in range(len(boxes)):
        real = slice(0, boxes.shape[1] if counts is None else counts[image])
        of_image = None if classes is None else classes[image, real]
        kept = nms(boxes[image, real], scores[image, real], max_iou=max_iou, classes=of_image)[:width]
        indices[image, : len(kept)], kept_counts[image] = kept, len(kept)
    return indices, kept_counts


def soft_nms(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    max_iou: float = 0.3,
    min_score: float = 0.001,
    classes: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Indices (K,) int64 and decayed scores (K,) float32 in the order picked; see `bowerbird.native.soft_nms`."""
    if classes is None:
        classes = np.zeros(len(boxes), np.int64)
    ious = _ious(boxes)
    left = np.where(scores >= np.float32(min_score), scores, np.float32(-1))  # -1: gone
    picked: list[int] = []
    picked_scores: list[np.float32] = []
    while len(left) and left.max() >= 0:
        best = int(left.argmax())  # the first of equal ones
        picked.append(best)
        picked_scores.append(left[best])
        left[best] = -1
        for i in np.flatnonzero((left >= 0) & (classes == classes[best]) & (ious[best] > 0)):
            iou = ious[best, i]
            if method == "gaussian":
                left[i] *= np.float32(math.exp(float(-(iou * iou) / np.float32(sigma))))
            elif iou > np.float32(max_iou):
                left[i] *= np.float32(1) - iou
            if left[i] < np.float32(min_score):
                left[i] = -1
    return np.array(picked, np.int64), np.array(picked_scores, np.float32)


def _overlapping(boxes: npt.NDArray[np.float32], max_iou: np.float32) -> npt.NDArray[np.bool_]:
    """(N, N) bool: the pair's IoU exceeds max_iou. Compared as products, so that no area is divided by zero."""
    inter, union = _shared_and_united(boxes)
    return np.asarray(inter > max_iou * union)


def _ious(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, N) float32; 0 where the pair shares no area."""
    inter, union = _shared_and_united(boxes)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _shared_and_united(
    boxes: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Areas of intersection and union of each pair, (N, N) float32 each."""
    x_min, y_min, x_max, y_max = boxes.T
    areas = np.maximum(x_max - x_min, 0) * np.maximum(y_max - y_min, 0)
    widths = np.maximum(np.minimum.outer(x_max, x_max) - np.maximum.outer(x_min, x_min), 0)
    heights = np.maximum(np.minimum.outer(y_max, y_max) - np.maximum.outer(y_min, y_min), 0)
    inter = widths * heights
    return inter, np.add.outer(areas, areas) - inter
