"""Suppression of a batch on a CUDA device, beside torchvision.

torchvision takes one image a call: `batched_nms` for each image in turn, or once for the whole batch with a class
number for every pair of image and class; both are peers. The floor is what must be read and written: boxes, scores,
classes; indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

SEED = 20
IMAGES, COUNTS, NUM_CLASSES = 8, (1000, 5000, 20_000), 80
BOXES_AN_OBJECT = 50
MAX_IOU = 0.5
SAME_SHARE = 0.99
BYTES_A_BOX = 16 + 4 + 8 + 8  # corners, score, class; index
REPEATS, QUICK_REPEATS = 51, 11

Tensors = tuple[Any, Any, Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Each class apart, and all boxes of one class."""
    import torch

    torch.manual_seed(SEED)
    for count in COUNTS:
        boxes, scores, classes = detector_boxes(count)
        yield from measure(boxes, scores, classes, f"{NUM_CLASSES} classes", quick=quick)
        yield from measure(boxes, scores, torch.zeros_like(classes), "1 class", quick=quick)


def detector_boxes(count: int) -> Tensors:
    """Boxes (B, N, 4), scores (B, N) and classes (B, N): about fifty jittered proposals an object."""
    import torch

    shape = (IMAGES, count)
    objects = max(1, count // BOXES_AN_OBJECT)
    which = torch.randint(0, objects, (*shape, 1), device="cuda")
    centres = torch.rand(IMAGES, objects, 2, device="cuda") * 1000
    sizes = (torch.randn(IMAGES, objects, 2, device="cuda") * 0.6 + 4).exp()
    centre, size = (each.gather(1, which.expand(-1, -1, 2)) for each in (centres, sizes))
    centre = centre + torch.randn(*shape, 2, device="cuda") * 0.1 * size
    size = size * (torch.randn(*shape, 2, device="cuda") * 0.15).exp()
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=2)
    scores = torch.stack([torch.randperm(count, device="cuda") for _ in range(IMAGES)]) / count  # no two alike
    return boxes, scores.float(), which[..., 0] % NUM_CLASSES


def measure(boxes: Any, scores: Any, classes: Any, kinds: str, *, quick: bool) -> list[report.Row]:
    """One size, beside both ways to call torchvision."""
    images, count = scores.shape
    peers: dict[str, Callable[[], Any]] = {
        "torchvision, each image": lambda: image_by_image(boxes, scores, classes),
        "torchvision, one call": lambda: in_one_call(boxes, scores, classes),
    }
    for peer in peers.values():
        check(*ours(boxes, scores, classes), peer())
    return clock.compare(
        f"nms {images} images x {count} boxes, {kinds}",
        lambda: ours(boxes, scores, classes),
        peers,
        QUICK_REPEATS if quick else REPEATS,
        floor_bytes=images * count * BYTES_A_BOX,
    )


def ours(boxes: Any, scores: Any, classes: Any) -> tuple[Any, Any]:
    """Indices (B, N) and counts (B,)."""
    return native.batched_nms(boxes, scores, max_iou=MAX_IOU, classes=classes)


def image_by_image(boxes: Any, scores: Any, classes: Any) -> list[Any]:
    """Indices of the survivors of each image."""
    from torchvision.ops import batched_nms

    return [batched_nms(*image, MAX_IOU) for image in zip(boxes, scores, classes, strict=True)]


def in_one_call(boxes: Any, scores: Any, classes: Any) -> list[Any]:
    """Indices of the survivors of each image, out of those into the flat batch."""
    import torch
    from torchvision.ops import batched_nms

    image = torch.arange(len(boxes), device=boxes.device)[:, None]
    kept = batched_nms(boxes.flatten(0, 1), scores.flatten(), (classes + NUM_CLASSES * image).flatten(), MAX_IOU)
    of_image, index = kept // scores.shape[1], kept % scores.shape[1]
    return [index[of_image == i] for i in range(len(boxes))]


def check(indices: Any, counts: Any, theirs: list[Any]) -> None:
    """Same survivors, but for pairs whose IoU is so near the threshold that the offset of the peer decides."""
    for row, count, survivors in zip(indices.tolist(), counts.tolist(), theirs, strict=True):
        mine, other = set(row[:count]), set(survivors.tolist())
        assert len(mine & other) >= SAME_SHARE * max(len(mine), len(other)), "the survivors differ"
