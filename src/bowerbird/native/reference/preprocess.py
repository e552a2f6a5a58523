"""Antialiased resize and normalisation in float64, by one matrix a direction.

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
    num_threads: int = 1,
) -> FloatArray:
    """The batch (N, 3, height, width) float32; see `bowerbird.native.preprocess`."""
    del num_threads  # one is enough for an oracle
    batch = np.empty((len(images), 3, height, width), np.float32) if out is None else out
    channels = [0, 1, 2] if channel_order == "rgb" else [2, 1, 0]
    for n, image in enumerate(images):
        rows = _triangle_matrix(image.shape[0], height)
        columns = _triangle_matrix(image.shape[1], width)
        for out_channel, channel in enumerate(channels):
            resized = rows @ image[:, :, channel].astype(np.float64) @ columns.T
            batch[n, out_channel] = (resized - float(mean[out_channel])) / float(std[out_channel])
    return batch


def _triangle_matrix(inputs: int, outputs: int) -> npt.NDArray[np.float64]:
    """(outputs, inputs) float64, rows sum to 1: weights of a triangle around each output's centre."""
    ratio = inputs / outputs
    centres = (np.arange(outputs) + 0.5) * ratio
    offsets = (np.arange(inputs) + 0.5)[None, :] - centres[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(offsets) / max(ratio, 1.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)
