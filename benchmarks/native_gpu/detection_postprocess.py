"""Detections out of the outputs of a network on a CUDA device, beside torch and torchvision.

Logits as in the CPU benchmark: noise lifts about one pair of anchor and class in a thousand above the threshold, and
every object some dozens of anchors in its class. The floor is one read of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

SEED = 20
IMAGES, SIDE, STRIDES, CLASSES = 8, 640, (8, 16, 32), 80  # 8400 anchors
OBJECTS, ANCHORS_AN_OBJECT = 40, 32  # of an image
MIN_SCORE, MAX_IOU, MAX_CANDIDATES, MAX_DETECTIONS = 0.05, 0.5, 1000, 100
MIN_LOGIT = math.log(MIN_SCORE / (1 - MIN_SCORE))
REPEATS, QUICK_REPEATS = 51, 11

Outputs = tuple[Any, Any, Any]


def rows(*, quick: bool) -> Iterator[report.Row]:
    """A batch of images; and the same in a graph, which the peer cannot be: its shapes depend on values."""
    import torch

    torch.manual_seed(SEED)
    outputs = network_outputs()
    check(detect(*outputs), detect_each(*outputs))
    scores = outputs[0]
    name = f"detection_postprocess {IMAGES} images x {scores.shape[1]} anchors x {CLASSES} classes"
    contenders: dict[str, Callable[[], object]] = {
        name: lambda: detect(*outputs),
        f"{name}, in a graph": captured(*outputs),
    }
    for title, ours in contenders.items():
        yield from clock.compare(
            title,
            ours,
            {"torch, torchvision": lambda: detect_each(*outputs)},
            QUICK_REPEATS if quick else REPEATS,
            floor_bytes=scores.nbytes,
        )


def network_outputs() -> Outputs:
    """Logits (B, A, C), distances (B, A, 4), and anchors (A, 3): x, y and stride."""
    import torch

    levels = []
    for stride in STRIDES:
        steps = (torch.arange(SIDE // stride, device="cuda") + 0.5) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        levels.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
    anchors = torch.cat(levels)
    scores = torch.randn(IMAGES, len(anchors), CLASSES, device="cuda") - 6
    boxes = (torch.randn(IMAGES, len(anchors), 4, device="cuda") * 0.5 + 0.5).exp()
    for image in range(IMAGES):
        for _ in range(OBJECTS):
            add_object(scores[image], boxes[image], anchors)
    return scores, boxes, anchors


def add_object(scores: Any, boxes: Any, anchors: Any) -> None:
    """The anchors nearest to an object see it, each a bit differently."""
    import torch

    centre, size = torch.rand(2, device="cuda") * SIDE, (torch.randn(2, device="cuda") * 0.6 + 4.3).exp()
    near = (anchors[:, :2] - centre).abs().amax(dim=1).topk(ANCHORS_AN_OBJECT, largest=False).indices
    half = size * (torch.randn(len(near), 2, device="cuda") * 0.1).exp() / 2
    moved = centre + torch.randn(len(near), 2, device="cuda") * 0.05 * size - anchors[near, :2]
    boxes[near] = torch.cat([half - moved, half + moved], dim=1) / anchors[near, 2:]
    scores[near, torch.randint(0, CLASSES, (), device="cuda")] = torch.randn(len(near), device="cuda") * 1.5


def detect(scores: Any, boxes: Any, anchors: Any) -> tuple[Any, ...]:
    """Ours."""
    return native.detection_postprocess(
        scores, boxes, anchors=anchors, decoding="distances", activation="sigmoid", image_size=(SIDE, SIDE),
        min_score=MIN_SCORE, max_iou=MAX_IOU, max_candidates=MAX_CANDIDATES, max_detections=MAX_DETECTIONS,
    )  # fmt: skip


def captured(scores: Any, boxes: Any, anchors: Any) -> Callable[[], object]:
    """A replay of ours."""
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        detect(scores, boxes, anchors)
    return graph.replay


def detect_each(scores: Any, boxes: Any, anchors: Any) -> list[tuple[Any, Any, Any]]:
    """The peer: image by image."""
    return [detect_one(*image, anchors) for image in zip(scores, boxes, strict=True)]


def detect_one(logits: Any, distances: Any, anchors: Any) -> tuple[Any, Any, Any]:
    """The threshold as a logit, the best candidates, then boxes and scores of these alone."""
    import torch
    from torchvision.ops import batched_nms

    points, classes = (logits >= MIN_LOGIT).nonzero(as_tuple=True)
    best = logits[points, classes].topk(min(MAX_CANDIDATES, len(points))).indices
    points, classes = points[best], classes[best]
    reach, base = distances[points] * anchors[points, 2:], anchors[points, :2]
    boxes = torch.cat([base - reach[:, :2], base + reach[:, 2:]], dim=1).clamp(0, SIDE)
    scores = logits[points, classes].sigmoid()
    kept = batched_nms(boxes, scores, classes, MAX_IOU)[:MAX_DETECTIONS]
    return boxes[kept], scores[kept], classes[kept]


def check(ours: tuple[Any, ...], theirs: list[tuple[Any, Any, Any]]) -> None:
    """Same number of detections, and the same scores: a pair at the threshold may go either way, once in a hundred."""
    import torch

    for image, (_, scores, _) in enumerate(theirs):
        assert abs(int(ours[3][image]) - len(scores)) <= 1
        both = min(int(ours[3][image]), len(scores))
        same = torch.isclose(ours[1][image, :both], scores[:both], rtol=1e-3, atol=1e-3)
        assert same.float().mean() >= 0.9, "the detections differ"
