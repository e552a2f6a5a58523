"""Right arguments for every kernel, of random shape and value, as the fuzzer spoils them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        arguments: by name.
        positional: which of them are passed by position, in this order.
        exact: integers must equal the reference's; False where rounding may swap neighbours.
        rtol, atol: how far floats may be from the reference's.
    """

    arguments: dict[str, Any]
    positional: tuple[str, ...]
    exact: bool = True
    rtol: float = 1e-5
    atol: float = 1e-5


def scan(rng: Rng) -> Case:
    """Codes, queries, and in half of the cases each a mask, ids, and lists with probes."""
    count, width = int(rng.integers(0, 300)), 8 * int(rng.integers(1, 65))
    pool = rng.integers(0, 256, (5, width), dtype=np.uint8)
    queries, lists = int(rng.integers(0, 5)), int(rng.integers(1, 9))
    inner = np.sort(rng.integers(0, count + 1, lists - 1))
    by_list = {
        "list_offsets": np.concatenate([[0], inner, [count]]).astype(np.int64),
        "probes": rng.integers(-1, lists, (queries, rng.integers(0, 6))),
    }
    return Case(
        {
            "codes": pool[rng.integers(0, 5, count)],
            "queries": pool[rng.integers(0, 5, queries)],
            "k": int(rng.integers(1, 50)),
            "mask": None if rng.random() < 0.5 else np.packbits(rng.random(count) < 0.5, bitorder="little"),
            "ids": None if rng.random() < 0.5 else rng.permutation(count),
            **(dict.fromkeys(by_list) if rng.random() < 0.5 else by_list),
            "num_threads": int(rng.integers(1, 4)),
        },
        ("codes", "queries", "k"),
    )


def rerank(rng: Rng) -> Case:
    """Small integers and scales of powers of two, so that sums are exact in any order; lists as an array or ragged."""
    count, dimension = int(rng.integers(1, 100)), int(rng.integers(1, 300))
    queries = int(rng.integers(0, 4))
    row_type = [np.float32, np.float16, np.int8][rng.integers(3)]
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 60, queries))]) if rng.random() < 0.5 else None
    lists = (queries, int(rng.integers(0, 60))) if offsets is None else offsets[-1]
    return Case(
        {
            "rows": rng.integers(-8, 9, (count, dimension)).astype(row_type),
            "queries": rng.integers(-8, 9, (queries, dimension)).astype(np.float32),
            "candidates": rng.integers(-1, count, lists),
            "k": int(rng.integers(1, 50)),
            "metric": str(rng.choice(["inner_product", "l2", "cosine"])),
            "scales": rng.choice([-0.5, 0.0, 1.0], count).astype(np.float32) if row_type is np.int8 else None,
            "offsets": offsets,
            "num_threads": int(rng.integers(1, 4)),
        },
        ("rows", "queries", "candidates", "k"),
    )


def boxes(rng: Rng, *shape: int) -> Any:
    """Boxes on a coarse grid, some of them empty or inverted: (*shape, 4) float32 xyxy."""
    corners = rng.integers(0, 12, (*shape, 4)).astype(np.float32)
    corners[..., 2:] = np.where(rng.random((*shape, 2)) < 0.9, corners[..., :2] + corners[..., 2:], corners[..., 2:])
    return corners


def nms(rng: Rng) -> Case:
    """Ties in scores and overlaps at the threshold."""
    count = int(rng.integers(0, 120))
    return Case(
        {
            "boxes": boxes(rng, count),
            "scores": rng.integers(0, 20, count).astype(np.float32) / 20,
            "max_iou": float(rng.choice([0.0, 0.25, 0.5, 1.0])),
            "classes": None if rng.random() < 0.5 else rng.integers(-2, 3, count),
        },
        ("boxes", "scores"),
    )


def batched_nms(rng: Rng) -> Case:
    """A few images, in half of the cases with padding."""
    images, count = int(rng.integers(0, 4)), int(rng.integers(0, 60))
    return Case(
        {
            "boxes": boxes(rng, images, count),
            "scores": rng.integers(0, 20, (images, count)).astype(np.float32) / 20,
            "max_iou": float(rng.choice([0.0, 0.25, 0.5, 1.0])),
            "classes": None if rng.random() < 0.5 else rng.integers(-2, 3, (images, count)),
            "counts": None if rng.random() < 0.5 else rng.integers(0, count + 1, images).astype(np.int32),
            "max_kept": None if rng.random() < 0.5 else int(rng.integers(0, 80)),
            "num_threads": int(rng.integers(1, 4)),
        },
        ("boxes", "scores"),
    )


def soft_nms(rng: Rng) -> Case:
    """Both kinds of decay."""
    count = int(rng.integers(0, 60))
    return Case(
        {
            "boxes": boxes(rng, count),
            "scores": rng.integers(0, 20, count).astype(np.float32) / 20,
            "method": str(rng.choice(["gaussian", "linear"])),
            "sigma": float(rng.choice([0.1, 0.5])),
            "max_iou": float(rng.choice([0.0, 0.25, 0.5, 1.0])),
            "min_score": float(rng.choice([0.0, 0.001, 0.3])),
            "classes": None if rng.random() < 0.5 else rng.integers(-2, 3, count),
        },
        ("boxes", "scores"),
    )


def detection_postprocess(rng: Rng) -> Case:
    """Every decoding without bins, whose boxes are exact."""
    images, anchors, classes = int(rng.integers(0, 3)), int(rng.integers(0, 40)), int(rng.integers(1, 6))
    decoding = str(rng.choice(["none", "deltas", "distances"]))
    laid_out = {
        "none": None,
        "deltas": boxes(rng, anchors),
        "distances": rng.integers(1, 12, (anchors, 3)).astype(np.float32),
    }
    return Case(
        {
            "scores": rng.integers(-20, 20, (images, anchors, classes)).astype(np.float32) / 8,
            "boxes": boxes(rng, images, anchors),
            "anchors": laid_out[decoding],
            "decoding": decoding,
            "activation": str(rng.choice(["none", "sigmoid"])),
            "image_size": None if rng.random() < 0.5 else (int(rng.integers(1, 20)), int(rng.integers(1, 20))),
            "min_score": float(rng.choice([0.0, 0.3, 0.5, 1.0])),
            "max_iou": float(rng.choice([0.0, 0.25, 0.5, 1.0])),
            "max_candidates": int(rng.integers(1, 200)),
            "max_detections": int(rng.integers(1, 60)),
            "wanted": None if rng.random() < 0.5 else rng.random(classes) < 0.7,
            "soft_sigma": None if rng.random() < 0.5 else 0.5,
            "num_threads": int(rng.integers(1, 4)),
        },
        ("scores", "boxes"),
    )


def preprocess(rng: Rng) -> Case:
    """A few pictures of random sizes."""
    sizes = rng.integers(1, 60, (rng.integers(0, 4), 2))
    return Case(
        {
            "images": [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes],
            "height": int(rng.integers(1, 40)),
            "width": int(rng.integers(1, 40)),
            "mean": np.array([120.0, 110.0, 100.0], np.float32),
            "std": np.array([60.0, 50.0, 40.0], np.float32),
            "channel_order": str(rng.choice(["rgb", "bgr"])),
            "resize": str(rng.choice(["bilinear", "area"])),
            "shorter_side": None if rng.random() < 0.5 else int(rng.integers(39, 80)),
            "num_threads": int(rng.integers(1, 4)),
        },
        ("images",),
        atol=1e-4,
    )


def roi_align(rng: Rng) -> Case:
    """Maps with channels first or last, boxes anywhere."""
    batch, channels, height, width = (int(rng.integers(1, most)) for most in (3, 40, 30, 30))
    features = rng.random((batch, height, width, channels), np.float32).transpose(0, 3, 1, 2)
    count = int(rng.integers(0, 20))
    return Case(
        {
            "features": features if rng.random() < 0.5 else np.ascontiguousarray(features),
            "boxes": (4 * boxes(rng, count) - 5).astype(np.float32),
            "images": rng.integers(0, batch, count),
            "output_size": (int(rng.integers(1, 9)), int(rng.integers(1, 9))),
            "spatial_scale": float(rng.choice([1.0, 0.25, 0.7])),
            "sampling_ratio": int(rng.integers(0, 4)),
            "aligned": bool(rng.random() < 0.5),
            "num_threads": int(rng.integers(1, 4)),
        },
        ("features", "boxes", "images"),
    )


def edges(rng: Rng, num_rows: int, num_targets: int) -> tuple[Any, Any]:
    """Offsets and neighbours of one side of a graph."""
    degrees = rng.integers(0, rng.integers(1, 12), num_rows)
    return np.concatenate([[0], np.cumsum(degrees)]), rng.integers(0, num_targets, degrees.sum()).astype(np.int32)


def bias_table(rng: Rng) -> Case:
    """Weights of few values, 0 among them."""
    offsets, neighbours = edges(rng, int(rng.integers(0, 40)), 30)
    weights = rng.choice(np.array([0.0, 0.1, 1.0, 1e20], np.float32), len(neighbours))
    return Case(
        {"offsets": offsets, "neighbours": neighbours, "weights": weights, "num_threads": int(rng.integers(1, 4))},
        ("offsets", "neighbours", "weights"),
    )


def walk(rng: Rng) -> Case:
    """Short walks of several queries; in a half of the cases with weighted edges, in a half with an early stop."""
    num_items, num_boards, num_queries = (int(rng.integers(1, 30)) for _ in range(3))
    item_offsets, item_boards = edges(rng, num_items, num_boards)
    board_offsets, board_items = edges(rng, num_boards, num_items)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, num_queries % 4))])
    biased, stopping = rng.random() < 0.5, rng.random() < 0.5
    return Case(
        {
            "item_offsets": item_offsets,
            "item_boards": item_boards,
            "board_offsets": board_offsets,
            "board_items": board_items,
            "queries": rng.integers(0, num_items, offsets[-1]),
            "weights": rng.integers(0, 3, offsets[-1]).astype(np.float32),
            "offsets": offsets,
            "k": int(rng.integers(1, 40)),
            "steps": int(rng.integers(1, 600)),
            "restart": float(rng.choice([0.0, 0.3, 1.0])),
            "seed": int(rng.integers(-(2**62), 2**62)),
            "item_bias": some_bias(rng, item_boards) if biased else None,
            "board_bias": some_bias(rng, board_items) if biased else None,
            "stop_items": int(stopping),
            "stop_visits": int(stopping),
            "boost": bool(rng.random() < 0.5),
            "max_degree": None if rng.random() < 0.5 else 11,
            "num_threads": int(rng.integers(1, 4)),
        },
        ("item_offsets", "item_boards", "board_offsets", "board_items", "queries", "weights", "offsets", "k"),
    )


def some_bias(rng: Rng, neighbours: Any) -> Any:
    """Slots of a bias table with any thresholds and aliases."""
    thresholds = rng.integers(0, 2**31, len(neighbours))
    return np.stack([thresholds, neighbours, rng.permutation(neighbours)], axis=1).astype(np.int32)


CASES: dict[str, Callable[[Rng], Case]] = {
    "scan": scan,
    "rerank": rerank,
    "nms": nms,
    "batched_nms": batched_nms,
    "soft_nms": soft_nms,
    "detection_postprocess": detection_postprocess,
    "preprocess": preprocess,
    "roi_align": roi_align,
    "bias_table": bias_table,
    "walk": walk,
}
