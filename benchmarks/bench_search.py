"""One search: Hamming scan of 256-bit codes, then exact re-ranking of 200 candidates from 1280-d float16 rows.

Ours through the engine, and through gRPC (a client in this process; server-side is the handler's own time, from the
parsed request to the finished response); the peer is faiss `IndexBinaryFlat` and a NumPy re-ranking in this process, on
the same rows. One core each, the contenders taking turns on the same queries. Recall@10 against scoring every row is
checked to be equal before anything is timed.

The items are put into the engine's memory directly: writing a million to the store would take minutes and a search
does not read the store.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks import report
from bowerbird.rpc import clients
from bowerbird.rpc.clients import RetrievalClient
from bowerbird.rpc.clients import SearchParams as ClientParams
from bowerbird.testing import run_server
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.items import SearchParams
from services.retrieval.server import RetrievalServicer, build_services

SEED = 20260101
ITEMS, QUICK_ITEMS = 1_000_000, 50_000
DIMENSION, CODE_BITS, LATENT = 1280, 256, 48  # pictures vary along far fewer directions than they have components
CANDIDATES, TOP_K = 200, 10
QUERIES, REPEATS, QUICK_REPEATS = 64, 400, 60
QUERY_NOISE = 0.5
CHUNK = 20_000
RECALL_TOLERANCE = 0.02  # equal distances at the last candidate are broken differently
INDEX = "bench"


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument(
        "--items", type=int, default=0, help=f"items of the index (default {ITEMS}, quick {QUICK_ITEMS})"
    )
    arguments = parser.parse_args()
    items = arguments.items or (QUICK_ITEMS if arguments.quick else ITEMS)
    repeats = QUICK_REPEATS if arguments.quick else REPEATS
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        engine = RetrievalEngine.open(RetrievalConfig(data_dir=Path(directory), rerank=CANDIDATES))
        fill(engine, items)
        report.publish("search", measure(engine, items, repeats), as_json=arguments.json)


def make_rows(items: int) -> Iterator[np.ndarray]:
    """Chunks of (n, 1280) float16 unit rows of LATENT degrees of freedom and some noise."""
    rng = np.random.default_rng(SEED)
    basis = rng.standard_normal((LATENT, DIMENSION)).astype(np.float32)
    noise = 0.5 * rng.standard_normal((CHUNK, DIMENSION)).astype(np.float32)
    for start in range(0, items, CHUNK):
        count = min(CHUNK, items - start)
        rows = rng.standard_normal((count, LATENT)).astype(np.float32) @ basis + rng.permutation(noise)[:count]
        yield (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def encode(rows: np.ndarray) -> np.ndarray:
    """(n, 32) uint8: the signs of the first 256 components."""
    return np.packbits(rows[:, :CODE_BITS] > 0, axis=1)


def fill(engine: RetrievalEngine, items: int) -> None:
    engine.create_index(INDEX, dimension=DIMENSION, code_bits=CODE_BITS)
    memory = engine._catalog[INDEX].memory
    memory.reserve(items)
    start = 0
    for sequence, rows in enumerate(make_rows(items), 1):
        names = [f"item-{number:08d}" for number in range(start, start + len(rows))]
        memory.apply(names, rows, encode(rows), [{}] * len(rows), kinds={}, sequence=sequence)
        start += len(rows)


def measure(engine: RetrievalEngine, items: int, repeats: int) -> list[report.Row]:
    rows = engine._catalog[INDEX].memory.view.slots.rows[:items]
    flat = faiss.IndexBinaryFlat(CODE_BITS)
    flat.add(np.ascontiguousarray(engine._catalog[INDEX].memory.view.slots.codes[:items]))
    queries = make_queries(rows)
    params = SearchParams(top_k=TOP_K)

    def ours(query: np.ndarray, code: np.ndarray) -> list[int]:
        hits = engine.search(INDEX, query[None], code[None], params).hits[0]
        return [int(hit.item_id.removeprefix("item-")) for hit in hits]

    def peer(query: np.ndarray, code: np.ndarray) -> list[int]:
        _, found = flat.search(code[None], CANDIDATES)
        scores = rows[found[0]].astype(np.float32) @ query
        return found[0][np.argsort(-scores)[:TOP_K]].tolist()

    quality = check_recall(rows, queries, {"bowerbird": ours, "peer": peer})
    handler_s: list[float] = []
    with run_server(timed_services(engine, handler_s)) as (target, _), clients.connect(target) as connection:
        client, over_wire = RetrievalClient(connection), ClientParams(top_k=TOP_K)

        def through_grpc(query: np.ndarray, code: np.ndarray) -> object:
            return client.search(query, code=code, index=INDEX, params=over_wire)

        samples = report.interleave(
            {
                "engine": on_each(queries, ours),
                "peer": on_each(queries, peer),
                "grpc": on_each(queries, through_grpc),
            },
            repeats,
        )
    samples["handler"] = handler_s[1:]  # without the warm-up
    shape = f"{items} x {CODE_BITS} bit, re-rank {CANDIDATES} of {DIMENSION}-d float16"
    titles = {"engine": "engine", "handler": "gRPC, server-side", "grpc": "gRPC, seen by the client"}
    return [row(f"search {shape}: {titles[name]}", samples[name], samples["peer"], quality) for name in titles]


def make_queries(rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows moved a little, with their codes."""
    rng = np.random.default_rng(SEED + 1)
    chosen = rows[rng.integers(0, len(rows), QUERIES)].astype(np.float32)
    moved = chosen + QUERY_NOISE * rng.standard_normal(chosen.shape).astype(np.float32) / DIMENSION**0.5
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return list(zip(moved, encode(moved), strict=True))


def check_recall(
    rows: np.ndarray, queries: list[tuple[np.ndarray, np.ndarray]], contenders: dict[str, Callable[..., list[int]]]
) -> dict[str, float]:
    """Recall@10 of each against all rows scored; AssertionError if they differ."""
    matrix = np.stack([query for query, _ in queries])
    scores = np.concatenate(
        [matrix @ rows[start : start + CHUNK].astype(np.float32).T for start in range(0, len(rows), CHUNK)], axis=1
    )
    best = np.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
    recalls = {}
    for name, search in contenders.items():
        found = [len(set(search(*query)) & set(truth.tolist())) for query, truth in zip(queries, best, strict=True)]
        recalls[name] = round(sum(found) / (TOP_K * len(queries)), 4)
    assert max(recalls.values()) - min(recalls.values()) <= RECALL_TOLERANCE, recalls
    return recalls


def timed_services(engine: RetrievalEngine, seconds: list[float]) -> list[Any]:
    """The services of the engine, with the time of every Search handler noted."""

    class Timed(RetrievalServicer):
        def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
            start = time.perf_counter()
            answer = super().Search(request, context)
            seconds.append(time.perf_counter() - start)
            return answer

    read, *others = build_services(engine)
    return [dataclasses.replace(read, servicer=Timed(engine)), *others]


def on_each(queries: list[tuple[np.ndarray, np.ndarray]], search: Callable[..., object]) -> Callable[[], object]:
    """A call without arguments that takes the next query."""
    turns = cycle(queries)
    return lambda: search(*next(turns))


def row(name: str, ours_s: list[float], peer_s: list[float], quality: dict[str, float]) -> report.Row:
    mine, other = percentiles(ours_s), percentiles(peer_s)
    return {
        "name": name,
        "ours_ms": mine["p50"],
        "peer": "faiss IndexBinaryFlat + NumPy",
        "peer_ms": other["p50"],
        "ratio": round(other["p50"] / mine["p50"], 2),
        "recall_at_10": quality["bowerbird"],
        "peer_recall_at_10": quality["peer"],
        "ours_percentiles_ms": mine,
        "peer_percentiles_ms": other,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    milliseconds = np.array(seconds) * 1e3
    named = {"min": 0, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(milliseconds, at)), 4) for name, at in named.items()}


if __name__ == "__main__":
    main()
