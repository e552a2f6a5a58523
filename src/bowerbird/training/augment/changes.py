"""The random changes of a batch, as functions on tensors, and the numbers they draw.

Every number is a hash of (seed, step, row of the table, how often it came before), so that any process makes the same
batch.

Legend: b pictures, h and w their size before, H and W after.
"""

from __future__ import annotations

import math
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.nn import functional

from bowerbird.training.augment.config import AugmentConfig
from bowerbird.training.draws import FloatArray, WordArray, uniform

Tensor = Any

LUMA = (0.213, 0.715, 0.072)  # ITU-R BT.709, as in the filters of SVG
BLUR_RADIUS = 3  # taps on each side: 2.5 standard deviations of the strongest preset


class Draws:
    """Uniform numbers of each picture of a batch, by name."""

    def __init__(self, words: WordArray) -> None:
        """
        Args:
            words: (b,) uint64, a hash of whatever a picture's numbers depend on.
        """
        self._words = words

    def __len__(self) -> int:
        return len(self._words)

    def between(self, name: str, low: float, high: float) -> FloatArray:
        """(b,) float64, uniform in [low, high)."""
        return low + (high - low) * uniform(self._words, crc32(name.encode()))

    def happens(self, name: str, probability: float) -> FloatArray:
        """(b,) float64, 1 with this probability, else 0."""
        return (self.between(f"p{name}", 0, 1) < probability).astype(np.float64)


def draw_affine(draws: Draws, config: AugmentConfig, source: tuple[int, int], size: tuple[int, int]) -> Tensor:
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


def warp(source: Tensor, affine: Tensor, size: tuple[int, int], *, edge: bool) -> Tensor:
    """(b, 3, H, W): the source sampled bilinearly; outside it is 0, or the colour of the nearest edge.

    Args:
        source: (b, 3, h, w) float32.
        affine: (b, 2, 3), see `draw_affine`.
        size: (H, W).
        edge: which of the two.
    """
    grid = functional.affine_grid(affine, [len(source), 3, *size], align_corners=False)
    return functional.grid_sample(source, grid, padding_mode="border" if edge else "zeros", align_corners=False)


# The part of SVG's `hueRotate` that goes with the sine: a quarter turn about the grey axis, luma kept.
_QUARTER_TURN = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])


def draw_colour(draws: Draws, config: AugmentConfig) -> tuple[FloatArray, FloatArray]:
    """(b, 3, 3) and (b, 3) float64, a matrix and an offset: all colour changes are one affine map of RGB, 0 to 1."""
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
    return gain[:, None, None] * matrix, (inverted * gain + 0.5 * (1 - contrast))[:, None] + shifts


def recolour(pictures: Tensor, matrix: FloatArray, offset: FloatArray) -> Tensor:
    """(b, 3, H, W): `matrix @ rgb + offset` of every pixel, each picture with its own."""
    matrices, offsets = (torch.from_numpy(values.astype(np.float32)) for values in (matrix, offset))
    return torch.baddbmm(offsets[:, :, None], matrices, pictures.flatten(2)).view_as(pictures)


def blur(pictures: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """The pictures that are drawn for it blurred, in place, each by its own kernel, columns and rows apart."""
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
    return pictures.index_copy_(0, chosen, part.view(len(chosen), *pictures.shape[1:]))


def erase(pictures: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
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
