"""Rectangles in a picture: one type, so that order and frame of the four numbers are never in doubt.

Legend: N boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.errors import RegionOutOfRange

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """One rectangle normalised to [0, 1] of the upright picture, origin top-left.

    Raises:
        RegionOutOfRange: a coordinate is not finite or outside [0, 1], or the rectangle is empty or inverted.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        sides = (self.x_min, self.y_min, self.x_max, self.y_max)
        if not all(math.isfinite(side) and 0.0 <= side <= 1.0 for side in sides):
            raise RegionOutOfRange(
                f"region coordinates must be finite and in [0, 1], got {sides}; divide pixels by the picture's size",
                field="region",
            )
        if self.x_min >= self.x_max or self.y_min >= self.y_max:
            raise RegionOutOfRange(
                f"region must have x_min < x_max and y_min < y_max, got {sides}",
                field="region",
            )

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels, half open, at least one pixel in each direction."""
        left = min(int(self.x_min * width), width - 1)
        top = min(int(self.y_min * height), height - 1)
        right = max(left + 1, min(width, math.ceil(self.x_max * width)))
        bottom = max(top + 1, min(height, math.ceil(self.y_max * height)))
        return left, top, right, bottom


@dataclass(frozen=True)
class Boxes:
    """N rectangles, xyxy, normalised to [0, 1] of the upright picture, origin top-left.

    Attributes:
        xyxy: (N, 4) float32 in [0, 1]; columns x_min, y_min, x_max, y_max.
    """

    xyxy: FloatArray

    @classmethod
    def from_pixels(cls, xyxy_px: FloatArray, *, width: int, height: int) -> Boxes:
        """Boxes given in pixels of a picture of this size, clipped to it.

        Args:
            xyxy_px: (N, 4) float32, xyxy, pixels.
        """
        scale = np.array([width, height, width, height], np.float32)
        return cls(np.clip(np.asarray(xyxy_px, np.float32).reshape(-1, 4) / scale, 0.0, 1.0).astype(np.float32))

    def __len__(self) -> int:
        return len(self.xyxy)
