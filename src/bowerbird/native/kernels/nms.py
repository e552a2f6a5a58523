"""Non-maximum suppression: greedy, of one image or a batch, and soft.

Legend: B images, N boxes an image, K of them kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer, real
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
CountArray = npt.NDArray[np.int32]


def nms(boxes: FloatArray, scores: FloatArray, *, max_iou: float, classes: IntArray | None = None) -> IntArray:
    """Indices of the boxes that survive greedy suppression, best score first.

    On a CUDA device this call alone waits for the device, because the shape of its result depends on the values;
    `batched_nms` does not.

    Args:
        boxes: (N, 4) float32, xyxy, finite, any unit. A box without area (empty or inverted) has IoU 0 with every
            box: it survives and suppresses nothing.
        scores: (N,) float32, finite; ties keep the lower index. On a device a box or score that is not finite is left
            out.
        max_iou: in [0, 1]; a pair at exactly this value survives.
        classes: (N,) int64; boxes of different classes never suppress each other. None: all of one class.
    Returns:
        (K,) int64, K <= N.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    indices, count = _core.nms(place_of(boxes), boxes, scores, real(max_iou, "max_iou"), classes)
    survivors: IntArray = indices[: int(count[0])]
    return survivors


def batched_nms(
    boxes: FloatArray,
    scores: FloatArray,
    *,
    max_iou: float,
    classes: IntArray | None = None,
    counts: CountArray | None = None,
    max_kept: int | None = None,
    num_threads: int = 1,
) -> tuple[IntArray, CountArray]:
    """For each image the indices of the boxes that survive greedy suppression, best score first.

    Args:
        boxes: (B, N, 4) float32, as in `nms`; finite everywhere, padding included.
        scores: (B, N) float32, as in `nms`.
        max_iou: in [0, 1]; a pair at exactly this value survives.
        classes: (B, N) int64; None: all of one class.
        counts: (B,) int32, 0 to N; only the first so many boxes of an image exist. None: all.
        max_kept: the first so many survivors of an image are given, 0 to 2^31 - 1; None: N.
        num_threads: 1 to 256; images are shared out. A device takes no notice of it; there a box or score that is not
            finite is left out, counts are cut to 0 ... N, and nothing waits.
    Returns:
        indices (B, max_kept) int64, -1 beyond the survivors, and their numbers (B,) int32.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    return _core.batched_nms(
        place_of(boxes),
        boxes,
        scores,
        real(max_iou, "max_iou"),
        classes,
        counts,
        None if max_kept is None else integer(max_kept, "max_kept"),
        integer(num_threads, "num_threads"),
    )


def soft_nms(
    boxes: FloatArray,
    scores: FloatArray,
    *,
    method: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    max_iou: float = 0.3,
    min_score: float = 0.001,
    classes: IntArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Indices and decayed scores of the boxes, in the order picked: the best, which decays those it overlaps.

    On a CUDA device this call waits for the device, as `nms` does.

    Args:
        boxes: (N, 4) float32, as in `nms`.
        scores: (N,) float32, finite; ties go to the lower index. On a device a box or score that is not finite is left
            out.
        method: "gaussian" multiplies a score by exp(-(IoU * IoU) / sigma), "linear" by 1 - IoU where IoU > max_iou.
        sigma: above 0; for "gaussian".
        max_iou: in [0, 1]; for "linear".
        min_score: at least 0; a box whose score is or falls below is dropped.
        classes: (N,) int64; boxes of different classes leave each other's scores alone. None: all of one class.
    Returns:
        indices (K,) int64 and scores (K,) float32 as they were when picked, K <= N. Each operation is rounded to
        float32, the exponential from its value in float64: the result is the same on every instruction set.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.

    Source: Bodla et al., Soft-NMS, 2017, figure 2 and section 3.
    """
    if method not in ("gaussian", "linear"):
        raise ValueError(f"method: expected 'gaussian' or 'linear', got {method!r}")
    indices, decayed, count = _core.soft_nms(
        place_of(boxes),
        boxes,
        scores,
        method == "gaussian",
        real(sigma, "sigma"),
        real(max_iou, "max_iou"),
        real(min_score, "min_score"),
        classes,
    )
    kept = int(count[0])
    return indices[:kept], decayed[:kept]
