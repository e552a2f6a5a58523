"""Regions of feature maps as two matrix products a box, in float64.

Legend: B maps of C channels, H x W; R boxes; h x w bins a box.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


def roi_align(
    features: FloatArray,
    boxes: FloatArray,
    images: npt.NDArray[np.int64],
    *,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
    num_threads: int = 1,
) -> FloatArray:
    """The bins (R, C, h, w) float32; see `bowerbird.native.roi_align`."""
    del num_threads  # one is enough for an oracle
    _, channels, height, width = features.shape
    bins = np.zeros((len(boxes), channels, *output_size), np.float32)
    shift = 0.5 if aligned else 0.0
    for r, (box, image) in enumerate(zip(boxes.astype(np.float64), images, strict=True)):
        x_min, y_min, x_max, y_max = box * spatial_scale - shift
        if not aligned:
            x_max, y_max = max(x_max, x_min + 1), max(y_max, y_min + 1)
        rows = _weights(y_min, y_max, output_size[0], height, sampling_ratio)
        columns = _weights(x_min, x_max, output_size[1], width, sampling_ratio)
        bins[r] = rows @ features[image].astype(np.float64) @ columns.T
    return bins


def _weights(low: float, high: float, bins: int, lines: int, sampling_ratio: int) -> Matrix:
    """(bins, lines) float64: the mean over a bin's samples of a triangle of one pixel around each."""
    size = (high - low) / bins
    samples = sampling_ratio or np.ceil(size)
    weights = np.zeros((bins, lines))
    if samples <= 0:
        return weights
    for i in range(bins):
        first, count = 0.0, samples
        if samples > 2 * lines + 2048:  # adaptive, and so about a pixel apart: look only at those around the map
            first = max(np.floor((-1 - low - i * size) / (size / samples)) - 1, 0.0)
            count = min(max(samples - first, 0), 2 * lines + 8)
        positions = low + i * size + (first + np.arange(count) + 0.5) * size / samples
        positions = positions[(positions >= -1) & (positions <= lines)]
        distances = np.abs(np.clip(positions, 0, lines - 1)[:, None] - np.arange(lines))
        weights[i] = np.maximum(0.0, 1.0 - distances).sum(axis=0) / samples
    return weights
