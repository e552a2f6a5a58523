"""From decoded pictures to a model's input: with random changes for training, without for evaluation.

What depends on the picture alone, shrinking it to little more than the model's size, is done once (`prepare`). The
random part runs on the whole batch as a tensor: one warp, one matrix on the colours, few small extras. Every number it
draws is a hash of (seed, step, row of the table), so that any process makes the same batch.

Legend: b pictures, h and w their size before, H and W after; colours are 0 to 1 until the last line of a transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from bowerbird import native
from bowerbird.errors import ConfigInvalid
from bowerbird.images import PixelArray
from bowerbird.training.draws import FloatArray, IntArray, WordArray, mix, uniform

Tensor = Any
Range = tuple[float, float]

LUMA = (0.213, 0.715, 0.072)  # ITU-R BT.709, as in the filters of SVG
BLUR_RADIUS = 3  # taps on each side: 2.5 standard deviations of the strongest preset
# Prepared pictures are this much larger than the model's input, so that a crop of them has the detail of the original.
OVERSAMPLE = 1.5


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise ConfigInvalid(f"augmentation.{name}: expected {expected}, got {value}")


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
        if name not in PRESETS:
            raise ConfigInvalid(f"augmentation: expected {' | '.join(PRESETS)}, got {name!r}")
        if unknown := sorted(set(changes) - set(known)):
            raise ConfigInvalid(f"augmentation: unknown {', '.join(unknown)}; known: {', '.join(known)}")
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


class Augment:
    """The transform of training; see `bowerbird.training.loader.Transform`.

    Pictures are squeezed to the model's aspect ratio, as in serving.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        config: AugmentConfig,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        oversample: float = OVERSAMPLE,
    ) -> None:
        """
        Args:
            size: of the model's input, pixels; (height, width) or the side of a square.
            config: how strongly to change.
            mean: of each channel, in units of 0 to 255, as in a model card; subtracted.
            std: of each channel, likewise; divided by.
            seed: of all draws.
            oversample: how much larger than `size` pictures are kept.
        """
        self.config = config
        self.size = (size, size) if isinstance(size, int) else size
        self.source_size = (math.ceil(self.size[0] * oversample), math.ceil(self.size[1] * oversample))
        self._seed = seed
        self._mean, self._std = (torch.tensor(values, dtype=torch.float32) / 255 for values in (mean, std))

    @property
    def min_side(self) -> int:
        """See `Transform.min_side`."""
        return max(self.source_size)

    def prepare(self, pixels: PixelArray) -> PixelArray:
        """(h, w, 3) uint8: the picture at `source_size`."""
        height, width = self.source_size
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))

    def __call__(
        self, pictures: Sequence[PixelArray], indices: IntArray, step: int, copies: IntArray | None = None
    ) -> Tensor:
        """(b, 3, H, W) float32, normalised, in channels-last memory order.

        Args:
            pictures: b as `prepare` makes them.
            indices: (b,) their rows.
            step: global.
            copies: (b,) numbers the appearances of a row in the step, each changed in its own way; None: all are first.
        """
        draws = _Draws(mix(self._seed, step, indices, 0 if copies is None else copies))
        source = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        affine = _draw_affine(draws, self.config, self.source_size, self.size)
        output = _warp(source, affine, self.size, self.config.fill)
        if self.config.colour:
            output = _recolour(output, _draw_colour(draws, self.config))
        output = _blur(output, draws, self.config).clamp_(0, 1)
        output = output.sub_(self._mean[:, None, None]).div_(self._std[:, None, None])
        return _erase(output, draws, self.config).contiguous(memory_format=torch.channels_last)


class Evaluate:
    """The transform of validation: exactly that of serving (`bowerbird.native.preprocess`), nothing random."""

    def __init__(self, size: int | tuple[int, int], *, mean: Sequence[float], std: Sequence[float]) -> None:
        """
        Args:
            size: (height, width) of the model's input, or the side of a square.
            mean: of each channel, 0 to 255.
            std: likewise.
        """
        self.size = (size, size) if isinstance(size, int) else size
        self._mean, self._std = tuple(mean), tuple(std)

    @property
    def min_side(self) -> int:
        """See `Transform.min_side`."""
        return max(self.size)

    def prepare(self, pixels: PixelArray) -> PixelArray:
        """The picture as it is."""
        return pixels

    def __call__(
        self, pictures: Sequence[PixelArray], indices: IntArray, step: int, copies: IntArray | None = None
    ) -> Tensor:
        """(b, 3, H, W) float32, normalised."""
        del indices, step, copies
        height, width = self.size
        batch = native.preprocess(pictures, height=height, width=width, mean=self._mean, std=self._std)
        return torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)


class _Draws:
    """Uniform numbers of each picture of a batch, by name."""

    def __init__(self, words: WordArray) -> None:
        self._words = words

    def between(self, name: str, low: float, high: float) -> FloatArray:
        """(b,) float64, uniform in [low, high)."""
        return low + (high - low) * uniform(self._words, crc32(name.encode()))

    def happens(self, name: str, probability: float) -> FloatArray:
        """(b,) float64, 1 with this probability, else 0."""
        return (self.between(f"p{name}", 0, 1) < probability).astype(np.float64)


def _draw_affine(draws: _Draws, config: AugmentConfig, source: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(b, 2, 3) float32: from output to source coordinates, both -1 to 1 from border to border."""
    zoom = np.sqrt(draws.between("area", *config.area))
    stretch = np.exp(draws.between("aspect", -1, 1) * math.log(config.aspect) / 2)
    turning = draws.happens("turn", config.rotation_probability)
    angle = np.radians(config.rotation) * draws.between("angle", -1, 1) * turning
    mirror = 1 - 2 * draws.happens("flip", config.flip)
    across, down = zoom * stretch, zoom / stretch
    cosine, sine, ratio = np.cos(angle), np.sin(angle), size[0] / size[1]
    right = _slack(across, source[1], size[1]) * draws.between("right", -1, 1)
    below = _slack(down, source[0], size[0]) * draws.between("below", -1, 1)
    first = np.stack([cosine * across * mirror, -sine * down * ratio, right], -1)
    second = np.stack([sine * across * mirror / ratio, cosine * down, below], -1)
    return torch.from_numpy(np.stack([first, second], 1).astype(np.float32))


def _slack(zoom: FloatArray, source: int, output: int) -> FloatArray:
    """How far a crop may move from the middle: (b,) of half the picture's side.

    A crop stays half a pixel inside where it is sampled more finely than the source, so that no fill shines in; a
    shrunken picture stays inside of the output.
    """
    return np.asarray(np.maximum(np.abs(1 - zoom) - np.maximum(1 / source - zoom / output, 0), 0))


def _warp(source: Tensor, affine: Tensor, size: tuple[int, int], fill: str) -> Tensor:
    """(b, 3, H, W): bilinear; white is 0 while outside is filled with it."""
    grid = functional.affine_grid(affine, [len(source), 3, *size], align_corners=False)
    if fill == "edge":
        return functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    return 1 - functional.grid_sample(1 - source, grid, padding_mode="zeros", align_corners=False)


# The part of SVG's `hueRotate` that goes with the sine: a quarter turn about the grey axis, luma kept.
_QUARTER_TURN = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])


def _draw_colour(draws: _Draws, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """(b, 3, 3) and (b, 3, 1) float32, a matrix and an offset: all colour changes are one affine map of RGB."""
    jitter = draws.happens("jitter", config.jitter)
    grey, inverted = draws.happens("grey", config.greyscale), draws.happens("invert", config.invert)
    change = {
        name: jitter * draws.between(name, -1, 1) * getattr(config, name)
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    shifts = np.stack([jitter * draws.between(f"shift{c}", -1, 1) * config.channel_shift for c in range(3)], 1)
    identity, luma = np.eye(3), np.tile(np.asarray(LUMA), (3, 1))
    angle = 2 * math.pi * change["hue"][:, None, None]
    matrix = luma + np.cos(angle) * (identity - luma) + np.sin(angle) * _QUARTER_TURN
    kept = ((1 + change["saturation"]) * (1 - grey))[:, None, None]
    matrix = (identity - 2 * inverted[:, None, None] * luma) @ (luma + kept * (identity - luma)) @ matrix
    contrast = 1 + change["contrast"]
    gain = contrast * (1 + change["brightness"])
    offset = (inverted * gain + 0.5 * (1 - contrast))[:, None] + shifts
    matrix *= gain[:, None, None]
    return torch.from_numpy(matrix.astype(np.float32)), torch.from_numpy(offset.astype(np.float32))[:, :, None]


def _recolour(pictures: Tensor, colour: tuple[Tensor, Tensor]) -> Tensor:
    matrix, offset = colour
    return torch.baddbmm(offset, matrix, pictures.flatten(2)).view_as(pictures)


def _blur(pictures: Tensor, draws: _Draws, config: AugmentConfig) -> Tensor:
    """Only the pictures drawn are blurred, each by its own kernel, columns and rows apart."""
    chosen = torch.from_numpy(np.flatnonzero(draws.happens("blur", config.blur)))
    if not len(chosen):
        return pictures
    sigmas = torch.from_numpy(draws.between("sigma", *config.blur_sigma)).to(torch.float32)[chosen]
    taps = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    kernels = torch.exp(-0.5 * (taps / sigmas[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None, None]  # (3 n, 1, 1, taps)
    part = pictures[chosen].flatten(0, 1)[None]
    part = functional.pad(part, [BLUR_RADIUS] * 4, mode="replicate")
    part = functional.conv2d(part, kernels, groups=len(kernels))
    part = functional.conv2d(part, kernels.transpose(2, 3), groups=len(kernels))
    return pictures.index_copy(0, chosen, part.view(len(chosen), *pictures.shape[1:]))


def _erase(pictures: Tensor, draws: _Draws, config: AugmentConfig) -> Tensor:
    """Zero, which is the mean colour, in a rectangle of some pictures, in place."""
    height, width = pictures.shape[2:]
    area = draws.between("erasearea", *config.erase_area)
    aspect = np.exp(draws.between("eraseshape", -1, 1) * math.log(3) / 2)
    rows, columns = (np.clip(np.sqrt(area * a), 0, 1) for a in (aspect, 1 / aspect))
    tops, lefts = draws.between("top", 0, 1) * (1 - rows), draws.between("left", 0, 1) * (1 - columns)
    for n in np.flatnonzero(draws.happens("erase", config.erase)):
        top, left = int(tops[n] * height), int(lefts[n] * width)
        bottom, right = top + max(round(rows[n] * height), 1), left + max(round(columns[n] * width), 1)
        pictures[n, :, top:bottom, left:right] = 0
    return pictures
