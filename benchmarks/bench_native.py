"""The native kernels beside faiss, NumPy and Pillow, one thread each, results compared before any clock starts.

Run: python -m benchmarks.bench_native [--quick] [--json]
A row's ratio is peer / ours of the medians: above 1, ours is faster. BOWERBIRD_SIMD measures another level.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the libraries start their pools
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import itertools
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import report
from bowerbird import native

SEED = 20
CODES = 1_000_000
CODE_BITS = 256
LONG_BITS = 1024
ROWS, QUICK_ROWS = 1_000_000, 250_000  # float16 rows; both far beyond any cache
DIMENSION = 1280
K = 200
BATCH = 64
REPEATS, QUICK_REPEATS = 101, 21
PICTURE_SIZE = (427, 640)
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)

Array = npt.NDArray[Any]


class Corpus:
    """Random codes and rows, and faiss's index over the codes."""

    def __init__(self, rng: np.random.Generator, *, num_rows: int) -> None:
        self.codes = rng.integers(0, 256, (CODES, CODE_BITS // 8), dtype=np.uint8)
        self.query_codes = rng.integers(0, 256, (BATCH, CODE_BITS // 8), dtype=np.uint8)
        # Rows repeat every 4096 so that they are made quickly; each lies at an address of its own.
        some = rng.standard_normal((4096, DIMENSION), dtype=np.float32).astype(np.float16)
        self.rows = np.resize(some, (num_rows, DIMENSION))
        self.query = rng.standard_normal((1, DIMENSION), dtype=np.float32)
        self.index = faiss.IndexBinaryFlat(CODE_BITS)
        self.index.add(self.codes)


def numpy_rerank(rows: Array, query: Array, ids: Array, k: int) -> tuple[Array, Array]:
    """Gather, widen, multiply, partial sort: what one writes without a kernel."""
    scores = rows[ids].astype(np.float32) @ query
    best = np.argpartition(-scores, k - 1)[:k] if k < len(ids) else np.arange(len(ids))
    best = best[np.argsort(-scores[best], kind="stable")]
    return scores[best], ids[best]


def bench_search(corpus: Corpus, repeats: int) -> list[report.Row]:
    """Scan for K candidates, then rank them exactly: one search as the retrieval service does it."""
    codes = itertools.cycle(corpus.query_codes[:, None, :])
    num_rows = len(corpus.rows)

    def ours(code: Array) -> Array:
        candidates = native.scan(corpus.codes, code, K)[1] % num_rows
        return native.rerank(corpus.rows, corpus.query, candidates, K)[0]

    def peer(code: Array) -> Array:
        candidates = corpus.index.search(code, K)[1][0] % num_rows
        return numpy_rerank(corpus.rows, corpus.query[0], candidates, K)[0]

    # The last distance is tied by many codes, and each side keeps some of them: compare what must agree.
    ours_distances = native.scan(corpus.codes, corpus.query_codes, K)[0]
    np.testing.assert_array_equal(ours_distances, corpus.index.search(corpus.query_codes, K)[0])
    candidates = np.random.default_rng(SEED).integers(0, num_rows, (1, K))
    ranked = native.rerank(corpus.rows, corpus.query, candidates, K)[0][0]
    expected = numpy_rerank(corpus.rows, corpus.query[0], candidates[0], K)[0]
    np.testing.assert_allclose(ranked, expected, rtol=1e-4, atol=1e-3)
    return report.compare(
        f"search {CODES} x {CODE_BITS} bits, top {K}, exact re-rank of {DIMENSION}-d float16 ({num_rows} rows)",
        lambda: ours(next(codes)),
        {"faiss IndexBinaryFlat + NumPy": lambda: peer(next(codes))},
        repeats,
    )


def bench_scan(codes: Array, queries: Array, index: Any, repeats: int, *, with_numpy: bool) -> list[report.Row]:
    """Distances and indices of the K nearest codes."""
    np.testing.assert_array_equal(native.scan(codes, queries, K)[0], index.search(queries, K)[0])
    name = f"scan {len(codes)} x {codes.shape[1] * 8} bits, top {K}, {len(queries)} queries"

    def ours() -> object:
        return native.scan(codes, queries, K)

    def numpy_scan() -> Array:
        distances = np.bitwise_count(codes.view(np.uint64) ^ queries.view(np.uint64)).sum(axis=1, dtype=np.uint16)
        return np.argpartition(distances, K)[:K]

    compared = report.compare(name, ours, {"faiss IndexBinaryFlat": lambda: index.search(queries, K)}, repeats)
    if with_numpy:  # apart from faiss: its temporary arrays would take the codes out of the cache for both
        compared += report.compare(name, ours, {"NumPy bitwise_count": numpy_scan}, repeats // 7)
    return compared


def bench_rerank(corpus: Corpus, num_candidates: int, repeats: int) -> list[report.Row]:
    """Scores and ids of the K best among candidates that were not read lately."""
    rng = np.random.default_rng(SEED)
    fresh = itertools.cycle(rng.integers(0, len(corpus.rows), (64, 1, num_candidates)))
    ids = next(fresh)
    ours = native.rerank(corpus.rows, corpus.query, ids, K)[0][0]
    np.testing.assert_allclose(ours, numpy_rerank(corpus.rows, corpus.query[0], ids[0], K)[0], rtol=1e-4, atol=1e-3)
    return report.compare(
        f"rerank {num_candidates} of {len(corpus.rows)} x {DIMENSION}-d float16, top {K}",
        lambda: native.rerank(corpus.rows, corpus.query, next(fresh), K),
        {"NumPy": lambda: numpy_rerank(corpus.rows, corpus.query[0], next(fresh)[0], K)},
        repeats,
    )


def detector_boxes(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Boxes as a detector gives them: about fifty jittered proposals an object, 80 classes."""
    objects = max(1, count // 50)
    centres, sizes = rng.random((objects, 2)) * 1000, np.exp(rng.normal(4, 0.6, (objects, 2)))
    which = rng.integers(0, objects, count)
    centre = centres[which] + rng.normal(0, 0.1, (count, 2)) * sizes[which]
    size = sizes[which] * np.exp(rng.normal(0, 0.15, (count, 2)))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    return boxes, rng.beta(2, 5, count).astype(np.float32), which % 80


def numpy_nms(boxes: Array, scores: Array, max_iou: float) -> Array:
    """Greedy suppression with one vectorised comparison a survivor."""
    x_min, y_min, x_max, y_max = boxes.T
    areas = (x_max - x_min) * (y_max - y_min)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        width = np.minimum(x_max[best], x_max[rest]) - np.maximum(x_min[best], x_min[rest])
        height = np.minimum(y_max[best], y_max[rest]) - np.maximum(y_min[best], y_min[rest])
        inter = np.maximum(width, 0) * np.maximum(height, 0)
        order = rest[inter <= np.float32(max_iou) * (areas[best] + areas[rest] - inter)]
    return np.array(kept)


def bench_nms(rng: np.random.Generator, count: int, repeats: int) -> list[report.Row]:
    """Survivors of all boxes, and of each class (the peer: one call a class)."""
    boxes, scores, classes = detector_boxes(rng, count)

    def peer_by_class() -> Array:
        members = [np.flatnonzero(classes == c) for c in np.unique(classes)]
        kept = np.concatenate([m[numpy_nms(boxes[m], scores[m], 0.5)] for m in members])
        return kept[np.lexsort((kept, -scores[kept]))]

    np.testing.assert_array_equal(native.nms(boxes, scores, max_iou=0.5), numpy_nms(boxes, scores, 0.5))
    np.testing.assert_array_equal(native.nms(boxes, scores, max_iou=0.5, classes=classes), peer_by_class())
    return [
        *report.compare(
            f"nms {count} boxes",
            lambda: native.nms(boxes, scores, max_iou=0.5),
            {"NumPy": lambda: numpy_nms(boxes, scores, 0.5)},
            repeats,
        ),
        *report.compare(
            f"nms {count} boxes, {len(np.unique(classes))} classes",
            lambda: native.nms(boxes, scores, max_iou=0.5, classes=classes),
            {"NumPy": peer_by_class},
            repeats,
        ),
    ]


def bench_preprocess(rng: np.random.Generator, side: int, repeats: int) -> list[report.Row]:
    """One picture to one normalised input of the model."""
    picture = rng.integers(0, 256, (*PICTURE_SIZE, 3), dtype=np.uint8)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    out = np.empty((1, 3, side, side), np.float32)

    def ours() -> Array:
        return native.preprocess([picture], height=side, width=side, mean=mean, std=std, out=out)

    def peer() -> Array:
        resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(((np.asarray(resized, np.float32) - mean) / std).transpose(2, 0, 1))[None]

    np.testing.assert_allclose(ours(), peer(), rtol=0, atol=1.05 / min(STD))  # Pillow rounds twice
    name = f"preprocess {PICTURE_SIZE[1]}x{PICTURE_SIZE[0]} -> {side}x{side}"
    return report.compare(name, ours, {"Pillow BILINEAR + NumPy": peer}, repeats)


def rows(*, quick: bool) -> Iterator[report.Row]:
    """All measurements, one row a peer."""
    rng = np.random.default_rng(SEED)
    repeats = QUICK_REPEATS if quick else REPEATS
    corpus = Corpus(rng, num_rows=QUICK_ROWS if quick else ROWS)
    yield from bench_search(corpus, repeats)
    yield from bench_scan(corpus.codes, corpus.query_codes[:1], corpus.index, repeats, with_numpy=True)
    yield from bench_scan(corpus.codes, corpus.query_codes, corpus.index, repeats // 7, with_numpy=False)
    for num_candidates in (200, 1000):
        yield from bench_rerank(corpus, num_candidates, repeats)
    del corpus
    long_codes = rng.integers(0, 256, (CODES, LONG_BITS // 8), dtype=np.uint8)
    index = faiss.IndexBinaryFlat(LONG_BITS)
    index.add(long_codes)
    yield from bench_scan(long_codes, long_codes[:1].copy(), index, repeats // 2, with_numpy=False)
    for count in (1000, 5000):
        yield from bench_nms(rng, count, repeats)
    for side in (224, 320):
        yield from bench_preprocess(rng, side, repeats)


def main() -> None:
    """Measure, print, write benchmarks/results/native.json."""
    arguments = report.parse_arguments(__doc__)
    faiss.omp_set_num_threads(1)
    measured = [row | {"simd": native.simd_level(), "threads": 1} for row in rows(quick=arguments.quick)]
    report.publish("native", measured, as_json=arguments.json)


if __name__ == "__main__":
    main()
