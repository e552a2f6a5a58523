"""How good retrieval is on indexed pictures: cross-style concepts, what binary codes cost, categories.

A concept drawn in two styles is one question with one right answer: query the picture of one style, and look at which
rank the picture of the same concept stands among those of the other style. The gallery of a pair of styles holds
exactly the concepts that both have. Exact answers are computed here from the stored vectors; those of binary scan and
re-ranking come from the running server.

Legend: N items, Q queries, D dimensions, K ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.cli.outcome import CommandFailed
from bowerbird.evaluation import Estimate, bootstrap_mean, label_precision, rank_truth, recall
from bowerbird.rpc.clients import Item, RetrievalClient, SearchParams
from bowerbird.v1.retrieval_pb2 import Filter
from bowerbird.v1.types_pb2 import Value
from bowerbird.vectors import CodeArray, FloatArray

IntArray = npt.NDArray[np.int64]

DEPTH = 10
CATEGORY_DEPTH = 5
READERS = 8
QUERIES_A_CALL = 256
TIMEOUT_S = 120.0
REFERENCE_DRAWS = 10


@dataclass(frozen=True)
class Corpus:
    """The items of an index.

    Attributes:
        ids: (N,) item ids.
        fields: of each item.
        embeddings: (N, D) float32, unit length.
        codes: (N, W) uint8.
    """

    ids: list[str]
    fields: list[dict[str, Any]]
    embeddings: FloatArray
    codes: CodeArray

    def positions(self, style: str) -> dict[str, int]:
        """Position of the picture of each concept in a style; the first where there are several."""
        found: dict[str, int] = {}
        for position, fields in enumerate(self.fields):
            if fields.get("style") == style and fields.get("concept"):
                found.setdefault(str(fields["concept"]), position)
        return found


@dataclass(frozen=True)
class Pair:
    """Ranks of the right answers for one pair of styles.

    Attributes:
        concepts: what both styles have, in the order of the ranks.
        exact: (Q,) int64, rank by exact scores; K where it is not among the first K.
        binary: (Q,) int64, the same by binary scan and re-ranking on the server.
    """

    query_style: str
    gallery_style: str
    concepts: list[str]
    exact: IntArray
    binary: IntArray


def load_corpus(client: RetrievalClient, index: str, *, keep: Callable[[Item], bool] | None = None) -> Corpus:
    """The items of an index with their vectors.

    Args:
        keep: which of them, told without their vectors; None: all.
    Raises:
        CommandFailed: there is none, or the index has no binary codes.
    """
    listed = [item for item in client.list_items(index=index) if keep is None or keep(item)]
    if not listed:
        raise CommandFailed(f"index {index!r} is empty; fill it with: bowerbird index FOLDER")

    def read(item: Item) -> Item:
        return client.get_item(item.item_id, index=index, include_vectors=True)

    with ThreadPoolExecutor(READERS) as pool:
        items = list(pool.map(read, listed))
    vectors = [(item.embedding, item.code) for item in items]
    embeddings = [embedding for embedding, code in vectors if embedding is not None and code is not None]
    if len(embeddings) != len(items):
        raise CommandFailed(f"index {index!r} has no binary codes, so there is nothing to compare exact search with")
    return Corpus(
        ids=[item.item_id for item in items],
        fields=[dict(item.fields) for item in items],
        embeddings=np.stack(embeddings).astype(np.float32),
        codes=np.stack([code for _, code in vectors if code is not None]),
    )


def compare_pairs(client: RetrievalClient, index: str, corpus: Corpus, styles: Sequence[str]) -> Iterator[Pair]:
    """Every ordered pair of these styles that shares concepts."""
    found = {style: corpus.positions(style) for style in styles}
    for query_style, gallery_style in permutations(styles, 2):
        concepts = sorted(found[query_style].keys() & found[gallery_style].keys())
        if not concepts:
            continue
        queries = np.array([found[query_style][concept] for concept in concepts])
        gallery = np.array([found[gallery_style][concept] for concept in concepts])
        only = SearchParams(top_k=min(DEPTH, len(concepts)), filter=_only(gallery_style, concepts), return_fields=())
        yield Pair(
            query_style,
            gallery_style,
            concepts,
            exact=rank_truth(rank_exactly(corpus, queries, gallery, DEPTH), gallery),
            binary=rank_truth(_rank_on_server(client, index, corpus, queries, only, DEPTH), gallery),
        )


def rank_exactly(corpus: Corpus, queries: IntArray, gallery: IntArray, depth: int) -> IntArray:
    """(Q, depth) positions of the gallery with the largest inner products, best first; -1 where it has fewer.

    Args:
        queries: (Q,) positions in the corpus.
        gallery: (G,) positions in the corpus.
    """
    scores = corpus.embeddings[queries] @ corpus.embeddings[gallery].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.pad(gallery[best], ((0, 0), (0, depth - best.shape[1])), constant_values=-1)


def measure_like_reference(corpus: Corpus, query_style: str, gallery_style: str, *, concepts: int) -> dict[str, Any]:
    """Exact P@1 and R@10 among this many concepts drawn at random, the mean of several draws.

    A smaller gallery is an easier one, so figures that others published for a sample compare with this one only.
    """
    query_of, gallery_of = corpus.positions(query_style), corpus.positions(gallery_style)
    shared = sorted(query_of.keys() & gallery_of.keys())
    generator = np.random.default_rng(0)
    ranks = []
    for _ in range(REFERENCE_DRAWS):
        drawn = generator.choice(len(shared), min(concepts, len(shared)), replace=False)
        queries = np.array([query_of[shared[n]] for n in drawn])
        gallery = np.array([gallery_of[shared[n]] for n in drawn])
        ranks.append(rank_truth(rank_exactly(corpus, queries, gallery, DEPTH), gallery))
    flat = np.concatenate(ranks)
    first, ten = (round(float(recall(flat, k).mean()), 4) for k in (1, DEPTH))
    return {"concepts": len(ranks[0]), "draws": REFERENCE_DRAWS, "p_at_1": first, "r_at_10": ten}


def measure_overlap(client: RetrievalClient, index: str, corpus: Corpus, style: str) -> dict[str, Any]:
    """How many of the ten exactly nearest items of the whole index a default search finds, queried with one style."""
    queries = np.array(sorted(corpus.positions(style).values()))
    exact = rank_exactly(corpus, queries, np.arange(len(corpus.ids)), DEPTH)
    params = SearchParams(top_k=min(DEPTH, len(corpus.ids)), return_fields=())
    found = _rank_on_server(client, index, corpus, queries, params, DEPTH)
    kept = [len(set(one) & set(other)) / DEPTH for one, other in zip(exact.tolist(), found.tolist(), strict=True)]
    estimate = bootstrap_mean(np.array(kept))
    return {"items": len(corpus.ids), "queries": len(kept), "overlap_at_10": round(estimate.value, 4)}


def measure_category(client: RetrievalClient, index: str, corpus: Corpus, style: str) -> dict[str, Any] | None:
    """Precision at 5 of the category, each picture of a style queried against all others of it; None if it has none."""
    members = [
        position
        for position, fields in enumerate(corpus.fields)
        if fields.get("style") == style and fields.get("category")
    ]
    names, labels = np.unique([str(corpus.fields[position]["category"]) for position in members], return_inverse=True)
    if len(members) <= CATEGORY_DEPTH or len(names) < 2:
        return None
    queries = np.array(members)
    params = SearchParams(top_k=CATEGORY_DEPTH + 1, filter=_only(style), return_fields=())
    found = _rank_on_server(client, index, corpus, queries, params, CATEGORY_DEPTH + 1)
    answers = np.array(
        [[hit for hit in row if hit != query][:CATEGORY_DEPTH] for row, query in zip(found, queries, strict=True)]
    )
    label_of = np.full(len(corpus.ids), -1)
    label_of[queries] = labels
    estimate = bootstrap_mean(label_precision(answers, label_of, labels))
    shares = np.bincount(labels) / len(labels)
    return {
        "style": style,
        "pictures": len(members),
        "categories": len(names),
        "p_at_5": round(estimate.value, 4),
        "p_at_5_interval": estimate.interval,
        "chance": round(float((shares**2).sum()), 4),
    }


def estimate_at(ranks: IntArray, k: int, clusters: IntArray | None = None) -> Estimate:
    """Share of the right answers among the first k, with its interval over concepts."""
    return bootstrap_mean(recall(ranks, k), clusters)


def _rank_on_server(
    client: RetrievalClient, index: str, corpus: Corpus, queries: IntArray, params: SearchParams, depth: int
) -> IntArray:
    """(Q, depth) positions that the server answers, best first, padded with -1."""
    position_of = {item_id: position for position, item_id in enumerate(corpus.ids)}
    answers = np.full((len(queries), depth), -1, np.int64)
    for start in range(0, len(queries), QUERIES_A_CALL):
        some = queries[start : start + QUERIES_A_CALL]
        results = client.batch_search(
            corpus.embeddings[some], codes=corpus.codes[some], index=index, params=params, timeout_s=TIMEOUT_S
        )
        for row, result in enumerate(results, start=start):
            answers[row, : len(result.hits)] = [position_of[hit.item_id] for hit in result.hits]
    return answers


def _only(style: str, concepts: Sequence[str] = ()) -> Filter:
    """The filter that leaves one style, and of it only these concepts if there are any."""
    clauses = [Filter.Clause(field="style", op=Filter.OP_EQ, values=[Value(string_value=style)])]
    if concepts:
        values = [Value(string_value=concept) for concept in concepts]
        clauses.append(Filter.Clause(field="concept", op=Filter.OP_IN, values=values))
    return Filter(all_of=clauses)
