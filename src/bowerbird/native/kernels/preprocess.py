"""From pictures to the model's input batch: resize, normalisation and layout in one pass.

Legend: N pictures, H and W size of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer, real
from bowerbird.native.places import empty, place_of

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

MAX_SIDE = 16384
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def preprocess(
    images: Sequence[ByteArray],
    *,
    height: int,
    width: int,
    mean: Sequence[float] | FloatArray,
    std: Sequence[float] | FloatArray,
    out: FloatArray | None = None,
    channel_order: Literal["rgb", "bgr"] = "rgb",
    resize: Literal["bilinear", "area"] = "bilinear",
    shorter_side: int | None = None,
    num_threads: int = 1,
) -> FloatArray:
    """The model's input batch: (resized pixel - mean) / std, one picture a row.

    A resized pixel is a weighted mean of the picture, in float32, not rounded to bytes.
    "bilinear": a triangle twice as wide as the pixel, and no narrower than two pixels of the picture: antialiased, as
    Pillow's BILINEAR is. "area": a box, exactly the part of the picture that the pixel covers: where the picture is
    reduced, OpenCV's INTER_AREA; where it is enlarged, a pixel that lies within one of the picture copies it.

    Args:
        images: N pictures, each (H, W, 3) uint8 RGB, H and W at least 1 and free to differ. Rows may lie apart, so a
            crop `picture[top:bottom, left:right]` is taken as it is.
        height: of the output, pixels, 1 to 16384.
        width: of the output, pixels, 1 to 16384.
        mean: three values in units of pixel values (0 to 255), in the channel order of the output.
        std: three values above 0, likewise.
        out: (N, 3, height, width) float32, C-contiguous and writable, to fill and return; None allocates one.
        channel_order: of the output.
        resize: the filter.
        shorter_side: pixels, at least height and width: the picture is resized to this shorter side, its aspect kept
            (the longer side rounded down), and height x width is cut from its centre (half of what is left over,
            half to even), as torchvision's Resize and CenterCrop do. None squeezes it to height x width.
        num_threads: 1 to 256.
    Returns:
        (N, 3, height, width) float32.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    if channel_order not in ("rgb", "bgr"):
        raise ValueError(f"channel_order: expected 'rgb' or 'bgr', got {channel_order!r}")
    if resize not in ("bilinear", "area"):
        raise ValueError(f"resize: expected 'bilinear' or 'area', got {resize!r}")
    shorter = 0 if shorter_side is None else _shorter_side(shorter_side, max(height, width))
    place = place_of(images[0]) if len(images) else None
    shape = (len(images), 3, _side(height, "height"), _side(width, "width"))
    batch: FloatArray = empty(place, shape, "float32") if out is None else out
    if tuple(batch.shape) != shape:
        raise ValueError(f"out: expected shape {shape}, got {tuple(batch.shape)}")
    means, deviations = _three(mean, "mean"), _three(std, "std")
    if min(deviations) < SMALLEST:  # has no finite inverse
        raise ValueError(f"std: expected three values above 0, got {deviations}")
    threads = integer(num_threads, "num_threads")
    swap, area = channel_order == "bgr", resize == "area"
    _core.preprocess(place, list(images), means, deviations, swap, area, shorter, batch, threads)
    return batch


def _side(value: object, name: str) -> int:
    side = integer(value, name)
    if not 1 <= side <= MAX_SIDE:
        raise ValueError(f"{name}: expected 1 to {MAX_SIDE} pixels, got {side}")
    return side


def _shorter_side(value: object, longest: int) -> int:
    side = integer(value, "shorter_side")
    if not longest <= side <= MAX_SIDE:
        raise ValueError(
            f"shorter_side: expected {longest} (the output's longer side) to {MAX_SIDE} pixels, got {side}"
        )
    return side


def _three(values: Sequence[float] | FloatArray, name: str) -> tuple[float, ...]:
    try:
        channels = tuple(real(value, name) for value in values)
    except TypeError as error:
        raise TypeError(f"{name}: expected three numbers, got {values!r}") from error
    if len(channels) != 3 or not all(abs(channel) <= LARGEST for channel in channels):  # a NaN is not
        raise ValueError(f"{name}: expected three finite numbers, got {values!r}")
    return channels
