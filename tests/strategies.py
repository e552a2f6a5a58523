"""Inputs that hypothesis draws for the kernels, and the SIMD levels that every kernel is tested at.

Values are drawn from few choices on purpose: ties, duplicates, touching boxes and exact thresholds are where kernels
go wrong, and random floats never hit them.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from bowerbird.native import _core

Array = npt.NDArray[Any]

repeatable = settings(derandomize=True, deadline=None, max_examples=40)
every_level = pytest.mark.parametrize("level", _core.simd_levels())


@contextmanager
def simd(level: str) -> Iterator[None]:
    """Run the block at this level, then go back to the one before."""
    before = _core.simd_level()
    _core.use_simd_level(level)
    try:
        yield
    finally:
        _core.use_simd_level(before)


@contextmanager
def between_guards(size: int) -> Iterator[Array]:
    """Bytes between two pages that nobody may touch: a kernel that reads or writes beside its array dies of it.

    Args:
        size: bytes, a multiple of the page size.
    """
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, size + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for guard in (address, address + page + size):
        assert protect(guard, page, 0) == 0, ctypes.get_errno()
    yield np.frombuffer(memory, np.uint8, size, page)  # it keeps the mapping; the last one who has it unmaps it


def generators() -> st.SearchStrategy[np.random.Generator]:
    """A numpy generator from a drawn seed: big arrays at the price of one number."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def code_sets(draw: st.DrawFn) -> tuple[Array, Array, Array | None, int]:
    """Codes (N, W), queries (Q, W), mask or None, and k; most distances tie."""
    rng = draw(generators())
    width = draw(st.sampled_from([8, 16, 24, 32, 40, 64, 72, 128, 256, 504, 512]))
    count = draw(st.sampled_from([0, 1, 3, 31, 32, 33, 64, 65, 127, 1023, 1024, 1025, 2500]))
    pool = rng.integers(0, 256, (8, width), dtype=np.uint8)  # few distinct codes: ties
    codes = pool[rng.integers(0, 8, count)].copy()
    codes[:, rng.integers(0, width, 3)] ^= rng.integers(0, 4, (count, 3), dtype=np.uint8)
    queries = pool[rng.integers(0, 8, draw(st.integers(0, 18)))]
    share = draw(st.sampled_from([None, 0.0, 0.02, 0.3, 1.0]))
    mask = None if share is None else np.packbits(rng.random(count) < share, bitorder="little")
    return codes, queries, mask, draw(st.sampled_from([1, 2, 10, 100, 3000]))


class Bfloat16:
    """A (N, D) tensor of bfloat16, a type that NumPy lacks: float32 values, cut to their upper halves."""

    def __init__(self, values: Array) -> None:
        self.bits = np.ascontiguousarray(np.ascontiguousarray(values, np.float32).view(np.uint16)[..., 1::2])

    def widen(self) -> Array:
        """The same values as float32."""
        return (self.bits.astype(np.uint32) << 16).view(np.float32)

    def __dlpack__(self, *, stream: None = None) -> Any:
        """NumPy's capsule of the bits, with another type code: DLManagedTensor.dl_tensor.dtype.code, at byte 20."""
        capsule = self.bits.__dlpack__(stream=stream)
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        ctypes.c_uint8.from_address(pointer(capsule, b"dltensor") + 20).value = 4  # kDLBfloat
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


@dataclass(frozen=True)
class Reranking:
    """One call of rerank.

    Attributes:
        rows: (N, D) as the kernel takes them; `widened` as the reference does.
        rest: metric, scales, offsets.
    """

    rows: Any
    widened: Array
    queries: Array
    candidates: Array
    k: int
    rest: dict[str, Any]


ROW_TYPES = ("float32", "float16", "bfloat16", "int8")
METRICS = ("inner_product", "l2", "cosine")


def rows_of(values: Array, row_type: str) -> tuple[Any, Array]:
    """Values stored as this type, as the kernel takes them and as the reference does."""
    if row_type == "bfloat16":
        narrow = Bfloat16(values)
        return narrow, narrow.widen()
    rows = values.astype(row_type)
    return rows, rows


@st.composite
def rerankings(draw: st.DrawFn) -> Reranking:
    """Every type of row and every metric; lists with gaps and repeats, as an array or ragged.

    Values are small integers, and scales few powers of two, zero among them: every sum is exact in any order, so that
    scores must agree to the last bit.
    """
    rng = draw(generators())
    row_type, metric = draw(st.sampled_from(ROW_TYPES)), draw(st.sampled_from(METRICS))
    dimension = draw(st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 192, 257]))
    count, num_queries = draw(st.integers(1, 300)), draw(st.integers(0, 4))
    most = 127 if row_type == "int8" else 8
    rows, widened = rows_of(rng.integers(-most - 1, most + 1, (count, dimension)), row_type)
    queries = rng.integers(-8, 9, (num_queries, dimension)).astype(np.float32)
    queries[rng.random(num_queries) < 0.1] = 0
    scales = rng.choice([-0.5, 0.0, 0.25, 0.5, 1.0], count).astype(np.float32) if row_type == "int8" else None
    longest = draw(st.sampled_from([0, 1, 5, 255, 256, 257, 700]))
    if draw(st.booleans()):
        candidates, offsets = rng.integers(-1, count, (num_queries, longest)), None
    else:
        offsets = np.concatenate([[0], np.cumsum(rng.integers(0, longest + 1, num_queries))])
        candidates = rng.integers(-1, count, offsets[-1])
    rest = {"metric": metric, "scales": scales, "offsets": offsets}
    return Reranking(rows, widened, queries, candidates, draw(st.sampled_from([1, 3, 50, 1000])), rest)


@st.composite
def list_sets(draw: st.DrawFn) -> tuple[tuple[Array, Array, int], dict[str, Array | None]]:
    """Codes, queries and k, and beside them lists, probes, mask and ids.

    Lists may be empty; a query may name a list twice, none, or -1; ids repeat; most distances tie.
    """
    codes, queries, mask, k = draw(code_sets())
    rng = draw(generators())
    lists = draw(st.sampled_from([1, 2, 7, 60]))
    inner = np.sort(rng.integers(0, len(codes) + 1, lists - 1))
    offsets = np.concatenate([[0], inner, [len(codes)]]).astype(np.int64)
    probes = rng.integers(-1, lists, (len(queries), draw(st.sampled_from([0, 1, 3, 80]))))
    ids = rng.integers(-5, 1 << 40, len(codes)) if draw(st.booleans()) else None
    return (codes, queries, k), {"list_offsets": offsets, "probes": probes, "mask": mask, "ids": ids}


@st.composite
def box_sets(draw: st.DrawFn) -> tuple[Array, Array, Array, float]:
    """Boxes (N, 4), scores (N,), classes (N,) and max_iou.

    On a coarse grid many pairs have exactly the threshold's IoU, share edges, or have no area.
    """
    rng = draw(generators())
    count = draw(st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 100, 300]))
    if draw(st.booleans()):
        boxes = rng.integers(-3, 9, (count, 4)).astype(np.float32)
    else:
        corner = rng.random((count, 2), np.float32) * 10
        boxes = np.concatenate([corner, corner + rng.random((count, 2), np.float32) * 6 - 1], axis=1)
    scores = (rng.integers(-3, 20, count) / 8).astype(np.float32)
    classes = rng.integers(-2, draw(st.sampled_from([-1, 3, 40])), count)
    return boxes, scores, classes, draw(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0]))


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Array, Array, Array, float]:
    """Boxes (N, 4), scores (N,), classes (N,) and max_iou, of so many that the kept ones lie in a grid of cells.

    Sizes differ much, most boxes have a near copy, and a few lie or reach far out.
    """
    rng = draw(generators())
    count = draw(st.sampled_from([399, 400, 1000, 2500]))
    offset, scale = draw(st.sampled_from([(0.0, 1.0), (-300.0, 1.0), (1e6, 1.0), (0.0, 1e-19), (0.0, 1e13)]))
    corner = rng.random((count // 5 + 1, 2)) * 1000
    size = np.exp(rng.normal(3.5, 1.2, (count // 5 + 1, 2)))
    which = rng.integers(0, len(corner), count)
    corner = corner[which] + rng.normal(0, 0.15, (count, 2)) * size[which]
    corner[rng.random(count) < draw(st.sampled_from([0.0, 0.01]))] *= 50
    boxes = np.concatenate([corner, corner + size[which] * np.exp(rng.normal(0, 0.2, (count, 2)))], axis=1)
    if draw(st.booleans()):
        boxes = np.round(boxes / 8) * 8
    scores = (rng.integers(0, 200, count) / 256).astype(np.float32)
    classes = np.minimum(rng.geometric(0.5, count), 4) * draw(st.sampled_from([1, 2**40]))
    max_iou = draw(st.sampled_from([0.0, 5e-4, 1e-3, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9, 1.0]))
    return ((boxes + offset) * scale).astype(np.float32), scores, classes, max_iou


@st.composite
def network_outputs(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """Scores (B, A, C), boxes (B, A, 4 R) and the options of detection_postprocess.

    Scores tie, and without bins so do boxes; with bins they are random, since the expectation is rounded elsewhere.
    """
    rng = draw(generators())
    images, anchors = draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, 3, 17, 90]))
    classes = draw(st.sampled_from([1, 2, 5, 33]))
    decoding = draw(st.sampled_from(["none", "deltas", "distances"]))
    bins = draw(st.sampled_from([1, 2, 8, 17])) if decoding == "distances" else 1
    activation = draw(st.sampled_from(["none", "sigmoid"]))
    scores = (rng.integers(-30, 12, (images, anchors, classes)) / 8).astype(np.float32)
    boxes = rng.integers(-2, 6, (images, anchors, 4 * bins)).astype(np.float32)
    if bins > 1:
        boxes = rng.normal(0, 2, boxes.shape).astype(np.float32)
    elif decoding == "none":
        boxes[..., 2:] += boxes[..., :2]
    if activation == "sigmoid" and draw(st.booleans()):
        scores[rng.random(scores.shape) < 0.1] = draw(st.sampled_from([np.inf, -np.inf]))
    corner = rng.integers(0, 12, (anchors, 2))
    laid_out = {
        "none": None,
        "deltas": np.concatenate([corner, corner + rng.integers(0, 9, (anchors, 2))], axis=1).astype(np.float32),
        "distances": np.concatenate([corner + 0.5, 2.0 ** rng.integers(0, 3, (anchors, 1))], axis=1).astype(np.float32),
    }
    options = {
        "anchors": laid_out[decoding],
        "decoding": decoding,
        "activation": activation,
        "image_size": draw(st.sampled_from([None, (9, 13)])),
        "min_score": draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
        "max_iou": draw(st.sampled_from([0.3, 0.55] if bins > 1 else [0.0, 0.25, 0.5, 1.0])),
        "max_candidates": draw(st.sampled_from([1, 10, 1000])),
        "max_detections": draw(st.sampled_from([1, 5, 200])),
        "wanted": draw(st.sampled_from([None, rng.random(classes) < 0.5])),
        "soft_sigma": draw(st.sampled_from([None, 0.5])),
        "delta_weights": draw(st.sampled_from([(10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0)])),
    }
    return scores, boxes, options


def pictures() -> st.SearchStrategy[Array]:
    """A picture (H, W, 3) uint8 of any small size and contrast."""
    sides = st.sampled_from([1, 2, 3, 5, 16, 17, 40, 97, 150])
    return st.builds(
        lambda rng, height, width: rng.integers(0, 256, (height, width, 3), dtype=np.uint8), generators(), sides, sides
    )


@st.composite
def feature_maps(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Maps (B, C, H, W) float32 with channels first or last, boxes (R, 4) xyxy, and the map of each (R,).

    Some boxes lie on a grid, so that samples fall on pixels and on the border; some are outside, empty or reversed.
    """
    rng = draw(generators())
    batch, channels, height, width = (draw(st.sampled_from(sizes)) for sizes in MAP_SIZES)
    features = rng.random((batch, channels, height, width), np.float32)
    if draw(st.booleans()):
        features = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    count = draw(st.sampled_from([0, 1, 3, 20]))
    reach = draw(st.sampled_from([1.0, 4.0, 300.0])) * max(height, width)
    boxes = (rng.random((count, 4)) * 1.5 - 0.25) * reach
    if draw(st.booleans()):
        boxes = np.round(boxes)
    return features, boxes.astype(np.float32), rng.integers(0, batch, count)


MAP_SIZES = ([1, 3], [1, 3, 8, 16, 19, 33], [1, 2, 9, 40], [1, 7, 8, 17, 30])
