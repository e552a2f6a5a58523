"""Picture to normalised input of a model, beside OpenCV, and Pillow with NumPy.

A row whose peer computes something else says so in the peer's name: OpenCV's INTER_LINEAR takes four pixels of the
picture whatever the reduction, reads less than half of it and aliases; nobody compares its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import report
from benchmarks.native import floors
from bowerbird import native

SEED = 20
CASES = (((427, 640), 224), ((427, 640), 320), ((3000, 4000), 640))  # (H, W), side of the output; the last, a photo
MEAN, STD = (127.0, 127.0, 127.0), 128.0
REPEATS, BUDGET_S = 101, 6.0
QUICK_REPEATS, QUICK_BUDGET_S = 21, 0.5

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Three sizes and both filters; every contender allocates its result."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(SEED)
    limits = (QUICK_REPEATS, QUICK_BUDGET_S) if quick else (REPEATS, BUDGET_S)
    for size, side in CASES:
        yield from measure(rng.integers(0, 256, (*size, 3), dtype=np.uint8), side, *limits)


def measure(picture: Array, side: int, repeats: int, budget_s: float) -> Iterator[report.Row]:
    """One picture to one normalised input of the model."""
    std = (STD, STD, STD)

    def ours(resize: Literal["bilinear", "area"]) -> Callable[[], Array]:
        return lambda: native.preprocess([picture], height=side, width=side, mean=MEAN, std=std, resize=resize)

    def opencv(interpolation: int) -> Callable[[], Array]:
        def blob() -> Array:
            resized = cv2.resize(picture, (side, side), interpolation=interpolation)
            return np.asarray(cv2.dnn.blobFromImage(resized, 1 / STD, (side, side), MEAN))

        return blob

    def pillow() -> Array:
        resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(((np.asarray(resized, np.float32) - MEAN) / std).transpose(2, 0, 1), np.float32)[
            None
        ]

    area, linear = opencv(cv2.INTER_AREA), opencv(cv2.INTER_LINEAR)
    np.testing.assert_allclose(ours("area")(), area(), rtol=0, atol=1 / STD)  # OpenCV rounds to bytes
    np.testing.assert_allclose(ours("bilinear")(), pillow(), rtol=0, atol=1.05 / STD)  # Pillow does so twice
    limits = {"sequential read": floors.sequential_read(picture)}
    name = f"preprocess {picture.shape[1]}x{picture.shape[0]} -> {side}x{side}"
    peers = {"OpenCV INTER_AREA + blobFromImage": area}
    yield from report.compare(f"{name}, area", ours("area"), peers, repeats, floors=limits, budget_s=budget_s)
    peers = {"Pillow BILINEAR + NumPy": pillow, "OpenCV INTER_LINEAR (aliases) + blobFromImage": linear}
    yield from report.compare(
        f"{name}, bilinear antialiased", ours("bilinear"), peers, repeats, floors=limits, budget_s=budget_s
    )
