"""From the outputs of a NanoDet network to boxes.

Source: Li et al., Generalized Focal Loss, 2020, section 3 (a side's distance is the expectation of a distribution over
bins), as used by NanoDet. Each (point, class) pair at or above the threshold is a candidate; suppression is per class.

Legend: A anchor points, C classes, K bins a side, D detections.
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
        points: (A, 3) float32: x and y in pixels of the network's input, and the stride in pixels, which is the unit
            of distances from this point.
    """

    points: FloatArray

    @classmethod
    def build(cls, spec: DetectorSpec, size: InputSpec) -> AnchorGrid:
        """The grid of a network of this input size: the levels in order, each row by row."""
        levels = []
        for stride in spec.strides:
            columns, rows = np.meshgrid(np.arange(size.width // stride), np.arange(size.height // stride))
            centers = (np.stack([columns.ravel(), rows.ravel()], 1) + 0.5) * stride
            levels.append(np.insert(centers, 2, stride, axis=1))
        return cls(np.concatenate(levels).astype(np.float32))


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
    Raises:
        ValueError: a score is NaN, or a candidate's logit is not finite.
    """
    found, found_scores, found_classes, counts = native.detection_postprocess(
        scores[None],
        distances[None],
        anchors=grid.points,
        decoding="distances",
        image_size=(size.height, size.width),
        min_score=min_score,
        max_iou=max_iou,
        max_candidates=MAX_CANDIDATES,
        max_detections=max_detections,
        wanted=wanted,
    )
    count = counts[0]
    scale = np.array([size.width, size.height, size.width, size.height], np.float32)
    boxes = np.asarray(found[0, :count] / scale, np.float32)
    keep = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)  # the division may close a gap of one unit in the last place
    return Objects(boxes[keep], found_scores[0, :count][keep], found_classes[0, :count][keep])
