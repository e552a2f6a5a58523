"""The closed dictionary: every term that an annotation may be, in all its spellings, per language.

As a table it has one row a spelling: `term`, `canonical` (the most frequent spelling of the same term, as `sloths` for
`sloth`), `language`, `frequency` (documents with this spelling) and, of canonical rows, `documents` (with any of its
spellings), `category_entropy` and `vector`. Only the first two columns are needed; a table that people wrote will do.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.files import write_parquet, write_text
from pipelines.annotations.matching import Matcher
from pipelines.annotations.words import find_key, join, split_term

FloatArray = npt.NDArray[np.float32]

_METADATA = b"bowerbird"
_COLUMNS = ("term", "canonical", "language", "frequency", "documents", "category_entropy")
_DEFAULT_LANGUAGE = "en"  # of an imported table that does not say


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """One term.

    Attributes:
        canonical: the spelling that stands for it.
        language: ISO 639 code.
        spellings: number of documents by spelling, the canonical one among them.
        documents: number of documents that have it in any spelling.
        category_entropy: of the categories of the pictures it is said of, in [0, 1]; NaN if not known.
    """

    canonical: str
    language: str
    spellings: Mapping[str, int]
    documents: int
    category_entropy: float = math.nan


class Dictionary:
    """Terms in a fixed order, which gives them their numbers, and how many documents each language has."""

    def __init__(
        self, terms: Iterable[Term], documents: Mapping[str, int], vectors: FloatArray | None = None, encoder: str = ""
    ) -> None:
        """
        Args:
            terms: at least one; two with the same language and key are one mistake.
            documents: by language; 0 or absent if not known.
            vectors: (K, D) float32, text embeddings of the canonical terms, unit length, zeros for a term without one;
                None if there are none.
            encoder: digest of the text encoder that made the vectors.
        Raises:
            ArgumentInvalid: no terms.
        """
        self.terms = tuple(terms)
        if not self.terms:
            raise ArgumentInvalid(
                "expected a dictionary with terms, got an empty one; lower the cuts of `build`, name the fields that "
                "hold whole terms with --seed-fields, or import a table"
            )
        self.documents = dict(documents)
        self.vectors = vectors
        self.encoder = encoder

    def __len__(self) -> int:
        return len(self.terms)

    @property
    def languages(self) -> list[str]:
        """ISO 639 codes of its terms, sorted."""
        return sorted({term.language for term in self.terms})

    @cached_property
    def sha256(self) -> str:
        """Digest of all that annotations depend on; equal for equal dictionaries, whatever file they came from."""
        digest = hashlib.sha256(json.dumps(self.documents, sort_keys=True).encode())
        for term in self.terms:
            digest.update(json.dumps([*dataclasses.astuple(term)], sort_keys=True).encode())
        if self.vectors is not None:
            digest.update(self.encoder.encode() + np.ascontiguousarray(self.vectors, np.float16).tobytes())
        return digest.hexdigest()

    def make_matcher(self) -> Matcher:
        """A matcher of all spellings of all terms."""
        keyed = [
            (number, term.language, key)
            for number, term in enumerate(self.terms)
            for key in dict.fromkeys(find_key(split_term(spelling), term.language) for spelling in term.spellings)
        ]
        return Matcher(keyed, dict(enumerate(self.compute_shares().tolist())))

    def compute_shares(self) -> FloatArray:
        """(K,) share of the documents of its language that have the term; in an imported dictionary 0 if not known."""
        totals = np.array([self.documents.get(term.language, 0) for term in self.terms], np.float64)
        counts = np.array([term.documents for term in self.terms], np.float64)
        return np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0).astype(np.float32)

    def compute_idf(self) -> FloatArray:
        """(K,) inverse document frequency in [0, 1]: log((N + 1) / (n + 1)) / log(N + 1), comparable across languages.

        NaN where the dictionary does not know the number of documents.
        """
        totals = np.array([self.documents.get(term.language, 0) for term in self.terms], np.float64)
        counts = np.array([term.documents for term in self.terms], np.float64)
        scale = np.log(totals + 1)
        idf = np.full(len(self.terms), np.nan)
        np.divide(np.log((totals + 1) / (np.minimum(counts, totals) + 1)), scale, out=idf, where=scale > 0)
        return idf.astype(np.float32)


def add_vectors(
    dictionary: Dictionary, encode: Callable[[Sequence[str]], FloatArray], encoder: str, languages: Iterable[str]
) -> Dictionary:
    """The dictionary with text embeddings of its terms.

    Args:
        dictionary: keeps its terms and numbers.
        encode: (N, D) float32 vectors of N texts, unit length; see `bowerbird.models.text.TextEncoder`.
        encoder: digest of what encodes.
        languages: that it knows; terms of others get zeros, since their vectors would mean nothing.
    Raises:
        ArgumentInvalid: the dictionary has no term in these languages.
    """
    spoken = set(languages)
    known = [number for number, term in enumerate(dictionary.terms) if term.language in spoken]
    if not known:
        raise ArgumentInvalid(f"expected terms in {', '.join(sorted(spoken))}, got {', '.join(dictionary.languages)}")
    found = encode([dictionary.terms[number].canonical for number in known])
    vectors = np.zeros((len(dictionary), found.shape[1]), np.float32)
    vectors[known] = found.astype(np.float16)  # as they are kept, so that the file gives the same dictionary back
    return Dictionary(dictionary.terms, dictionary.documents, vectors, encoder)


def save_dictionary(dictionary: Dictionary, path: Path) -> Path:
    """`path`, `.parquet` or `.tsv`, which holds the dictionary now. A TSV is for people: it leaves the vectors out."""
    rows = _to_rows(dictionary)
    if path.suffix.lower() == ".tsv":
        return write_text(path, _to_tsv(rows))
    if path.suffix.lower() != ".parquet":
        raise ArgumentInvalid(f"{path}: expected a dictionary in .parquet or .tsv")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in _COLUMNS}
    columns["frequency"] = pa.array(columns["frequency"], pa.int64())
    columns["documents"] = pa.array(columns["documents"], pa.int64())
    columns["category_entropy"] = pa.array(columns["category_entropy"], pa.float64())
    if dictionary.vectors is not None:
        vectors = iter(dictionary.vectors.astype(np.float16))
        width = dictionary.vectors.shape[1]
        heads = [next(vectors) if row["documents"] is not None else None for row in rows]
        listed = [vector if vector is not None and vector.any() else None for vector in heads]
        columns["vector"] = pa.array(listed, pa.list_(pa.float16(), width))
    metadata = {"documents": dictionary.documents, "sha256": dictionary.sha256, "encoder": dictionary.encoder}
    return write_parquet(path, pa.table(columns), {_METADATA: json.dumps(metadata).encode()})


def load_dictionary(path: Path) -> Dictionary:
    """A dictionary that `save_dictionary` or people wrote.

    Raises:
        ArgumentInvalid: the file cannot be read, lacks the columns, or has no terms.
    """
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
            metadata = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
            return _from_rows(path, table.to_pylist(), metadata)
        if path.suffix.lower() == ".tsv":
            return _from_rows(path, *_read_tsv(path))
    except (OSError, ValueError) as error:  # ArrowInvalid, JSONDecodeError and UnicodeDecodeError among them
        raise ArgumentInvalid(f"{path}: expected a readable dictionary: {error}") from error
    raise ArgumentInvalid(f"{path}: expected a dictionary in .parquet or .tsv")


def _to_rows(dictionary: Dictionary) -> list[dict[str, Any]]:
    """One row a spelling, the canonical one of each term first."""
    rows = []
    for term in dictionary.terms:
        for spelling in sorted(term.spellings, key=lambda spelling: (spelling != term.canonical, spelling)):
            head = spelling == term.canonical
            rows.append(
                {
                    "term": spelling,
                    "canonical": term.canonical,
                    "language": term.language,
                    "frequency": term.spellings[spelling],
                    "documents": term.documents if head else None,
                    "category_entropy": term.category_entropy if head and term.category_entropy >= 0 else None,
                }
            )
    return rows


def _to_tsv(rows: list[dict[str, Any]]) -> str:
    """Values separated by tabs, under a line of names. Terms hold neither tabs nor quotes."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return file.getvalue()


def _read_tsv(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)), {}


def _from_rows(path: Path, rows: list[dict[str, Any]], metadata: Mapping[str, Any]) -> Dictionary:
    """Terms in the order of their first rows. Rows whose spellings share a key are one term, canonical as they say."""
    if rows and not {"term", "canonical"} <= set(rows[0]):
        raise ArgumentInvalid(f"{path}: expected columns term and canonical, got {', '.join(map(str, rows[0]))}")
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        canonical = join_term(row["canonical"] or row["term"])
        if canonical:
            grouped.setdefault((row.get("language") or _DEFAULT_LANGUAGE, canonical), []).append(row)
    terms = [_from_spellings(canonical, language, group) for (language, canonical), group in grouped.items()]
    return Dictionary(
        terms, metadata.get("documents", {}), _stack_vectors(list(grouped.values())), metadata.get("encoder", "")
    )


def _stack_vectors(grouped: list[list[dict[str, Any]]]) -> FloatArray | None:
    """(K, D) vectors of the terms, zeros for those without; None if none has one."""
    vectors = [next((row["vector"] for row in rows if row.get("vector") is not None), None) for rows in grouped]
    width = next((len(vector) for vector in vectors if vector is not None), 0)
    return np.array([vector or [0.0] * width for vector in vectors], np.float32) if width else None


def _from_spellings(canonical: str, language: str, rows: list[dict[str, Any]]) -> Term:
    spellings = {join_term(row["term"]): int(row.get("frequency") or 0) for row in rows}
    spellings.pop("", None)
    spellings.setdefault(canonical, 0)
    known = {name: row[name] for row in rows for name in _COLUMNS[4:] if row.get(name) not in (None, "")}
    documents = int(known.get("documents", sum(spellings.values())))
    return Term(canonical, language, spellings, documents, float(known.get("category_entropy", math.nan)))


def join_term(text: str | None) -> str:
    """The term as the dictionary writes it; empty if there is no word in it."""
    words = split_term(text or "")
    return join(words) if words else ""
