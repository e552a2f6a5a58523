"""Resize, centre crop and normalisation in float64, by one matrix a direction.

Legend: N pictures, H and W size of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def preprocess(
    images: Sequence[npt.NDArray[np.uint8]],
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
    """The batch (N, 3, height, width) float32; see `bowerbird.native.preprocess`."""
    del num_threads  # one is enough for an oracle
    batch = np.empty((len(images), 3, height, width), np.float32) if out is None else out
    channels = [0, 1, 2] if channel_order == "rgb" else [2, 1, 0]
    matrix = {"bilinear": _triangle_matrix, "area": _box_matrix}[resize]
    for n, image in enumerate(images):
        resized_height, resized_width = _resized_size(image.shape[:2], shorter_side) or (height, width)
        rows = _centre(matrix(image.shape[0], resized_height), height)
        columns = _centre(matrix(image.shape[1], resized_width), width)
        for out_channel, channel in enumerate(channels):
            resized = rows @ image[:, :, channel].astype(np.float64) @ columns.T
            batch[n, out_channel] = (resized - float(mean[out_channel])) / float(std[out_channel])
    return batch


def _resized_size(size: tuple[int, ...], shorter_side: int | None) -> tuple[int, int] | None:
    """(height, width) with the aspect kept; None without a shorter side."""
    if shorter_side is None:
        return None
    height, width = size
    shorter = min(height, width)
    return height * shorter_side // shorter, width * shorter_side // shorter


def _centre(matrix: npt.NDArray[np.float64], outputs: int) -> npt.NDArray[np.float64]:
    first = round((len(matrix) - outputs) / 2)  # half to even
    return matrix[first : first + outputs]


def _triangle_matrix(inputs: int, outputs: int) -> npt.NDArray[np.float64]:
    """(outputs, inputs) float64, rows sum to 1: weights of a triangle around each output's centre."""
    ratio = inputs / outputs
    centres = (np.arange(outputs) + 0.5) * ratio
    offsets = (np.arange(inputs) + 0.5)[None, :] - centres[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(offsets) / max(ratio, 1.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


def _box_matrix(inputs: int, outputs: int) -> npt.NDArray[np.float64]:
    """(outputs, inputs) float64, rows sum to 1: the share of each output's span that lies in each input."""
    edges = np.arange(outputs + 1)[:, None] * inputs / outputs
    pixels = np.arange(inputs)[None, :]
    overlaps = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.asarray(np.maximum(overlaps, 0.0) * outputs / inputs, np.float64)
