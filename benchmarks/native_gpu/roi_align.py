"""Regions of feature maps in device memory, beside the two-matrix form in torch, and torchvision where installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.native.roi_align import BINS, MAPS, SAMPLES, SEED, SIDE, proposals, weights
from benchmarks.native_gpu import clock
from bowerbird import native

BOXES, QUICK_BOXES = 1000, 250
REPEATS, QUICK_REPEATS = 51, 15
TOLERANCE = 1e-4  # torchvision computes positions in float32; values are up to 1


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Both layouts."""
    for layout, (channels, last) in MAPS.items():
        yield from measure(layout, channels, last, QUICK_BOXES if quick else BOXES, QUICK_REPEATS if quick else REPEATS)


def measure(layout: str, channels: int, last: bool, count: int, repeats: int) -> list[report.Row]:
    """All boxes on one map."""
    import torch

    rng = np.random.default_rng(SEED)
    corners = proposals(rng, count)
    features: Any = torch.rand(1, channels, SIDE, SIDE, device="cuda")
    if last:
        features = features.contiguous(memory_format=torch.channels_last)
    boxes: Any = torch.from_numpy(corners).cuda()
    images: Any = torch.zeros(count, dtype=torch.int64, device="cuda")
    wy = torch.from_numpy(weights(corners[:, 1], corners[:, 3])).cuda()
    wx = torch.from_numpy(weights(corners[:, 0], corners[:, 2])).cuda()
    by_row = features[0].permute(1, 0, 2).reshape(SIDE, -1)

    def ours() -> Any:
        return native.roi_align(features, boxes, images, output_size=(BINS, BINS), sampling_ratio=SAMPLES)

    def two_matmuls() -> Any:
        blended = (wy.reshape(-1, SIDE) @ by_row).view(count, BINS * channels, SIDE)
        return torch.bmm(blended, wx.transpose(1, 2)).view(count, BINS, channels, BINS).transpose(1, 2)

    peers: dict[str, Callable[[], Any]] = {"torch, two matmuls": two_matmuls}
    if importlib.util.find_spec("torchvision") is not None:
        ops = importlib.import_module("torchvision.ops")
        peers["torchvision"] = lambda: ops.roi_align(features, [boxes], (BINS, BINS), 1.0, SAMPLES, aligned=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    for peer in peers.values():
        torch.testing.assert_close(ours(), peer(), rtol=0, atol=TOLERANCE)
    moved = 4 * (features.numel() + count * channels * BINS * BINS)
    name = f"roi_align {count} boxes of 1x{SIDE}x{SIDE}, {layout} -> {BINS}x{BINS}"
    return clock.compare(name, ours, peers, repeats, floor_bytes=moved)
