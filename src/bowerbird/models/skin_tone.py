"""How light the skin in a photograph is: the individual typology angle (ITA) of its skin pixels.

    ITA = arctan((L* - 50) / b*) * 180 / pi,  in degrees, of CIELAB under D65

Skin pixels are found by colour alone, in YCrCb and HSV at once; the angle is that of the median skin colour. Bins are
those of Chardon et al., so the names are theirs: they describe colour, not people.

Limits, to be read before use:
 - Light decides. ITA is defined for a colorimeter on skin; in a photograph exposure, white balance, shade and flash
   move it by more than the width of a bin. Compare means over many pictures, never decide about one.
 - Skin is guessed by colour. Wood, sand, brick, fur and food of the same colours count as skin, and skin under
   coloured light does not; the rules were made on light and brown skin and miss some of the darkest.
 - Drawn skin is not skin: emoji of the default yellow have an angle too, and it means nothing. The trained head of the
   embedder is for drawn tones; this measure is for photographs.

Sources: Chardon, Cretois, Hourseau, Skin colour typology and suntanning pathways, Int. J. Cosmetic Science 13, 1991
(angle and thresholds); Kolkur et al., Human skin detection using RGB, HSV and YCbCr color models, 2017 (the colour
rules). Deviation: the median of the skin pixels in place of a mean, as stray pixels are certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PixelArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

# Lower bounds in degrees, lightest first.
TYPES = (
    ("very-light", 55.0),
    ("light", 41.0),
    ("intermediate", 28.0),
    ("tan", 10.0),
    ("brown", -30.0),
    ("dark", -90.0),
)
MIN_SHARE = 0.01  # of the picture; fewer skin pixels than this say nothing

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27


@dataclass(frozen=True)
class SkinTone:
    """What was measured on one picture.

    Attributes:
        angle: ITA in degrees, in (-90, 90); NaN where there is too little skin.
        type: name of the bin; empty where there is too little skin.
        share: part of the picture's pixels that were taken for skin, in [0, 1].
    """

    angle: float
    type: str
    share: float


def measure_tone(pixels: PixelArray, *, min_share: float = MIN_SHARE) -> SkinTone:
    """The tone of the skin in a picture.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
        min_share: of skin pixels, below which there is no answer.
    """
    skin = find_skin(pixels)
    share = float(skin.mean())
    if share < min_share or not skin.any():
        return SkinTone(float("nan"), "", share)
    lightness, _, yellowness = np.median(to_lab(pixels[skin]), axis=0)
    angle = float(np.degrees(np.arctan2(lightness - 50.0, max(yellowness, 1e-6))))
    return SkinTone(angle, name_type(angle), share)


def name_type(angle: float) -> str:
    """The bin of an angle in degrees; a bound belongs to the darker bin; empty for NaN."""
    return next((name for name, bound in TYPES if angle > bound), TYPES[-1][0]) if angle == angle else ""


def find_skin(pixels: PixelArray) -> npt.NDArray[np.bool_]:
    """(H, W) bool: where the colour is one that skin has.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
    """
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    largest, smallest = pixels.max(axis=-1).astype(np.float64), pixels.min(axis=-1).astype(np.float64)
    spread = largest - smallest
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    red_difference, blue_difference = 128 + 0.713 * (red - luma), 128 + 0.564 * (blue - luma)
    # Hue of 0 to 50 degrees means that red is the largest and blue the smallest, or nearly.
    hue = np.where(largest == red, 60 * (green - blue) / np.maximum(spread, 1), np.inf)
    saturation = spread / np.maximum(largest, 1)
    by_hue = (hue >= 0) & (hue <= 50) & (saturation >= 0.15) & (saturation <= 0.75)
    by_chroma = (red_difference > 135) & (red_difference < 180) & (blue_difference > 85) & (blue_difference < 135)
    return np.asarray(by_hue & by_chroma & (luma > 30))


def to_lab(pixels: PixelArray) -> FloatArray:
    """(..., 3) float64 CIELAB (D65) of (..., 3) uint8 sRGB: L* in [0, 100], a*, b*."""
    encoded = pixels.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
