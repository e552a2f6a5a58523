"""Cross-style retrieval: does the picture of a concept find the same concept drawn in another style.

For an ordered pair of styles the queries are the pictures of one, the gallery those of the other, both of exactly the
concepts that the two share and that are asked for. So every query has one right answer, and what a model must overlook
is everything that makes the style.

Legend: N pictures, D dimensions, B code bits, W = B / 8 bytes, Q queries of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid
from bowerbird.evaluation.bootstrap import Sample
from bowerbird.evaluation.measures import FloatArray, IntArray, expected_recall
from bowerbird.vectors import CodeArray

QUERIES_AT_ONCE = 1024  # bounds the memory of the scores


@dataclass(frozen=True)
class Pictures:
    """Pictures with their vectors.

    Attributes:
        styles: (N,) how each was made.
        concepts: (N,) what each shows.
        embeddings: (N, D) float32, unit length.
        codes: (N, W) uint8, or None where there are none.
    """

    styles: Sequence[str]
    concepts: Sequence[str]
    embeddings: npt.NDArray[np.float32]
    codes: CodeArray | None = None

    def positions(self, style: str) -> dict[str, int]:
        """Position of the picture of each concept in a style; the first where there are several."""
        found: dict[str, int] = {}
        for position, (of_style, concept) in enumerate(zip(self.styles, self.concepts, strict=True)):
            if of_style == style and concept:
                found.setdefault(concept, position)
        return found


@dataclass(frozen=True)
class Standings:
    """Where the right answers of all queries stand.

    Attributes:
        pairs: (query style, gallery style), those that share concepts.
        pair_of: (Q,) int64, position in `pairs`.
        concepts: (Q,).
        gallery_sizes: (Q,) int64.
        better, tied: (Q,) int64, by the inner product of the embeddings; see `expected_recall`.
        code_better, code_tied: (Q,) int64, by the Hamming distance of the codes; None without codes.
    """

    pairs: tuple[tuple[str, str], ...]
    pair_of: IntArray
    concepts: tuple[str, ...]
    gallery_sizes: IntArray
    better: IntArray
    tied: IntArray
    code_better: IntArray | None
    code_tied: IntArray | None

    def recall(self, k: int) -> FloatArray:
        """(Q,) by embeddings; for k = 1 also the precision at 1."""
        return expected_recall(self.better, self.tied, k)

    def code_recall(self, k: int) -> FloatArray:
        """(Q,) by the codes alone, nothing re-ranked."""
        assert self.code_better is not None, "these pictures have no codes"
        assert self.code_tied is not None
        return expected_recall(self.code_better, self.code_tied, k)

    def sample(self, values: FloatArray, cluster_of: Callable[[str], str] = str) -> Sample:
        """The values of the queries, clustered by concept, or by what `cluster_of` makes of it."""
        _, clusters = np.unique([cluster_of(concept) for concept in self.concepts], return_inverse=True)
        return Sample.of(values, np.asarray(clusters, np.int64))

    @property
    def chance(self) -> float:
        """Mean precision at 1 of a random order."""
        return float((1.0 / self.gallery_sizes).mean())


def rank_pairs(
    pictures: Pictures, pairs: Iterable[tuple[str, str]], *, keep: Callable[[str], bool] = bool
) -> Standings:
    """The standings of every ordered pair of styles that shares concepts; the others are left out.

    Args:
        keep: whether a concept is asked for, both as query and in the gallery; the default takes all.
    Raises:
        ArgumentInvalid: an embedding that takes part is not finite: nothing is better than NaN, so it would be perfect.
    """
    ranked, names, parts = [], [], []
    for pair in pairs:
        query_of, gallery_of = pictures.positions(pair[0]), pictures.positions(pair[1])
        concepts = sorted(concept for concept in query_of.keys() & gallery_of.keys() if keep(concept))
        if not concepts:
            continue
        queries = np.array([query_of[concept] for concept in concepts])
        gallery = np.array([gallery_of[concept] for concept in concepts])
        ranked.append(pair)
        names.extend(concepts)
        parts.append(_rank_pair(pictures, queries, gallery))
    sizes = [len(part[0]) for part in parts]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.zeros(0, np.int64)] * 2
    return Standings(
        pairs=tuple(ranked),
        pair_of=np.repeat(np.arange(len(ranked)), sizes),
        concepts=tuple(names),
        gallery_sizes=np.repeat(np.array(sizes, np.int64), sizes),
        better=columns[0],
        tied=columns[1],
        code_better=columns[2] if len(columns) > 2 else None,
        code_tied=columns[3] if len(columns) > 2 else None,
    )


def _rank_pair(pictures: Pictures, queries: IntArray, gallery: IntArray) -> list[IntArray]:
    """[better, tied] by embeddings, then by codes if there are any; row i of the queries asks for i of the gallery."""
    for row in (*queries, *gallery):
        if not np.isfinite(pictures.embeddings[row]).all():
            raise ArgumentInvalid(
                f"the embedding of {pictures.concepts[row]!r} in style {pictures.styles[row]!r} is not finite: the "
                "model is broken, or cannot be computed here"
            )
    columns = [*_stand(pictures.embeddings[queries], pictures.embeddings[gallery])]
    if pictures.codes is not None:
        # The inner product of signs is B - 2 * Hamming distance: the same order, and the same ties.
        signs = (np.unpackbits(pictures.codes[rows], axis=1).astype(np.float32) * 2 - 1 for rows in (queries, gallery))
        columns += _stand(*signs)
    return columns


def _stand(queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> tuple[IntArray, IntArray]:
    """(Q,) items that beat the right answer, and (Q,) others that equal it."""
    better, tied = np.zeros(len(queries), np.int64), np.zeros(len(queries), np.int64)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        scores = queries[rows] @ gallery.T
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))][:, None]
        better[rows] = (scores > own).sum(axis=1)
        tied[rows] = (scores == own).sum(axis=1) - 1
    return better, tied
