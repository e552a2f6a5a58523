"""From decoded pictures to a model's input: with random changes for training, without for evaluation.

What depends on the picture alone, shrinking it to little more than the model's size, is done once (`prepare`). The
random part runs on the whole batch as a tensor: one warp, one matrix on the colours, few small extras.

Legend: b pictures, h and w their size before, H and W after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bowerbird import native
from bowerbird.images import PixelArray
from bowerbird.training.augment.changes import Draws, blur, draw_affine, draw_colour, erase, recolour, warp
from bowerbird.training.augment.config import AugmentConfig
from bowerbird.training.draws import FloatArray, IntArray, mix

Tensor = Any
BoolArray = npt.NDArray[np.bool_]

# Prepared pictures are this much larger than the model's input, so that a crop of them has the detail of the original.
OVERSAMPLE = 1.5


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
        keep_colour: BoolArray | None = None,
    ) -> None:
        """
        Args:
            size: of the model's input, pixels; (height, width) or the side of a square.
            config: how strongly to change.
            mean: of each channel, in units of 0 to 255, as in a model card; subtracted.
            std: of each channel, likewise; divided by.
            seed: of all draws.
            oversample: how much larger than `size` pictures are kept.
            keep_colour: (N,) bool, by row of the table: pictures whose colours stay, as they are a label; None: none.
        """
        self.config = config
        self.size = (size, size) if isinstance(size, int) else size
        self.source_size = (math.ceil(self.size[0] * oversample), math.ceil(self.size[1] * oversample))
        self._seed = seed
        self._keep_colour = keep_colour
        self._mean, self._std = (np.asarray(values, np.float64) / 255 for values in (mean, std))
        self._darkest, self._brightest = (
            torch.from_numpy(((level - self._mean) / self._std).astype(np.float32))[:, None, None] for level in (0, 1)
        )

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
        config = self.config
        draws = Draws(mix(self._seed, step, indices, 0 if copies is None else copies))
        source = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(torch.float32)
        edge = config.fill == "edge"
        affine = draw_affine(draws, config, self.source_size, self.size)
        output = warp(source if edge else source.sub_(255), affine, self.size, edge=edge)
        output = recolour(output, *self._normalise(*self._draw_colour(draws, indices), white_is_zero=not edge))
        output = blur(output, draws, config).clamp_(self._darkest, self._brightest)
        return erase(output, draws, config).contiguous(memory_format=torch.channels_last)

    def _draw_colour(self, draws: Draws, indices: IntArray) -> tuple[FloatArray, FloatArray]:
        if not self.config.colour:
            return np.eye(3)[None].repeat(len(draws), 0), np.zeros((len(draws), 3))
        matrix, offset = draw_colour(draws, self.config)
        if self._keep_colour is not None:
            kept = self._keep_colour[indices]
            matrix[kept], offset[kept] = np.eye(3), 0
        return matrix, offset

    def _normalise(
        self, matrix: FloatArray, offset: FloatArray, *, white_is_zero: bool
    ) -> tuple[FloatArray, FloatArray]:
        """The same map of RGB, but from what `warp` gives, 0 to 255 or -255 to 0, to what the model takes."""
        offset = offset + matrix.sum(2) if white_is_zero else offset
        return matrix / (self._std[:, None] * 255), (offset - self._mean) / self._std


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
