"""From the outputs of a detection network to boxes, in one call for a batch.

Legend: B images, A anchors, C classes, R bins a side, M detections an image at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer, real
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]

Decoding = Literal["none", "deltas", "distances"]
Activation = Literal["none", "sigmoid"]


def detection_postprocess(
    scores: FloatArray,
    boxes: FloatArray,
    *,
    anchors: FloatArray | None = None,
    decoding: Decoding = "none",
    activation: Activation = "none",
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
    """The detections of each image, best score first: boxes, scores, classes, and how many there are.

    Every pair of anchor and class at or above `min_score` is a candidate. The best `max_candidates` of an image, ties
    to the lower a * C + c, are decoded, clipped, dropped if empty, and suppressed by class.

    Args:
        scores: (B, A, C) float32, no NaN; with activation "sigmoid" logits, infinite ones too.
        boxes: (B, A, 4 R) float32; finite for every candidate that is decoded, the others are not read. Decoding ends
            once there are max_detections, except with soft_sigma.
        anchors: for "deltas" (A, 4) float32, xyxy; for "distances" (A, 3) float32, x, y and stride; both in pixels.
        decoding: "none": boxes are xyxy in pixels. "deltas": (dx, dy, dw, dh) times delta_weights, relative to the
            anchor box; dw and dh are cut at log(1000 / 16). "distances": left, top, right and bottom from the anchor
            point in strides; with R > 1 the expectation over the softmax of R logits a side.
        activation: of the scores. The order of candidates, and their ties, are those of the logits.
        image_size: height and width in pixels that boxes are clipped to; None: not clipped.
        min_score: as a score, after the activation; a logit is compared with log(min_score / (1 - min_score)) in
            float32.
        max_iou: in [0, 1]; of two kept boxes of a class. A pair at exactly this value survives.
        max_candidates: of an image, at least 1.
        max_detections: M, at least 1.
        wanted: (C,) bool or uint8; only these classes are looked for. None: all.
        soft_sigma: above 0; Gaussian Soft-NMS with this sigma in place of greedy suppression (see `soft_nms`), until
            scores fall below min_score, which then is at least 0. None: greedy.
        delta_weights: above 0; for x, y, width and height.
        num_threads: 1 to 256; images are shared out. A device takes no notice of it.
    Returns:
        boxes (B, M, 4) float32 xyxy in pixels, not empty; scores (B, M) float32 after the activation; classes (B, M)
        int64; counts (B,) int32. Beyond the count boxes and scores are 0 and classes -1.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it. A device does not look at
            values: it leaves out a score that is NaN, and a candidate whose numbers or box are not finite.

    Source: Ren et al., Faster R-CNN, 2015, section 3.1.2 (deltas); Tian et al., FCOS, 2019, section 3.1 (distances);
    Li et al., Generalized Focal Loss, 2020, section 3 (bins).
    """
    if decoding not in ("none", "deltas", "distances"):
        raise ValueError(f"decoding: expected 'none', 'deltas' or 'distances', got {decoding!r}")
    if activation not in ("none", "sigmoid"):
        raise ValueError(f"activation: expected 'none' or 'sigmoid', got {activation!r}")
    return _core.detection_postprocess(
        place_of(scores),
        scores,
        boxes,
        anchors,
        wanted,
        decoding,
        activation,
        None if image_size is None else _numbers(image_size, 2, "image_size"),
        real(min_score, "min_score"),
        real(max_iou, "max_iou"),
        integer(max_candidates, "max_candidates"),
        integer(max_detections, "max_detections"),
        None if soft_sigma is None else real(soft_sigma, "soft_sigma"),
        _numbers(delta_weights, 4, "delta_weights"),
        integer(num_threads, "num_threads"),
    )


def _numbers(values: Sequence[float], count: int, name: str) -> list[float]:
    try:
        numbers = [real(value, name) for value in values]
    except TypeError as error:
        raise TypeError(f"{name}: expected {count} numbers, got {values!r}") from error
    if len(numbers) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(numbers)}")
    return numbers
