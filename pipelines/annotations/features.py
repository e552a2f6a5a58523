"""What is known of a term as an annotation of a picture: the columns that the scorer reads.

The features of the 2019 post on this system (TF-IDF, IDF, sources and their number, category entropy, text-embedding
cosine, frequency) and the place of the term in its texts. All are ratios or counts that mean the same in any language.

Deviation: the cosine is between the term and the mean of the picture's other terms in its language, weighted by IDF,
not between the term and the whole text. It needs one embedding a term, made once, and compares no term with itself.

Legend: M candidates, F features, K terms, D dimensions of text embeddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipelines.annotations.dictionary import Dictionary
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.matching import UNKNOWN, Matcher
from pipelines.annotations.tables import TextRow
from pipelines.annotations.words import find_key, segment

FloatArray = npt.NDArray[np.float32]
Evidence = dict[int, "TermEvidence"]  # of one picture, by term

PLAIN_FEATURES = (
    "tf_idf",  # count / counts of the picture * IDF
    "tf_idf_rank",  # share of the picture's terms with a lower one
    "idf",
    "count",  # places in the picture's texts
    "sources",  # number of fields
    "kinds",  # number of kinds of fields: `keywords:de` and `keywords:fr` are one
    "first",  # earliest place, as share of its text
    "whole",  # it is all of a segment somewhere
    "nested",  # it only stands within longer terms
    "words",
    "characters",
    "category_entropy",
    "cosine",
    "candidates",  # terms of the picture
    "language_known",  # some text with it has a declared or guessed language
)


@dataclasses.dataclass(slots=True)
class TermEvidence:
    """Where one term stands in the texts of one picture."""

    count: int = 0
    sources: set[str] = dataclasses.field(default_factory=set)
    first: float = 1.0
    whole: bool = False
    nested: bool = True
    language_known: bool = False


def find_kind(field: str) -> str:
    """The field without its language: `keywords:de` -> `keywords`."""
    return field.partition(":")[0]


def collect_evidence(
    rows: Iterable[TextRow],
    matcher: Matcher,
    detector: LanguageDetector,
    hidden: frozenset[tuple[str, ...]] = frozenset(),
) -> Evidence:
    """Evidence by term, from all texts of one picture.

    Args:
        rows: its texts.
        matcher: of the dictionary.
        detector: for texts that declare no language.
        hidden: segments, as words or as keys of these, that are taken out of the texts first.
    """
    evidence: Evidence = {}
    for row in rows:
        language = detector.resolve(row.text, row.language, row.field)
        segments = segment(row.text)
        if hidden:
            segments = [words for words in segments if not {words, find_key(words, language)} & hidden]
        length = sum(map(len, segments))
        for match in matcher.match_segments(segments, language):
            seen = evidence.setdefault(match.term, TermEvidence())
            seen.count += 1
            seen.sources.add(row.field)
            seen.first = min(seen.first, match.start / length)
            seen.whole |= match.whole
            seen.nested &= match.nested
            seen.language_known |= language != UNKNOWN
    return evidence


class FeatureMaker:
    """Turns evidence into numbers, with what the dictionary knows of each term."""

    def __init__(self, dictionary: Dictionary, kinds: Sequence[str]) -> None:
        """
        Args:
            dictionary: the one whose numbers the evidence has.
            kinds: kinds of fields that get a column each; others count in `sources` and `kinds` alone.
        """
        self.names = (*PLAIN_FEATURES, *(f"from:{kind}" for kind in kinds))
        self._kinds = {kind: column for column, kind in enumerate(kinds, start=len(PLAIN_FEATURES))}
        self._languages = [term.language for term in dictionary.terms]
        self._idf = dictionary.compute_idf()
        self._entropy = np.array([term.category_entropy for term in dictionary.terms], np.float32)
        self._words = np.array([term.canonical.count(" ") + 1 for term in dictionary.terms], np.float32)
        self._characters = np.array([len(term.canonical) for term in dictionary.terms], np.float32)
        self._vectors = dictionary.vectors

    def make(self, evidence: Evidence) -> FloatArray:
        """(M, F) float32, one row a term of one picture, in the order of `evidence`; NaN: not known."""
        terms = np.fromiter(evidence, np.int64, len(evidence))
        table = np.zeros((len(evidence), len(self.names)), np.float32)
        if not len(table):
            return table
        found = list(evidence.values())
        count = np.array([one.count for one in found], np.float32)
        tf_idf = count / count.sum() * self._idf[terms]
        columns = {
            "tf_idf": tf_idf,
            "tf_idf_rank": np.searchsorted(np.sort(tf_idf), tf_idf) / len(tf_idf),
            "idf": self._idf[terms],
            "count": count,
            "sources": [len(one.sources) for one in found],
            "kinds": [len({find_kind(source) for source in one.sources}) for one in found],
            "first": [one.first for one in found],
            "whole": [one.whole for one in found],
            "nested": [one.nested for one in found],
            "words": self._words[terms],
            "characters": self._characters[terms],
            "category_entropy": self._entropy[terms],
            "cosine": self._compare(terms),
            "candidates": np.full(len(found), len(found)),
            "language_known": [one.language_known for one in found],
        }
        for position, name in enumerate(PLAIN_FEATURES):
            table[:, position] = columns[name]
        for line, one in enumerate(found):
            for source in one.sources:
                column = self._kinds.get(find_kind(source))
                if column is not None:
                    table[line, column] = 1
        return table

    def _compare(self, terms: npt.NDArray[np.int64]) -> FloatArray:
        """(M,) cosine of each term and the picture's other terms in its language; NaN without others or vectors."""
        cosines = np.full(len(terms), np.nan, np.float32)
        if self._vectors is None:
            return cosines
        languages = np.array([self._languages[term] for term in terms])
        known = self._vectors[terms].any(axis=1)
        for language in set(languages[known].tolist()):
            of_language = np.flatnonzero((languages == language) & known)
            if len(of_language) < 2:
                continue
            vectors = self._vectors[terms[of_language]]
            weighted = vectors * np.nan_to_num(self._idf[terms[of_language]], nan=1.0)[:, None]
            others = weighted.sum(axis=0) - weighted
            lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(vectors, axis=1)
            cosines[of_language] = np.einsum("md,md->m", vectors, others) / np.maximum(lengths, 1e-12)
        return cosines


def list_kinds(fields: Iterable[str]) -> list[str]:
    """Kinds of the fields, sorted, each once."""
    return sorted({find_kind(field) for field in fields})


def group_texts(rows: Iterable[TextRow]) -> Mapping[str, list[TextRow]]:
    """Texts by picture, pictures in the order of their first text."""
    grouped: dict[str, list[TextRow]] = {}
    for row in rows:
        grouped.setdefault(row.picture, []).append(row)
    return grouped
