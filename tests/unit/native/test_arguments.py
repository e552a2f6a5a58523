"""What each kernel refuses, and how it says so."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bowerbird import native

CODES = np.zeros((10, 16), np.uint8)
OFFSETS = np.array([0, 4, 4, 10])
PROBES = np.array([[0, 2]] * 10)
ROWS = np.zeros((10, 6), np.float16)
QUERIES = np.zeros((2, 6), np.float32)
CANDIDATES = np.zeros((2, 3), np.int64)
INT8 = {"rows": ROWS.astype(np.int8), "scales": np.ones(10, np.float32)}
RAGGED = {"candidates": np.zeros(5, np.int64), "offsets": np.array([0, 2, 5])}
BOXES = np.zeros((5, 4), np.float32)
SCORES = np.zeros(5, np.float32)
LOGITS = np.zeros((2, 7, 3), np.float32)
RAW = np.zeros((2, 7, 4), np.float32)
POINTS = np.ones((7, 3), np.float32)
PICTURE = np.zeros((4, 5, 3), np.uint8)
MAPS = np.zeros((2, 3, 4, 5), np.float32)
IMAGES = np.array([0, 1, 1, 0, 1])


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same values at an odd address."""
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8, offset=1).view(array.dtype).reshape(array.shape)


def scan(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "codes": CODES,
        "queries": CODES,
        "k": 3,
        "mask": None,
        "ids": np.arange(10),
        "list_offsets": OFFSETS,
        "probes": PROBES,
        "num_threads": 1,
    } | changed
    return native.scan(wanted.pop("codes"), wanted.pop("queries"), wanted.pop("k"), **wanted)


def rerank(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "rows": ROWS,
        "queries": QUERIES,
        "candidates": CANDIDATES,
        "k": 3,
        "num_threads": 1,
    } | changed
    arrays = [wanted.pop(name) for name in ("rows", "queries", "candidates", "k")]
    return native.rerank(*arrays, **wanted)


def nms(**changed: Any) -> Any:
    wanted: dict[str, Any] = {"boxes": BOXES, "scores": SCORES, "max_iou": 0.5, "classes": None} | changed
    return native.nms(wanted.pop("boxes"), wanted.pop("scores"), **wanted)


def batched_nms(**changed: Any) -> Any:
    wanted: dict[str, Any] = {"boxes": BOXES[None], "scores": SCORES[None], "max_iou": 0.5} | changed
    return native.batched_nms(wanted.pop("boxes"), wanted.pop("scores"), **wanted)


def soft_nms(**changed: Any) -> Any:
    wanted: dict[str, Any] = {"boxes": BOXES, "scores": SCORES} | changed
    return native.soft_nms(wanted.pop("boxes"), wanted.pop("scores"), **wanted)


def detection_postprocess(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "scores": LOGITS,
        "boxes": RAW,
        "anchors": POINTS,
        "decoding": "distances",
        "activation": "sigmoid",
        "min_score": 0.5,
        "max_iou": 0.5,
    } | changed
    return native.detection_postprocess(wanted.pop("scores"), wanted.pop("boxes"), **wanted)


def preprocess(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "images": [PICTURE],
        "height": 2,
        "width": 2,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    } | changed
    return native.preprocess(wanted.pop("images"), **wanted)


def roi_align(**changed: Any) -> Any:
    wanted: dict[str, Any] = {"features": MAPS, "boxes": BOXES, "images": IMAGES, "output_size": (2, 3)} | changed
    return native.roi_align(wanted.pop("features"), wanted.pop("boxes"), wanted.pop("images"), **wanted)


def walk(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "item_offsets": np.array([0, 2, 3]),
        "item_boards": np.zeros(3, np.int32),
        "board_offsets": np.array([0, 3]),
        "board_items": np.array([0, 0, 1], np.int32),
        "queries": np.array([0, 1]),
        "weights": np.ones(2, np.float32),
        "offsets": np.array([0, 2]),
        "k": 2,
        "steps": 10,
    } | changed
    return native.walk(**wanted)


def bias_table(**changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "offsets": np.array([0, 2, 3]),
        "neighbours": np.zeros(3, np.int32),
        "weights": np.ones(3, np.float32),
    } | changed
    return native.bias_table(**wanted)


KERNELS = [scan, rerank, nms, batched_nms, soft_nms, detection_postprocess, preprocess, roi_align, walk, bias_table]
NOT_FINITE = [np.nan, np.inf, -np.inf]
REFUSED: list[tuple[Callable[..., Any], dict[str, Any], type[Exception], str]] = [
    (scan, {"codes": CODES.astype(np.int8)}, TypeError, "codes: expected dtype uint8, got int8"),
    (scan, {"codes": [[0] * 16]}, TypeError, "codes: expected an array or a buffer, got list"),
    (scan, {"codes": None}, TypeError, "codes: expected an array"),
    (scan, {"codes": CODES[0]}, ValueError, "codes: expected rank 2"),
    (scan, {"codes": CODES[:, ::2]}, ValueError, "codes: expected a C-contiguous"),
    (scan, {"codes": CODES[::2]}, ValueError, "codes: expected a C-contiguous"),
    (scan, {"codes": np.asfortranarray(CODES)}, ValueError, "codes: expected a C-contiguous"),
    (scan, {"codes": CODES[:, :12].copy()}, ValueError, "codes: expected 64 to 4096 bits"),
    (scan, {"codes": CODES[:, :0].copy()}, ValueError, "codes: expected 64 to 4096 bits"),
    (scan, {"codes": np.zeros((2, 520), np.uint8)}, ValueError, "codes: expected 64 to 4096 bits"),
    (scan, {"queries": CODES[:, :8].copy()}, ValueError, "queries: expected length 16"),
    (scan, {"queries": CODES[0]}, ValueError, "queries: expected rank 2"),
    (scan, {"queries": CODES.astype(np.float32)}, TypeError, "queries: expected dtype uint8"),
    (scan, {"ids": np.arange(10, dtype=np.int32)}, TypeError, "ids: expected dtype int64, got int32"),
    (scan, {"ids": np.arange(9)}, ValueError, "ids: expected length 10"),
    (scan, {"ids": np.arange(20)[::2]}, ValueError, "ids: expected a C-contiguous"),
    (scan, {"ids": PROBES}, ValueError, "ids: expected rank 1"),
    (scan, {"list_offsets": None}, ValueError, "list_offsets: expected an array, since list_offsets and probes come"),
    (scan, {"probes": None}, ValueError, "probes: expected an array, since list_offsets and probes come together"),
    (scan, {"list_offsets": OFFSETS.astype(np.int32)}, TypeError, "list_offsets: expected dtype int64, got int32"),
    (scan, {"list_offsets": OFFSETS[None]}, ValueError, "list_offsets: expected rank 1"),
    (scan, {"list_offsets": OFFSETS[:0]}, ValueError, "list_offsets: expected at least one offset"),
    *(
        (scan, {"list_offsets": np.array(bad)}, ValueError, "list_offsets: expected numbers that ascend from 0 to the")
        for bad in ([0, 4, 10, 9], [0, 5, 4, 10], [1, 4, 4, 10], [0, 4, 4, 9], [0, 4, 4, 11], [-1, 4, 4, 10], [0])
    ),
    (scan, {"probes": PROBES.astype(np.int32)}, TypeError, "probes: expected dtype int64, got int32"),
    (scan, {"probes": PROBES[0]}, ValueError, "probes: expected rank 2"),
    (scan, {"probes": PROBES[:9]}, ValueError, "probes: expected length 10"),
    (scan, {"probes": PROBES[:, ::2]}, ValueError, "probes: expected a C-contiguous"),
    (scan, {"probes": PROBES + 1}, ValueError, "probes: expected -1 or a list below 3, got 3"),
    (scan, {"probes": PROBES - 2}, ValueError, "probes: expected -1 or a list below 3, got -2"),
    (scan, {"probes": PROBES + 2**62}, ValueError, "probes: expected -1 or a list below 3"),
    (scan, {"k": 0}, ValueError, "k: expected 1 to"),
    (scan, {"k": -1}, ValueError, "k: expected 1 to"),
    (scan, {"k": 2**31}, ValueError, "k: expected 1 to"),
    (scan, {"k": 2**80}, ValueError, "k: expected a number of 64 bits"),
    (scan, {"k": 2.0}, TypeError, "k: expected an integer, got float"),
    (scan, {"mask": np.zeros(1, np.uint8)}, ValueError, "mask: expected length 2"),
    (scan, {"mask": np.zeros(10, bool)}, TypeError, "mask: expected dtype uint8"),
    (scan, {"mask": np.zeros((2, 1), np.uint8)}, ValueError, "mask: expected rank 1"),
    (scan, {"num_threads": 0}, ValueError, "num_threads: expected 1 to 256"),
    (scan, {"num_threads": 257}, ValueError, "num_threads: expected 1 to 256"),
    (scan, {"num_threads": None}, TypeError, "num_threads: expected an integer"),
    (rerank, {"rows": ROWS.astype(np.float64)}, TypeError, "rows: expected dtype float32, float16, .* got float64"),
    (rerank, {"rows": ROWS.astype(">f2")}, TypeError, "rows: expected dtype float32, float16"),
    (rerank, {"rows": ROWS[:, ::2]}, ValueError, "rows: expected a C-contiguous"),
    (rerank, {"rows": unaligned(ROWS)}, ValueError, "rows: expected a C-contiguous, aligned"),
    (rerank, {"rows": ROWS[0]}, ValueError, "rows: expected rank 2"),
    (rerank, {"rows": ROWS[:, :0].copy()}, ValueError, "rows: dimension: expected 1 to"),
    (rerank, {"rows": np.full((10, 6), np.nan, np.float16)}, ValueError, "rows: row 0 has a value that is not finite"),
    (rerank, {"queries": QUERIES.astype(np.float16)}, TypeError, "queries: expected dtype float32, got float16"),
    (rerank, {"queries": QUERIES[:, :5].copy()}, ValueError, "queries: expected length 6"),
    *((rerank, {"queries": QUERIES + bad}, ValueError, "queries: expected finite") for bad in NOT_FINITE),
    (rerank, {"candidates": CANDIDATES.astype(np.int32)}, TypeError, "candidates: expected dtype int64, got int32"),
    (rerank, {"candidates": CANDIDATES[:1]}, ValueError, "candidates: expected length 2"),
    (rerank, {"candidates": CANDIDATES + 10}, ValueError, "candidates: expected -1 or a row id below 10, got 10"),
    (rerank, {"candidates": CANDIDATES - 2}, ValueError, "candidates: expected -1 or a row id below 10, got -2"),
    (rerank, {"candidates": CANDIDATES + 2**62}, ValueError, "candidates: expected -1 or a row id"),
    (rerank, {"rows": ROWS[:0]}, ValueError, "candidates: expected -1 or a row id below 0"),
    (rerank, {"k": 0}, ValueError, "k: expected 1 to"),
    (rerank, {"metric": "dot"}, ValueError, "metric: expected 'inner_product', 'l2' or 'cosine', got 'dot'"),
    (rerank, {"metric": 2}, TypeError, "metric: expected a string, got int"),
    (rerank, INT8 | {"scales": None}, ValueError, "scales: expected one a row, since rows are int8, got None"),
    (rerank, INT8 | {"rows": ROWS}, ValueError, "scales: expected None, since rows are not int8"),
    (rerank, INT8 | {"scales": np.ones(9, np.float32)}, ValueError, "scales: expected length 10"),
    (rerank, INT8 | {"scales": np.ones((10, 1), np.float32)}, ValueError, "scales: expected rank 1"),
    (rerank, INT8 | {"scales": np.ones(10, np.float16)}, TypeError, "scales: expected dtype float32, got float16"),
    (rerank, {"offsets": np.array([0, 2, 5])}, ValueError, "candidates: expected rank 1"),
    (rerank, {"candidates": RAGGED["candidates"]}, ValueError, "candidates: expected rank 2"),
    (rerank, RAGGED | {"offsets": np.array([0, 2, 4])}, ValueError, "offsets: expected .* 0 to the 5 .* got 0 to 4"),
    (rerank, RAGGED | {"offsets": np.array([1, 2, 5])}, ValueError, "offsets: expected .* 0 to the 5 .* got 1 to 5"),
    (rerank, RAGGED | {"offsets": np.array([0, 7, 5])}, ValueError, "offsets: expected to ascend, got 7 before 5"),
    (rerank, RAGGED | {"offsets": np.array([0, -1, 5])}, ValueError, "offsets: expected to ascend, got 0 before -1"),
    (rerank, RAGGED | {"offsets": np.array([0, 5])}, ValueError, "offsets: expected length 3"),
    (rerank, RAGGED | {"offsets": np.array([[0, 2, 5]])}, ValueError, "offsets: expected rank 1"),
    (rerank, RAGGED | {"offsets": np.array([0, 2, 5], np.int32)}, TypeError, "offsets: expected dtype int64"),
    (rerank, {"num_threads": -1}, ValueError, "num_threads: expected 1 to"),
    (nms, {"boxes": BOXES.astype(np.float64)}, TypeError, "boxes: expected dtype float32"),
    (nms, {"boxes": BOXES[:, :3].copy()}, ValueError, "boxes: expected length 4"),
    *((nms, {"boxes": BOXES + bad}, ValueError, "boxes: expected finite") for bad in NOT_FINITE),
    (nms, {"scores": SCORES[:4]}, ValueError, "scores: expected length 5"),
    (nms, {"scores": SCORES.astype(np.float16)}, TypeError, "scores: expected dtype float32"),
    *((nms, {"scores": SCORES + bad}, ValueError, "scores: expected finite") for bad in NOT_FINITE),
    (nms, {"classes": np.zeros(5, np.int32)}, TypeError, "classes: expected dtype int64"),
    (nms, {"classes": np.zeros(4, np.int64)}, ValueError, "classes: expected length 5"),
    *((nms, {"max_iou": bad}, ValueError, "max_iou: expected 0 to 1") for bad in (-0.1, 1.1, float("nan"))),
    (nms, {"max_iou": "half"}, TypeError, "max_iou: expected a number, got str"),
    (nms, {"max_iou": 10**400}, ValueError, "max_iou: expected a number within the range of float64"),
    (nms, {"scores": (ctypes.c_void_p * 5)()}, TypeError, "scores: NumPy cannot read this buffer"),
    (batched_nms, {"boxes": BOXES}, ValueError, "boxes: expected rank 3"),
    (batched_nms, {"boxes": np.zeros((1, 5, 5), np.float32)}, ValueError, "boxes: expected length 4"),
    (batched_nms, {"boxes": np.zeros((2, 5, 4), np.float32)[:, ::2]}, ValueError, "boxes: expected a C-contiguous"),
    *((batched_nms, {"boxes": BOXES[None] + bad}, ValueError, "boxes: expected finite") for bad in NOT_FINITE),
    (batched_nms, {"scores": SCORES}, ValueError, "scores: expected rank 2"),
    (batched_nms, {"scores": np.zeros((2, 5), np.float32)}, ValueError, "scores: expected length 1 on axis 0"),
    (batched_nms, {"scores": np.zeros((1, 4), np.float32)}, ValueError, "scores: expected length 5 on axis 1"),
    (batched_nms, {"classes": np.zeros(5, np.int64)}, ValueError, "classes: expected rank 2"),
    (batched_nms, {"classes": np.zeros((1, 5), np.int32)}, TypeError, "classes: expected dtype int64"),
    (batched_nms, {"counts": np.zeros(1, np.int64)}, TypeError, "counts: expected dtype int32"),
    (batched_nms, {"counts": np.zeros(2, np.int32)}, ValueError, "counts: expected length 1"),
    (batched_nms, {"counts": np.full(1, 6, np.int32)}, ValueError, "counts: number of boxes: expected 0 to 5, got 6"),
    (batched_nms, {"counts": np.full(1, -1, np.int32)}, ValueError, "counts: number of boxes: expected 0 to 5"),
    (batched_nms, {"max_kept": -1}, ValueError, "max_kept: expected 0 to"),
    (batched_nms, {"max_kept": 2**31}, ValueError, "max_kept: expected 0 to"),
    (batched_nms, {"max_kept": 2.0}, TypeError, "max_kept: expected an integer"),
    (batched_nms, {"max_iou": 1.01}, ValueError, "max_iou: expected 0 to 1"),
    (batched_nms, {"num_threads": 0}, ValueError, "num_threads: expected 1 to 256"),
    (soft_nms, {"boxes": BOXES[None]}, ValueError, "boxes: expected rank 2"),
    *((soft_nms, {"scores": SCORES + bad}, ValueError, "scores: expected finite") for bad in NOT_FINITE),
    (soft_nms, {"classes": np.zeros(4, np.int64)}, ValueError, "classes: expected length 5"),
    (soft_nms, {"method": "hard"}, ValueError, "method: expected 'gaussian' or 'linear', got 'hard'"),
    *((soft_nms, {"sigma": bad}, ValueError, "sigma: expected a finite number above 0") for bad in (0, -1, np.nan)),
    (soft_nms, {"sigma": 1e-60}, ValueError, "sigma: expected a finite number above 0"),
    (soft_nms, {"sigma": None}, TypeError, "sigma: expected a number"),
    (soft_nms, {"max_iou": -0.1}, ValueError, "max_iou: expected 0 to 1"),
    *((soft_nms, {"min_score": bad}, ValueError, "min_score: expected a finite") for bad in (-0.1, np.nan, np.inf)),
    (detection_postprocess, {"scores": LOGITS[0]}, ValueError, "scores: expected rank 3"),
    (detection_postprocess, {"scores": LOGITS.astype(np.float16)}, TypeError, "scores: expected dtype float32"),
    (detection_postprocess, {"scores": LOGITS[:, ::2]}, ValueError, "scores: expected a C-contiguous"),
    (detection_postprocess, {"scores": LOGITS + np.nan}, ValueError, "scores: expected no NaN"),
    (detection_postprocess, {"boxes": RAW[:1]}, ValueError, "boxes: expected length 2 on axis 0"),
    (detection_postprocess, {"boxes": RAW[:, :6].copy()}, ValueError, "boxes: expected length 7 on axis 1"),
    (detection_postprocess, {"boxes": RAW[..., :3].copy()}, ValueError, "boxes: expected 4 numbers an anchor"),
    (detection_postprocess, {"boxes": RAW[..., :0].copy()}, ValueError, "boxes: expected 4 numbers an anchor"),
    (
        detection_postprocess,
        {"boxes": np.zeros((2, 7, 8), np.float32), "decoding": "deltas", "anchors": np.zeros((7, 4), np.float32)},
        ValueError,
        "boxes: expected length 4 on axis 2",
    ),
    *((detection_postprocess, {"boxes": RAW + bad}, ValueError, "boxes: expected finite") for bad in NOT_FINITE),
    (detection_postprocess, {"boxes": RAW + 3e38, "anchors": POINTS * 9}, ValueError, "boxes: .* once decoded"),
    (detection_postprocess, {"anchors": None}, TypeError, "anchors: expected an array"),
    (detection_postprocess, {"anchors": POINTS[:6]}, ValueError, "anchors: expected length 7"),
    (detection_postprocess, {"anchors": np.ones((7, 4), np.float32)}, ValueError, "anchors: expected length 3"),
    (detection_postprocess, {"decoding": "deltas"}, ValueError, "anchors: expected length 4"),
    (detection_postprocess, {"decoding": "none"}, ValueError, "anchors: expected None"),
    *((detection_postprocess, {"anchors": POINTS + bad}, ValueError, "anchors: expected fin") for bad in NOT_FINITE),
    (detection_postprocess, {"decoding": "centers"}, ValueError, "decoding: expected 'none', 'deltas' or"),
    (detection_postprocess, {"activation": "softmax"}, ValueError, "activation: expected 'none' or 'sigmoid'"),
    (detection_postprocess, {"image_size": (4,)}, ValueError, "image_size: expected 2 numbers, got 1"),
    (detection_postprocess, {"image_size": 4}, TypeError, "image_size: expected 2 numbers"),
    (detection_postprocess, {"image_size": (10**400, 4)}, ValueError, "image_size: expected a number within the range"),
    (detection_postprocess, {"image_size": ("a", 4)}, TypeError, "image_size: expected 2 numbers"),
    (detection_postprocess, {"image_size": (0, 4)}, ValueError, "image_size: expected a finite number above 0"),
    (detection_postprocess, {"min_score": 1.5}, ValueError, "min_score: expected 0 to 1"),
    (detection_postprocess, {"min_score": np.nan}, ValueError, "min_score: expected 0 to 1"),
    (detection_postprocess, {"min_score": np.inf, "activation": "none"}, ValueError, "min_score: expected a finite"),
    (
        detection_postprocess,
        {"min_score": -0.5, "activation": "none", "soft_sigma": 0.5},
        ValueError,
        "min_score: expected at least 0 with soft_sigma",
    ),
    (detection_postprocess, {"max_iou": 2}, ValueError, "max_iou: expected 0 to 1"),
    (detection_postprocess, {"max_candidates": 0}, ValueError, "max_candidates: expected 1 to"),
    (detection_postprocess, {"max_detections": 0}, ValueError, "max_detections: expected 1 to"),
    (detection_postprocess, {"max_detections": None}, TypeError, "max_detections: expected an integer"),
    (detection_postprocess, {"wanted": np.ones(2, bool)}, ValueError, "wanted: expected length 3"),
    (detection_postprocess, {"wanted": np.ones(3, np.int64)}, TypeError, "wanted: expected dtype uint8"),
    (detection_postprocess, {"soft_sigma": 0.0}, ValueError, "soft_sigma: expected a finite number above 0"),
    (detection_postprocess, {"delta_weights": (1, 1, 1)}, ValueError, "delta_weights: expected 4 numbers, got 3"),
    (detection_postprocess, {"delta_weights": (1, 1, 1, 0)}, ValueError, "delta_weights: expected a finite number"),
    (detection_postprocess, {"num_threads": 300}, ValueError, "num_threads: expected 1 to 256"),
    (preprocess, {"images": [PICTURE, PICTURE[:, :, 0]]}, ValueError, r"images\[1\]: expected rank 3"),
    (preprocess, {"images": [PICTURE.astype(np.float32)]}, TypeError, r"images\[0\]: expected dtype uint8"),
    (preprocess, {"images": [np.zeros((4, 5, 4), np.uint8)]}, ValueError, r"images\[0\]: expected length 3"),
    (preprocess, {"images": [PICTURE[:0]]}, ValueError, r"images\[0\]: expected 1 to"),
    (preprocess, {"images": [PICTURE[:, :0]]}, ValueError, r"images\[0\]: expected 1 to"),
    (preprocess, {"images": [PICTURE[:, ::2]]}, ValueError, r"images\[0\]: expected the pixels of a row without gaps"),
    (preprocess, {"images": [PICTURE[:, :, ::-1]]}, ValueError, r"images\[0\]: expected the pixels of a row without"),
    (preprocess, {"height": 0}, ValueError, "height: expected 1 to 16384"),
    (preprocess, {"width": 16385}, ValueError, "width: expected 1 to 16384"),
    (preprocess, {"width": "2"}, TypeError, "width: expected an integer"),
    (preprocess, {"mean": (0, 0)}, ValueError, "mean: expected three finite"),
    (preprocess, {"mean": (0, 0, np.nan)}, ValueError, "mean: expected three finite"),
    (preprocess, {"mean": "red"}, TypeError, "mean: expected three numbers"),
    (preprocess, {"std": (1, 0, 1)}, ValueError, "std: expected three values above 0"),
    (preprocess, {"channel_order": "rbg"}, ValueError, "channel_order: expected 'rgb' or 'bgr'"),
    (preprocess, {"resize": "cubic"}, ValueError, "resize: expected 'bilinear' or 'area'"),
    *((preprocess, {"shorter_side": bad}, ValueError, "shorter_side: expected 2") for bad in (-1, 0, 1, 16385)),
    (preprocess, {"shorter_side": 2.0}, TypeError, "shorter_side: expected an integer"),
    (preprocess, {"out": np.zeros((1, 3, 2, 3), np.float32)}, ValueError, "out: expected shape"),
    (preprocess, {"out": np.zeros((1, 3, 2, 2), np.float64)}, TypeError, "out: expected dtype float32"),
    (preprocess, {"out": np.zeros((1, 3, 2, 4), np.float32)[..., ::2]}, ValueError, "out: expected a C-contiguous"),
    (preprocess, {"out": np.frombuffer(bytes(48), np.float32).reshape(1, 3, 2, 2)}, ValueError, "out: expected a writ"),
    (preprocess, {"num_threads": 0}, ValueError, "num_threads: expected 1 to"),
    (roi_align, {"features": MAPS.astype(np.float64)}, TypeError, "features: expected dtype float32"),
    (roi_align, {"features": MAPS[0]}, ValueError, "features: expected rank 4"),
    (roi_align, {"features": unaligned(MAPS)}, ValueError, "features: expected an aligned"),
    (roi_align, {"features": MAPS[:, :, :0]}, ValueError, "features: height: expected 1 to"),
    (roi_align, {"features": MAPS[:, :, :, :0]}, ValueError, "features: width: expected 1 to"),
    (roi_align, {"features": MAPS[:0]}, ValueError, "images: expected the index of one of 0 maps"),
    (roi_align, {"boxes": BOXES.astype(np.float64)}, TypeError, "boxes: expected dtype float32"),
    (roi_align, {"boxes": BOXES[:, :3].copy()}, ValueError, "boxes: expected length 4"),
    *((roi_align, {"boxes": BOXES + bad}, ValueError, "boxes: expected finite") for bad in NOT_FINITE),
    (roi_align, {"images": IMAGES.astype(np.int32)}, TypeError, "images: expected dtype int64"),
    (roi_align, {"images": IMAGES[:4]}, ValueError, "images: expected length 5"),
    (roi_align, {"images": IMAGES + 1}, ValueError, "images: expected the index of one of 2 maps, got 2 at position 1"),
    (roi_align, {"images": IMAGES - 1}, ValueError, "images: expected the index of one of 2 maps, got -1 at position"),
    (roi_align, {"output_size": (0, 1)}, ValueError, "output_size: height: expected 1 to 1024"),
    (roi_align, {"output_size": (1, 1025)}, ValueError, "output_size: width: expected 1 to 1024"),
    (roi_align, {"output_size": 7}, TypeError, r"output_size: expected \(height, width\), got 7"),
    *(
        (roi_align, {"spatial_scale": bad}, ValueError, "spatial_scale: expected a number above 0 and up to 1e9")
        for bad in (0.0, -1.0, float("nan"), float("inf"))
    ),
    (roi_align, {"sampling_ratio": -1}, ValueError, "sampling_ratio: expected 0 to 1024"),
    (roi_align, {"num_threads": 0}, ValueError, "num_threads: expected 1 to"),
    (walk, {"item_offsets": np.array([0, 2, 3], np.int32)}, TypeError, "item_offsets: expected dtype int64"),
    (walk, {"item_offsets": np.array([], np.int64)}, ValueError, "item_offsets: rows: expected 0 to"),
    (walk, {"item_boards": np.zeros(3, np.int64)}, TypeError, "item_boards: expected dtype int32"),
    (walk, {"item_boards": np.zeros((3, 1), np.int32)}, ValueError, "item_boards: expected rank 1"),
    (walk, {"board_offsets": np.array([0, 4])}, ValueError, "board_offsets: expected values that ascend from 0 to 3"),
    (walk, {"board_items": np.zeros(6, np.int32)[::2]}, ValueError, "board_items: expected a C-contiguous"),
    (walk, {"queries": np.array([0, 1], np.int32)}, TypeError, "queries: expected dtype int64"),
    (walk, {"queries": np.array([0, 2])}, ValueError, "queries: expected item ids from 0 to below 2, got 2"),
    (walk, {"queries": np.array([0, -1])}, ValueError, "queries: expected item ids from 0 to below 2, got -1"),
    (walk, {"weights": np.ones(2)}, TypeError, "weights: expected dtype float32"),
    (walk, {"weights": np.ones(3, np.float32)}, ValueError, "weights: expected length 2"),
    (walk, {"weights": np.float32([1, -1])}, ValueError, "weights: expected 0 or more, got -1.* at position 1"),
    *((walk, {"weights": np.float32([1, bad])}, ValueError, "weights: expected finite") for bad in NOT_FINITE),
    *(
        (walk, {"offsets": np.array(bad)}, ValueError, "offsets: expected values that ascend from 0 to 2, got")
        for bad in ([0, 1], [1, 2], [0, 3], [0, 2, 1, 2], [-1, 2], [0, 2**62, 2], [0, -(2**63), 2], [1], [0])
    ),
    (walk, {"k": 0}, ValueError, "k: expected 1 to"),
    (walk, {"steps": 0}, ValueError, "steps: expected 1 to 100000000, got 0"),
    (walk, {"steps": 10**8 + 1}, ValueError, "steps: expected 1 to 100000000"),
    *((walk, {"restart": bad}, ValueError, "restart: expected 0 to 1") for bad in (-0.1, 1.1, np.nan)),
    (walk, {"seed": 0.5}, TypeError, "seed: expected an integer"),
    *((walk, {"seed": bad}, ValueError, "seed: expected a number of 64 bits") for bad in (2**64, -(2**63) - 1)),
    (walk, {"item_bias": np.zeros((2, 3), np.int32)}, ValueError, "item_bias: expected length 3 on axis 0"),
    (walk, {"board_bias": np.zeros((3, 2), np.int32)}, ValueError, "board_bias: expected length 3 on axis 1"),
    (walk, {"stop_items": -1}, ValueError, "stop_items: expected 0 to"),
    (walk, {"stop_items": 3}, ValueError, "stop_visits: expected 1 to"),
    (walk, {"max_degree": 0}, ValueError, "max_degree: expected 1 to"),
    (walk, {"num_threads": 0}, ValueError, "num_threads: expected 1 to 256"),
    *(
        (bias_table, {"offsets": np.array(bad)}, ValueError, "offsets: expected values that ascend from 0 to")
        for bad in ([0, 2], [1, 3], [0, 4, 3], [-1, 3], [0, 2**62, 3])
    ),
    (bias_table, {"neighbours": np.zeros(3, np.int64)}, TypeError, "neighbours: expected dtype int32"),
    (bias_table, {"weights": np.ones(2, np.float32)}, ValueError, "weights: expected length 3"),
    (bias_table, {"weights": np.float32([1, 2, -1])}, ValueError, "weights: expected 0 or more"),
    *((bias_table, {"weights": np.float32([1, 2, bad])}, ValueError, "weights: expected fin") for bad in NOT_FINITE),
    (bias_table, {"num_threads": 257}, ValueError, "num_threads: expected 1 to 256"),
]


@pytest.mark.parametrize(
    ("kernel", "changed", "error", "message"),
    REFUSED,
    ids=[f"{case[0].__name__}-{'-'.join(case[1])}-{i}" for i, case in enumerate(REFUSED)],
)
def test_a_wrong_argument_is_named(
    kernel: Callable[..., Any], changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A wrong type, shape, stride or value raises TypeError or ValueError that names the argument."""
    with pytest.raises(error, match=message):
        kernel(**changed)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_unchanged_arguments_are_accepted(kernel: Callable[..., Any]) -> None:
    """Each refusal above is due to the one argument it changes."""
    kernel()


def test_any_buffer_is_taken() -> None:
    """A memoryview of a bytes object works where an array does."""
    codes = memoryview(bytes(range(64))).cast("B", (4, 16))
    distances, indices = native.scan(codes, codes, 1)  # type: ignore[arg-type]  # buffers are accepted at run time
    assert distances.ravel().tolist() == [0, 0, 0, 0]
    assert indices.ravel().tolist() == [0, 1, 2, 3]


def test_dlpack_is_taken() -> None:
    """An object that speaks DLPack, and is no numpy array, works where an array does."""

    class Tensor:
        def __dlpack__(self, **options: Any) -> Any:
            return CODES.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return CODES.__dlpack_device__()

    distances, _ = native.scan(Tensor(), CODES, 1)  # type: ignore[arg-type]  # DLPack is accepted at run time
    assert (distances == 0).all()


def test_inputs_are_not_written() -> None:
    """Read-only arrays are accepted by every kernel."""
    for array in (CODES, ROWS, QUERIES, CANDIDATES, BOXES, SCORES, LOGITS, RAW, POINTS, PICTURE):
        array.setflags(write=False)
    try:
        for kernel in KERNELS:
            kernel()
    finally:
        for array in (CODES, ROWS, QUERIES, CANDIDATES, BOXES, SCORES, LOGITS, RAW, POINTS, PICTURE):
            array.setflags(write=True)
