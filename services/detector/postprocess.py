"""From the outputs of a NanoDet network to boxes.

Source: Li et al., Generalized Focal Loss, 2020, section 3 (a side's distance is the expectation of a distribution over
bins), as used by NanoDet. Each (point, class) pair above the threshold is a candidate; suppression is per class.

Legend: A anchor points, C classes, K bins a side, M candidates, D detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird import native
from bowerbird.models.zoo import DetectorSpec, InputSpec

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_CANDIDATES = 1000  # what suppression looks at; the best 300 of them are returned at most


@dataclass(frozen=True)
class AnchorGrid:
    """Where the anchor points lie, in the order of the network's output.

    Attributes:
        centers: (A, 2) float32, x and y in pixels of the network's input.
        strides: (A,) float32, pixels; the unit of distances from this point.
    """

    centers: FloatArray
    strides: FloatArray

    @classmethod
    def build(cls, spec: DetectorSpec, size: InputSpec) -> AnchorGrid:
        """The grid of a network of this input size: the levels in order, each row by row."""
        centers, strides = [], []
        for stride in spec.strides:
            columns, rows = np.meshgrid(np.arange(size.width // stride), np.arange(size.height // stride))
            centers.append((np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) * stride)
            strides.append(np.full(columns.size, stride))
        return cls(np.concatenate(centers).astype(np.float32), np.concatenate(strides).astype(np.float32))


@dataclass(frozen=True)
class Objects:
    """Detections of one picture, best score first.

    Attributes:
        boxes: (D, 4) float32, xyxy, normalised to [0, 1], not empty.
        scores: (D,) float32 in [0, 1].
        classes: (D,) int64.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray


def find_objects(
    scores: FloatArray,
    distances: FloatArray,
    grid: AnchorGrid,
    size: InputSpec,
    *,
    min_score: float,
    max_iou: float,
    max_detections: int,
    wanted: BoolArray | None = None,
) -> Objects:
    """The objects of one picture.

    Args:
        scores: (A, C) float32 in [0, 1].
        distances: (A, 4 K) float32 logits: K for each of left, top, right, bottom.
        grid: the A points.
        size: of the network's input, pixels.
        min_score: candidates below are left out.
        max_iou: overlap of two kept boxes of the same class, at most.
        max_detections: the best of those kept.
        wanted: (C,) which classes to look for; None: all.
    """
    points, classes = _select(scores, min_score, wanted)
    boxes = _decode_boxes(distances[points], grid.centers[points], grid.strides[points], size)
    candidate_scores = scores[points, classes]
    keep = native.nms(boxes, candidate_scores, max_iou=max_iou, classes=classes)
    keep = keep[(boxes[keep, 0] < boxes[keep, 2]) & (boxes[keep, 1] < boxes[keep, 3])][:max_detections]
    return Objects(boxes[keep], candidate_scores[keep], classes[keep])


def _select(scores: FloatArray, min_score: float, wanted: BoolArray | None) -> tuple[IntArray, IntArray]:
    """Point and class of the best candidates, (M,) int64 each."""
    columns = np.arange(scores.shape[1]) if wanted is None else np.flatnonzero(wanted)
    chosen = scores if wanted is None else scores[:, columns]
    points, positions = np.nonzero(chosen >= min_score)
    if len(points) > MAX_CANDIDATES:
        best = np.argpartition(-chosen[points, positions], MAX_CANDIDATES)[:MAX_CANDIDATES]
        best.sort()  # the order of candidates decides between equal scores: keep it that of the output
        points, positions = points[best], positions[best]
    return points, columns[positions]


def _decode_boxes(logits: FloatArray, centers: FloatArray, strides: FloatArray, size: InputSpec) -> FloatArray:
    """(M, 4) float32 xyxy, normalised and clipped to [0, 1]: the expected distance of each side from its point."""
    bins = logits.reshape(len(logits), 4, logits.shape[1] // 4)
    weights = np.exp(bins - bins.max(axis=2, keepdims=True))
    expected = (weights @ np.arange(bins.shape[2], dtype=np.float32)) / weights.sum(axis=2)
    distances = expected * strides[:, None]
    corners = np.concatenate([centers - distances[:, :2], centers + distances[:, 2:]], axis=1)
    scale = np.array([size.width, size.height, size.width, size.height], np.float32)
    return np.ascontiguousarray(np.clip(corners / scale, 0.0, 1.0), np.float32)
