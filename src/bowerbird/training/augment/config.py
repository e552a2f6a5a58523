"""How strongly training pictures are changed: one frozen table of numbers, and three presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from bowerbird.errors import ConfigInvalid

Range = tuple[float, float]


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise ConfigInvalid(f"augmentation.{name}: expected {expected}, got {value}")


def _is_like(value: object, example: object) -> bool:
    """Whether it is of the example's kind: a number, two numbers, a truth value or text."""
    if isinstance(example, tuple):
        return isinstance(value, list | tuple) and len(value) == 2 and all(_is_like(each, 0.0) for each in value)
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, type(example))


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly training pictures are changed. A probability of 0 or an empty range switches a change off.

    Attributes:
        area: share of the picture that is cropped; above 1, the picture shrinks and has a margin.
        aspect: the crop's aspect ratio is drawn from 1 / aspect to aspect, uniformly in its logarithm.
        rotation: largest angle, degrees, either way.
        rotation_probability: of turning at all.
        flip: probability of mirroring left to right.
        fill: of what lies outside the picture: `white`, or the colour of its nearest `edge`.
        colour: False: none of the colour changes below, whatever their values (where colour is the label).
        jitter: probability of changing brightness, contrast, saturation, hue and channels.
        brightness: largest relative change, either way; so are contrast and saturation.
        contrast: about mid grey.
        saturation: 0 is grey, 1 unchanged.
        hue: largest turn of the colour circle, a share of the full circle.
        channel_shift: largest change of each channel by itself, of its range.
        greyscale: probability of losing the colour.
        invert: probability of inverting the luma, hues kept: black on white becomes white on black.
        blur: probability of a Gaussian blur.
        blur_sigma: its standard deviation, pixels of the output.
        erase: probability of a rectangle of the mean colour.
        erase_area: its share of the picture.
    """

    area: Range = (1.0, 1.0)
    aspect: float = 1.0
    rotation: float = 0.0
    rotation_probability: float = 0.0
    flip: float = 0.0
    fill: Literal["white", "edge"] = "white"
    colour: bool = True
    jitter: float = 0.8
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    channel_shift: float = 0.0
    greyscale: float = 0.0
    invert: float = 0.0
    blur: float = 0.0
    blur_sigma: Range = (0.4, 1.2)
    erase: float = 0.0
    erase_area: Range = (0.03, 0.2)

    def __post_init__(self) -> None:
        for name in ("rotation_probability", "flip", "jitter", "greyscale", "invert", "blur", "erase"):
            _require(0 <= getattr(self, name) <= 1, name, "a probability", getattr(self, name))
        for name in ("rotation", "brightness", "contrast", "saturation", "hue", "channel_shift"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("area", "blur_sigma", "erase_area"):
            _require(0 < getattr(self, name)[0] <= getattr(self, name)[1], name, "0 < low <= high", getattr(self, name))
        _require(self.aspect >= 1, "aspect", "at least 1", self.aspect)
        _require(self.fill in ("white", "edge"), "fill", "`white` or `edge`", self.fill)

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> AugmentConfig:
        """The preset `none`, `light` or `strong`, with some of its values changed.

        Raises:
            ConfigInvalid: an unknown preset or value, or one out of range.
        """
        known = [entry.name for entry in fields(cls)]
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigInvalid(f"augmentation: expected {' | '.join(PRESETS)}, got {name!r}")
        if unknown := sorted(set(changes) - set(known)):
            raise ConfigInvalid(f"augmentation: unknown {', '.join(unknown)}; known: {', '.join(known)}")
        for key, value in changes.items():
            example = getattr(PRESETS[name], key)
            _require(_is_like(value, example), key, f"a value like {example!r}", repr(value))
        return replace(PRESETS[name], **changes)


PRESETS = {
    "none": AugmentConfig(),
    "light": AugmentConfig(
        area=(0.6, 1.1), aspect=1.2, flip=0.5, brightness=0.15, contrast=0.15, saturation=0.2, hue=0.02
    ),
    "strong": AugmentConfig(
        area=(0.35, 1.3), aspect=4 / 3, rotation=20.0, rotation_probability=0.5, flip=0.5,
        brightness=0.3, contrast=0.3, saturation=0.5, hue=0.06, channel_shift=0.04, greyscale=0.1, invert=0.03,
        blur=0.15, erase=0.25,
    ),
}  # fmt: skip
