"""From the outputs of a detection network to boxes, pair by pair.

Legend: B images, A anchors, C classes, R bins a side, M detections an image at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.native.reference.nms import nms, soft_nms

FloatArray = npt.NDArray[np.float32]


def detection_postprocess(
    scores: FloatArray,
    boxes: FloatArray,
    *,
    anchors: FloatArray | None = None,
    decoding: str = "none",
    activation: str = "none",
    image_size: tuple[float, float] | None = None,
    min_score: float,
    max_iou: float,
    max_candidates: int = 1000,
    max_detections: int = 100,
    wanted: npt.NDArray[Any] | None = None,
    soft_sigma: float | None = None,
    delta_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    num_threads: int = 1,
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Boxes (B, M, 4), scores (B, M), classes (B, M), counts (B,); see `bowerbird.native.detection_postprocess`."""
    del num_threads
    limit = np.float32(_logit(min_score) if activation == "sigmoid" else min_score)
    found_boxes = np.zeros((len(scores), max_detections, 4), np.float32)
    found_scores = np.zeros((len(scores), max_detections), np.float32)
    found_classes = np.full((len(scores), max_detections), -1, np.int64)
    counts = np.zeros(len(scores), np.int32)
    for image in range(len(scores)):
        anchor_ids, classes = np.nonzero(scores[image] >= limit)
        if wanted is not None:
            chosen = wanted[classes] != 0
            anchor_ids, classes = anchor_ids[chosen], classes[chosen]
        raw = scores[image, anchor_ids, classes]
        best = np.argsort(-raw, kind="stable")[:max_candidates]
        anchor_ids, classes, raw = anchor_ids[best], classes[best], raw[best]
        decoded = np.array(
            [
                _decode(boxes[image, a], None if anchors is None else anchors[a], decoding, delta_weights)
                for a in anchor_ids
            ],
            np.float32,
        ).reshape(-1, 4)
        if image_size is not None:
            height, width = image_size
            decoded = np.clip(decoded, 0, np.array([width, height, width, height], np.float32))
        full = (decoded[:, 0] < decoded[:, 2]) & (decoded[:, 1] < decoded[:, 3])
        decoded, classes, raw = decoded[full], classes[full], raw[full]
        final = raw if activation == "none" else np.array([_sigmoid(x) for x in raw], np.float32)
        if soft_sigma is None:
            by_rank = -np.arange(len(raw), dtype=np.float32)  # they are in order already, and ties are decided
            kept = nms(decoded, by_rank, max_iou=max_iou, classes=classes)
            kept_scores = final[kept]
        else:
            kept, kept_scores = soft_nms(decoded, final, sigma=soft_sigma, min_score=min_score, classes=classes)
        kept, kept_scores = kept[:max_detections], kept_scores[:max_detections]
        counts[image] = len(kept)
        found_boxes[image, : len(kept)] = decoded[kept]
        found_scores[image, : len(kept)] = kept_scores
        found_classes[image, : len(kept)] = classes[kept]
    return found_boxes, found_scores, found_classes, counts


def _decode(
    numbers: FloatArray, anchor: FloatArray | None, decoding: str, delta_weights: Sequence[float]
) -> FloatArray:
    """(4,) float32 xyxy."""
    if decoding == "none":
        return numbers
    assert anchor is not None
    if decoding == "distances":
        bins = numbers.reshape(4, -1)
        left, top, right, bottom = (_expectation(side) * anchor[2] for side in bins)
        return np.array([anchor[0] - left, anchor[1] - top, anchor[0] + right, anchor[1] + bottom], np.float32)
    dx, dy, dw, dh = numbers / np.array(delta_weights, np.float32)
    size = anchor[2:] - anchor[:2]
    center = anchor[:2] + np.float32(0.5) * size
    moved = np.array([dx, dy], np.float32) * size + center
    scale = [np.float32(math.exp(min(d, np.float32(math.log(1000 / 16))))) for d in (dw, dh)]
    half = np.float32(0.5) * (np.array(scale, np.float32) * size)
    return np.concatenate([moved - half, moved + half])


def _expectation(logits: FloatArray) -> np.float32:
    """Mean bin under the softmax of the logits; one number is the distance itself."""
    if len(logits) == 1:
        return np.float32(logits[0])
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.float32((weights * np.arange(len(logits))).sum() / weights.sum())


def _logit(score: float) -> float:
    if score in (0.0, 1.0):
        return -math.inf if score == 0.0 else math.inf
    return math.log(score / (1.0 - score))


def _sigmoid(x: np.float32) -> np.float32:
    return np.float32(0.0 if x < -700 else 1.0 / (1.0 + math.exp(-float(x))))
