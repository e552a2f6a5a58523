"""Picture to normalised input of a model, beside Pillow and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import report
from bowerbird import native

SEED = 20
PICTURE_SIZE = (427, 640)
SIDES = (224, 320)
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
REPEATS, QUICK_REPEATS = 101, 21

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Two sizes of input."""
    rng = np.random.default_rng(SEED)
    for side in SIDES:
        yield from measure(rng, side, QUICK_REPEATS if quick else REPEATS)


def measure(rng: np.random.Generator, side: int, repeats: int) -> list[report.Row]:
    """One picture to one normalised input of the model."""
    picture = rng.integers(0, 256, (*PICTURE_SIZE, 3), dtype=np.uint8)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    out = np.empty((1, 3, side, side), np.float32)

    def ours() -> Array:
        return native.preprocess([picture], height=side, width=side, mean=mean, std=std, out=out)

    def peer() -> Array:
        resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(((np.asarray(resized, np.float32) - mean) / std).transpose(2, 0, 1))[None]

    np.testing.assert_allclose(ours(), peer(), rtol=0, atol=1.05 / min(STD))  # Pillow rounds twice
    name = f"preprocess {PICTURE_SIZE[1]}x{PICTURE_SIZE[0]} -> {side}x{side}"
    return report.compare(name, ours, {"Pillow BILINEAR + NumPy": peer}, repeats)
