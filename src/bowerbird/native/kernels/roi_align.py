"""Regions of feature maps, sampled to one size.

Legend: B maps of C channels, H x W; R boxes; h x w bins a box.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arguments import integer, real
from bowerbird.native.places import place_of

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def roi_align(
    features: FloatArray,
    boxes: FloatArray,
    images: IntArray,
    *,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
    num_threads: int = 1,
) -> FloatArray:
    """For each box and channel h x w bins, each the mean of bilinear samples of the map.

    A bin is cut into sampling_ratio x sampling_ratio parts and sampled at their centres. A sample more than one pixel
    outside of the map counts as zero; one closer takes the value at the border. The two directions are separable, so
    this equals Wy F Wx with one matrix a direction. He et al. 2017, "Mask R-CNN", section 3, with the edge cases of
    torchvision's roi_align; positions are computed in float64, sums in float32.

    Args:
        features: (B, C, H, W) float32, of any strides: channels first or, as `tokens.transpose(0, 3, 1, 2)` has them,
            last; H and W at least 1.
        boxes: (R, 4) float32, xyxy, finite; spatial_scale times a box is in pixels of the map. It may lie outside, be
            empty, or end before it begins (its bins then run backwards; with sampling_ratio 0 they have no samples
            and are zero).
        images: (R,) int64 in [0, B), the map of each box.
        output_size: (h, w), 1 to 1024 each.
        spatial_scale: above 0, at most 1e9.
        sampling_ratio: samples a bin and direction, at most 1024; 0 takes one a pixel, rounded up, for each box.
        aligned: the first pixel's centre is at 0.5. False: at 0, and a box has at least one pixel a side.
        num_threads: 1 to 256.
    Returns:
        (R, C, h, w) float32.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape or value, or an image is no map; the message names the argument.

    On a CUDA device values are not looked at before: a box of no map, and one that is not finite, gives zeros.
    """
    height, width = _size(output_size)
    bins: FloatArray = _core.roi_align(
        place_of(features),
        features,
        boxes,
        images,
        height,
        width,
        real(spatial_scale, "spatial_scale"),
        integer(sampling_ratio, "sampling_ratio"),
        bool(aligned),
        integer(num_threads, "num_threads"),
    )
    return bins


def _size(output_size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = output_size
    except (TypeError, ValueError) as error:
        raise TypeError(f"output_size: expected (height, width), got {output_size!r}") from error
    return integer(height, "output_size"), integer(width, "output_size")
