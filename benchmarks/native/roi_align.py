"""Regions of feature maps, sampled to 7 x 7 bins, beside the two-matrix form in torch and in NumPy.

The peers' matrices, and the layout of the maps that suits them, are made outside of the clock; ours computes its
weights within. The floor is what has to be written, as memory that is new to the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import report
from bowerbird import native

SEED = 20
BOXES, QUICK_BOXES = 1000, 250
SIDE, BINS, SAMPLES = 50, 7, 2
MAPS = {"256 channels first": (256, False), "768 channels last": (768, True)}
REPEATS, BUDGET_S, QUICK_BUDGET_S = 21, 8.0, 0.5
TOLERANCE = 1e-5  # float32 sums in another order, of values up to 1
PEER_ROUND = 125  # boxes: the peers' intermediate arrays stay below 1 GB

Array = npt.NDArray[Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Both layouts."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    for layout, (channels, last) in MAPS.items():
        features = rng.random((1, channels, SIDE, SIDE), np.float32)
        if last:
            features = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        boxes = proposals(rng, QUICK_BOXES if quick else BOXES)
        yield from measure(layout, features, boxes, QUICK_BUDGET_S if quick else BUDGET_S)


def proposals(rng: np.random.Generator, count: int) -> Array:
    """Boxes as a region proposal network gives them: areas spread over octaves, some cut by the border."""
    centres, sizes = rng.random((count, 2)) * SIDE, 2 ** rng.uniform(1.5, 5.2, (count, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return np.clip(boxes, 0, SIDE).astype(np.float32)


def weights(low: Array, high: Array) -> Array:
    """(R, bins, lines) float32, one matrix a box."""
    steps = (np.arange(BINS * SAMPLES) + 0.5) / (BINS * SAMPLES)
    positions = low[:, None] - 0.5 + (high - low)[:, None] * steps
    inside = (positions >= -1) & (positions <= SIDE)
    distances = np.abs(np.clip(positions, 0, SIDE - 1)[..., None] - np.arange(SIDE))
    each = np.maximum(0, 1 - distances) * inside[..., None]
    return np.asarray(each.reshape(len(low), BINS, SAMPLES, SIDE).mean(axis=2), np.float32)


def measure(layout: str, features: Array, boxes: Array, budget_s: float) -> list[report.Row]:
    """All boxes on one map."""
    images = np.zeros(len(boxes), np.int64)
    wy, wx = weights(boxes[:, 1], boxes[:, 3]), weights(boxes[:, 0], boxes[:, 2])
    ty, tx = torch.from_numpy(wy), torch.from_numpy(wx)
    planes = np.ascontiguousarray(features[0])
    by_row = torch.from_numpy(np.ascontiguousarray(features[0].transpose(1, 0, 2)).reshape(SIDE, -1))
    shape = (len(boxes), features.shape[1], BINS, BINS)

    def ours() -> Array:
        return native.roi_align(features, boxes, images, output_size=(BINS, BINS), sampling_ratio=SAMPLES)

    def by_torch() -> Array:
        out = torch.empty(shape)
        for first in range(0, len(boxes), PEER_ROUND):
            part = slice(first, first + PEER_ROUND)
            blended = (ty[part].reshape(-1, SIDE) @ by_row).view(-1, BINS * shape[1], SIDE)  # one large product
            bins = torch.bmm(blended, tx[part].transpose(1, 2))
            out[part] = bins.view(-1, BINS, shape[1], BINS).transpose(1, 2)
        return out.numpy()

    def by_numpy() -> Array:
        out = np.empty(shape, np.float32)
        for r in range(len(boxes)):
            np.matmul(wy[r] @ planes, wx[r].T, out=out[r])
        return out

    def write() -> None:
        np.empty(shape, np.float32).fill(1)

    for peer in (by_torch, by_numpy):
        np.testing.assert_allclose(ours(), peer(), rtol=0, atol=TOLERANCE)
    return report.compare(
        f"roi_align {len(boxes)} boxes of 1x{SIDE}x{SIDE}, {layout} -> {BINS}x{BINS}",
        ours,
        {"torch, two matmuls": by_torch, "NumPy, two matmuls": by_numpy},
        REPEATS,
        floors={"write the result": write},
        budget_s=budget_s,
    )
