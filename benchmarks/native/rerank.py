"""Scores and ids of the best among candidate rows, beside NumPy, torch, faiss and usearch.

Rows lie in one buffer, aligned to a cache line and advised to be of huge pages, for ours and every peer that takes
them as they lie; faiss holds a copy of its own. Candidates are random and fresh at each call. int8 queries are whole
numbers and all scales are one value, so that a peer that multiplies integers computes the same. faiss IndexRefine finds
its candidates itself: random ones, by IndexRandom, whose own search is measured in the same rounds and subtracted, the
fastest from the fastest and so on to the slowest. The floor of int8 reads a row's scale, too: one cache line more.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch
from usearch.index import MetricKind, search

from benchmarks import report
from benchmarks.native import floors
from bowerbird import native

SEED = 20
ROWS, QUICK_ROWS = 1_000_000, 400_000
DIMENSIONS = (256, 768)
ROW_TYPES = ("float32", "float16", "int8")
CANDIDATES = {1_000: 64, 10_000: 64}  # a query: queries in a batch
QUICK_CANDIDATES = {1_000: 64, 10_000: 8}
K = 100
BATCHES = 8  # of candidates, and of the queries of IndexRefine, taken in turns: together they are far beyond any cache
REPEATS, QUICK_REPEATS = 21, 3
BUDGET_S, QUICK_BUDGET_S = 15.0, 0.4  # a cell
SCALE = np.float32(1 / 64)

Array = npt.NDArray[Any]
Answer = tuple[Array, Array]  # scores (Q, K), ids (Q, K)
Peer = Callable[[Array], Answer]  # of candidates (Q, C)
REFINE, REFINE_BASE = "faiss IndexRefine", "its IndexRandom"


@dataclass(frozen=True)
class Data:
    """Rows (N, D), their scales if they are int8, queries (Q, D) float32 that float16 and int8 hold exactly."""

    rows: Array
    scales: Array | None
    queries: Array

    @property
    def scale(self) -> np.float32:
        return np.float32(1) if self.scales is None else SCALE


def rows(*, quick: bool) -> Iterator[report.Row]:
    """A batch for each type of row, dimension and number of candidates."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(SEED)
    count = QUICK_ROWS if quick else ROWS
    buffer = mmap.mmap(-1, count * max(DIMENSIONS) * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    for dimension, row_type in itertools.product(DIMENSIONS, ROW_TYPES):
        data = make_data(rng, buffer, count, dimension, row_type)
        refine = make_refine(data)
        peers = make_peers(data, refine)
        for num_candidates, num_queries in (QUICK_CANDIDATES if quick else CANDIDATES).items():
            yield from measure(rng, data, peers, refine, num_candidates, num_queries, quick=quick)


def make_data(rng: np.random.Generator, buffer: mmap.mmap, count: int, dimension: int, row_type: str) -> Data:
    """Rows repeat every 4096, to be made quickly; each lies at an address of its own."""
    dtype = np.dtype(row_type)
    stored = np.frombuffer(buffer, dtype, count * dimension).reshape(count, dimension)
    most = 100 if row_type == "int8" else 8  # torch sums float16 products in float16, which ends at 65,504
    some = rng.integers(-most, most + 1, (4096, dimension)).astype(dtype)
    for start in range(0, count, len(some)):
        stored[start : start + len(some)] = some[: count - start]
    queries = rng.integers(-most, most + 1, (max(CANDIDATES.values()), dimension)).astype(np.float32)
    return Data(stored, np.full(count, SCALE) if row_type == "int8" else None, queries)


def make_refine(data: Data) -> Any:
    """IndexRefine over a copy of the rows, in the type of faiss that holds them and is scored fastest."""
    count, dimension = data.rows.shape
    base = faiss.IndexRandom(dimension, count, SEED, faiss.METRIC_INNER_PRODUCT)
    if data.rows.dtype == np.float32:
        refine = faiss.IndexRefineFlat(base, faiss.swig_ptr(data.rows))
        refine.referenced_objects = [base]
        return refine
    is_half = data.rows.dtype == np.float16
    code = faiss.ScalarQuantizer.QT_fp16 if is_half else faiss.ScalarQuantizer.QT_8bit_direct_signed
    stored = faiss.IndexScalarQuantizer(dimension, code, faiss.METRIC_INNER_PRODUCT)
    raw = data.rows.view(np.uint8)
    faiss.copy_array_to_vector((raw if is_half else raw ^ 128).ravel(), stored.codes)
    stored.is_trained, stored.ntotal = True, count
    refine = faiss.IndexRefine(base, stored)
    refine.referenced_objects = [base, stored]
    return refine


def make_peers(data: Data, refine: Any) -> dict[str, Peer]:
    """Who computes the same on one thread, query after query: what is done to a batch at once is slower in all."""
    peers = {
        "NumPy take, matmul, argpartition": by_query(data, numpy_query),
        "torch index_select, mv, topk": by_query(data, torch_query),
        "NumPy take, usearch exact": by_query(data, usearch_query),
    }
    if data.rows.dtype == np.float32:
        index = faiss.downcast_index(refine.refine_index)
        peers["faiss compute_distance_subset, argpartition"] = lambda ids: faiss_subset(index, data.queries, ids)
        peers["faiss IDSelectorArray"] = by_query(data, lambda _, query, ids: faiss_selected(index, query, ids))
    return peers


def by_query(data: Data, one: Callable[[Data, Array, Array], Answer]) -> Peer:
    """The batch as a loop."""

    def run(ids: Array) -> Answer:
        answers = [one(data, query, list_) for query, list_ in zip(data.queries, ids, strict=False)]
        return np.stack([answer[0] for answer in answers]), np.stack([answer[1] for answer in answers])

    return run


def best_of(scores: Array, ids: Array) -> Answer:
    """The K best, in order."""
    best = np.argpartition(-scores, K - 1)[:K]
    best = best[np.argsort(-scores[best])]
    return scores[best], ids[best]


def numpy_query(data: Data, query: Array, ids: Array) -> Answer:
    """Gather, widen, multiply, partial sort: what one writes without a kernel."""
    taken = data.rows.take(ids, axis=0)
    scores = taken.astype(np.float32, copy=False) @ query
    return best_of(scores * data.scale, ids)


def torch_query(data: Data, query: Array, ids: Array) -> Answer:
    """The same in torch, whose float16 matrix product needs no widening (its sums are rounded to float16)."""
    taken = torch.from_numpy(data.rows).index_select(0, torch.from_numpy(ids))
    if data.rows.dtype == np.int8:
        taken = taken.float()
    scores, places = torch.topk(taken.mv(torch.from_numpy(query).to(taken.dtype)), K)
    return scores.float().numpy() * data.scale, ids[places.numpy()]


def usearch_query(data: Data, query: Array, ids: Array) -> Answer:
    """usearch over a gathered copy; its distance is 1 - inner product."""
    taken = data.rows.take(ids, axis=0)
    found = search(taken, query.astype(data.rows.dtype), K, MetricKind.IP, exact=True, threads=1)
    return (1 - np.asarray(found.distances)) * data.scale, ids[found.keys.astype(np.int64)]


def faiss_subset(index: Any, queries: Array, ids: Array) -> Answer:
    """Distances of given ids, by faiss; their order by NumPy."""
    scores = np.empty(ids.shape, np.float32)
    queries = queries[: len(ids)]
    index.compute_distance_subset(
        len(ids), faiss.swig_ptr(queries), ids.shape[1], faiss.swig_ptr(scores), faiss.swig_ptr(ids)
    )
    answers = [best_of(*pair) for pair in zip(scores, ids, strict=True)]
    return np.stack([answer[0] for answer in answers]), np.stack([answer[1] for answer in answers])


def faiss_selected(index: Any, query: Array, ids: Array) -> Answer:
    """A search among given ids."""
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorArray(ids))
    scores, found = index.search(query[None], K, params=parameters)
    return scores[0], found[0]


def measure(
    rng: np.random.Generator,
    data: Data,
    peers: dict[str, Peer],
    refine: Any,
    num_candidates: int,
    num_queries: int,
    *,
    quick: bool,
) -> list[report.Row]:
    """Every call has fresh candidates; the floor gathers as many rows."""
    fresh = itertools.cycle(rng.integers(0, len(data.rows), (BATCHES, num_queries, num_candidates)))
    batches = itertools.cycle(np.stack([rng.permuted(data.queries[:num_queries], axis=1) for _ in range(BATCHES)]))
    queries = np.ascontiguousarray(data.queries[:num_queries])
    refine.k_factor = num_candidates / K

    def ours(ids: Array) -> Answer:
        return native.rerank(data.rows, queries, ids, K, scales=data.scales)

    check(data, peers, refine, queries, next(fresh))
    contenders: dict[str, Callable[[], object]] = {"ours": lambda: ours(next(fresh))}
    for peer, answer in peers.items():
        contenders[peer] = lambda answer=answer: answer(next(fresh))  # type: ignore[misc]
    contenders |= {
        REFINE: lambda: refine.search(next(batches), K),
        REFINE_BASE: lambda: refine.base_index.search(next(batches), num_candidates),
    }
    floor = "prefetched gather of rows" + ("" if data.scales is None else " and scales")
    probes = {floor: floors.gather_read(data.rows, fresh, data.scales)}
    if data.scales is not None:
        probes["prefetched gather of rows"] = floors.gather_read(data.rows, fresh)
    contenders |= {name: probe for name, probe in probes.items() if probe is not None}
    samples = report.interleave(
        contenders, QUICK_REPEATS if quick else REPEATS, budget_s=QUICK_BUDGET_S if quick else BUDGET_S
    )
    refined = {f"{REFINE}, less {REFINE_BASE}": less(samples[REFINE], samples[REFINE_BASE])}
    rows_ = report.make_rows(
        f"rerank {num_candidates} of {len(data.rows)} x {data.rows.shape[1]}-d {data.rows.dtype}, top {K}, "
        f"{num_queries} queries",
        samples["ours"],
        {peer: samples[peer] for peer in peers} | refined,
        {floor: samples[floor]} if floor in samples else {},
    )
    ns = 1e9 / (num_queries * num_candidates)
    each = {name: round(min(samples[name]) * ns, 1) for name in ("ours", *probes) if name in samples}
    return [row | {"ns_per_candidate": each} for row in rows_]


def check(data: Data, peers: dict[str, Peer], refine: Any, queries: Array, ids: Array) -> None:
    """Ours and every peer give the same scores: products and most sums are whole numbers.

    torch rounds a float16 score, and usearch may sum in float16 steps.
    """
    tolerance = 2e-3 if data.rows.dtype == np.float16 else 1e-5

    def expected(of: Array) -> Array:
        return native.rerank(data.rows, queries, of, K, scales=data.scales)[0]

    for peer, answer in peers.items():
        np.testing.assert_allclose(answer(ids)[0], expected(ids), rtol=tolerance, err_msg=peer)
    _, found = refine.base_index.search(queries, ids.shape[1])
    refined = refine.search(queries, K)[0] * data.scale
    np.testing.assert_allclose(refined, expected(found), rtol=tolerance, err_msg=REFINE)


def less(whole: list[float], part: list[float]) -> list[float]:
    """Seconds of the whole without a part of it: the fastest less the fastest, and so on to the slowest."""
    return [a - b for a, b in zip(sorted(whole), sorted(part), strict=True)]
