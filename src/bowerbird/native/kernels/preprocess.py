"""From pictures to the model's input batch: resize, normalisation and layout in one pass.

Legend: N pictures, H and W size of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer
from bowerbird.native.places import empty, place_of

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

MAX_SIDE = 16384


def preprocess(
    images: Sequence[ByteArray],
    *,
    height: int,
    width: int,
    mean: Sequence[float] | FloatArray,
    std: Sequence[float] | FloatArray,
    out: FloatArray | None = None,
    channel_order: Literal["rgb", "bgr"] = "rgb",
    num_threads: int = 1,
) -> FloatArray:
    """The model's input batch: (resized pixel - mean) / std, one picture a row.

    Resizing is antialiased (triangle filter, as wide as the reduction; Pillow's BILINEAR without rounding to bytes)
    and squeezes any aspect ratio to height x width.

    Args:
        images: N pictures, each (H, W, 3) uint8 RGB, H and W at least 1 and free to differ. Rows may lie apart, so a
            crop `picture[top:bottom, left:right]` is taken as it is.
        height: of the output, pixels, 1 to 16384.
        width: of the output, pixels, 1 to 16384.
        mean: three values in units of pixel values (0 to 255), in the channel order of the output.
        std: three values above 0, likewise.
        out: (N, 3, height, width) float32, C-contiguous and writable, to fill and return; None allocates one.
        channel_order: of the output.
        num_threads: 1 to 256.
    Returns:
        (N, 3, height, width) float32.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    if channel_order not in ("rgb", "bgr"):
        raise ValueError(f"channel_order: expected 'rgb' or 'bgr', got {channel_order!r}")
    place = place_of(images[0]) if len(images) else None
    shape = (len(images), 3, _side(height, "height"), _side(width, "width"))
    batch: FloatArray = empty(place, shape, "float32") if out is None else out
    if tuple(batch.shape) != shape:
        raise ValueError(f"out: expected shape {shape}, got {tuple(batch.shape)}")
    means, deviations = _three(mean, "mean"), _three(std, "std")
    if not (deviations >= np.finfo(np.float32).tiny).all():  # a smaller one has no finite inverse
        raise ValueError(f"std: expected three values above 0, got {deviations.tolist()}")
    threads = integer(num_threads, "num_threads")
    _core.preprocess(place, list(images), means, deviations, channel_order == "bgr", batch, threads)
    return batch


def _side(value: object, name: str) -> int:
    side = integer(value, name)
    if not 1 <= side <= MAX_SIDE:
        raise ValueError(f"{name}: expected 1 to {MAX_SIDE} pixels, got {side}")
    return side


def _three(values: Sequence[float] | FloatArray, name: str) -> FloatArray:
    try:
        channels = np.array(np.real(values), np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected three numbers, got {values!r}") from error
    if channels.shape != (3,) or np.iscomplexobj(values) or not np.isfinite(channels).all():
        raise ValueError(f"{name}: expected three finite numbers, got {values!r}")
    return channels
