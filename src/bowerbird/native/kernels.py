"""Typed entry points of the compiled kernels: conversion of arguments here, checks and work in C++.

Legend: N codes, rows, boxes or pictures; Q queries; K candidates or kept boxes; W bytes a code; D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bowerbird.native import _core
from bowerbird.native.arrays import integer, real, view

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

MAX_SIDE = 16384


def scan(
    codes: ByteArray, queries: ByteArray, k: int, *, mask: ByteArray | None = None, num_threads: int = 1
) -> tuple[npt.NDArray[np.int32], IntArray]:
    """Distances and indices of the k codes with the fewest differing bits, nearest first, for each query.

    Args:
        codes: (N, W) uint8, W a multiple of 8 from 8 to 512 (64 to 4096 bits); N may be 0.
        queries: (Q, W) uint8.
        k: at least 1; where fewer codes are there or let in, the rest is -1.
        mask: (ceil(N / 8),) uint8, little bit order (`numpy.packbits(allowed, bitorder="little")`); only codes whose
            bit is 1 are found. None lets all in.
        num_threads: 1 to 256.
    Returns:
        distances (Q, k) int32 in bits and indices (Q, k) int64; ties keep the lower index.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    return _core.scan(
        view(codes, "codes"),
        view(queries, "queries"),
        integer(k, "k"),
        None if mask is None else view(mask, "mask"),
        integer(num_threads, "num_threads"),
    )


def rerank(
    rows: FloatArray | HalfArray, queries: FloatArray, candidates: IntArray, k: int, *, num_threads: int = 1
) -> tuple[FloatArray, IntArray]:
    """Scores and row ids of the k candidates with the largest inner product, best first, for each query.

    Args:
        rows: (N, D) float32 or float16, may be memory-mapped; only candidate rows are read.
        queries: (Q, D) float32, finite.
        candidates: (Q, K) int64, ids of rows; -1 is skipped, so lists may be ragged; an id listed twice counts twice.
        k: at least 1; where fewer candidates are there, scores are -infinity and ids -1.
        num_threads: 1 to 256; threads share out the queries.
    Returns:
        scores (Q, k) float32, summed in float32, and indices (Q, k) int64; ties keep the lower id.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value, a candidate is no row, or a candidate row has
            NaN; the message names the argument.
    """
    return _core.rerank(
        view(rows, "rows"),
        view(queries, "queries"),
        view(candidates, "candidates"),
        integer(k, "k"),
        integer(num_threads, "num_threads"),
    )


def nms(boxes: FloatArray, scores: FloatArray, *, max_iou: float, classes: IntArray | None = None) -> IntArray:
    """Indices of the boxes that survive greedy suppression, best score first.

    Args:
        boxes: (N, 4) float32, xyxy, finite, any unit. A box without area (empty or inverted) has IoU 0 with every
            box: it survives and suppresses nothing.
        scores: (N,) float32, finite; ties keep the lower index.
        max_iou: in [0, 1]; a pair at exactly this value survives.
        classes: (N,) int64; boxes of different classes never suppress each other. None: all of one class.
    Returns:
        (K,) int64, K <= N.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    return _core.nms(
        view(boxes, "boxes"),
        view(scores, "scores"),
        real(max_iou, "max_iou"),
        None if classes is None else view(classes, "classes"),
    )


def preprocess(
    images: Sequence[ByteArray],
    *,
    height: int,
    width: int,
    mean: Sequence[float] | FloatArray,
    std: Sequence[float] | FloatArray,
    out: FloatArray | None = None,
    channel_order: Literal["rgb", "bgr"] = "rgb",
    num_threads: int = 1,
) -> FloatArray:
    """The model's input batch: (resized pixel - mean) / std, one picture a row.

    Resizing is antialiased (triangle filter, as wide as the reduction; Pillow's BILINEAR without rounding to bytes)
    and squeezes any aspect ratio to height x width.

    Args:
        images: N pictures, each (H, W, 3) uint8 RGB, H and W at least 1 and free to differ. Rows may lie apart, so a
            crop `picture[top:bottom, left:right]` is taken as it is.
        height: of the output, pixels, 1 to 16384.
        width: of the output, pixels, 1 to 16384.
        mean: three values in units of pixel values (0 to 255), in the channel order of the output.
        std: three values above 0, likewise.
        out: (N, 3, height, width) float32, C-contiguous and writable, to fill and return; None allocates one.
        channel_order: of the output.
        num_threads: 1 to 256.
    Returns:
        (N, 3, height, width) float32.
    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has the wrong shape, strides or value; the message names it.
    """
    if channel_order not in ("rgb", "bgr"):
        raise ValueError(f"channel_order: expected 'rgb' or 'bgr', got {channel_order!r}")
    views = [view(image, f"images[{i}]") for i, image in enumerate(images)]
    shape = (len(views), 3, _side(height, "height"), _side(width, "width"))
    batch: FloatArray = np.empty(shape, np.float32) if out is None else view(out, "out")
    if batch.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {batch.shape}")
    means, deviations = _three(mean, "mean"), _three(std, "std")
    if not (deviations > 0).all():
        raise ValueError(f"std: expected three values above 0, got {deviations.tolist()}")
    _core.preprocess(views, means, deviations, channel_order == "bgr", batch, integer(num_threads, "num_threads"))
    return batch


def _side(value: object, name: str) -> int:
    side = integer(value, name)
    if not 1 <= side <= MAX_SIDE:
        raise ValueError(f"{name}: expected 1 to {MAX_SIDE} pixels, got {side}")
    return side


def _three(values: Sequence[float] | FloatArray, name: str) -> FloatArray:
    try:
        channels = np.array(values, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected three numbers, got {values!r}") from error
    if channels.shape != (3,) or not np.isfinite(channels).all():
        raise ValueError(f"{name}: expected three finite numbers, got {values!r}")
    return channels
