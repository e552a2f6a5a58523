"""A batch of pictures in device memory to the normalised input of a model, beside torch's antialiased resize."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

SEED = 20
PICTURE_SIZE, SIDE = (427, 640), 224
BATCHES, QUICK_BATCHES = (1, 8, 64), (8,)
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
REPEATS, QUICK_REPEATS = 51, 15
TOLERANCE = 1e-3  # of normalised values: torch weighs in float32 too, in another order


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Pictures of one size, so that the peer can take the batch at once; ours does not need that."""
    for batch in QUICK_BATCHES if quick else BATCHES:
        yield from measure(batch, QUICK_REPEATS if quick else REPEATS)


def measure(count: int, repeats: int) -> list[report.Row]:
    """Bytes in device memory to float32 in device memory."""
    import torch

    rng = np.random.default_rng(SEED)
    pictures = torch.from_numpy(rng.integers(0, 256, (count, *PICTURE_SIZE, 3), dtype=np.uint8)).cuda()
    images: list[Any] = list(pictures)

    def ours() -> Any:
        return native.preprocess(images, height=SIDE, width=SIDE, mean=MEAN, std=STD)

    def peer() -> Any:
        resized = torch.nn.functional.interpolate(
            pictures.permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="bilinear", antialias=True
        )
        return (resized - MEAN[0]) / STD[0]

    torch.testing.assert_close(ours(), peer(), rtol=0, atol=TOLERANCE)
    name = f"preprocess {count} of {PICTURE_SIZE[1]}x{PICTURE_SIZE[0]} -> {SIDE}x{SIDE}"
    moved = pictures.numel() + count * 3 * SIDE * SIDE * 4
    return clock.compare(name, ours, {"torch interpolate, antialias": peer}, repeats, floor_bytes=moved)
