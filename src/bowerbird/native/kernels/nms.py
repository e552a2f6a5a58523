"""Greedy non-maximum suppression.

Legend: N boxes, K of them kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import real
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def nms(boxes: FloatArray, scores: FloatArray, *, max_iou: float, classes: IntArray | None = None) -> IntArray:
    """Indices of the boxes that survive greedy suppression, best score first.

    Args:
        boxes: (N, 4) float32, xyxy, finite, any unit. A box without area (empty or inverted) has IoU 0 with every
            box: it survives and suppresses nothing.
        scores: (N,) float32, finite; ties keep the lower index.
        max_iou: in [0, 1]; a pair at exactly this value survives.
        classes: (N,) int64; boxes of different classes never suppress each other. None: all of one class.
    Returns:
        (K,) int64, K <= N.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    survivors: IntArray = _core.nms(
        place_of(boxes),
        boxes,
        scores,
        real(max_iou, "max_iou"),
        classes,
    )
    return survivors
