"""Annotate a table of texts: any number of pictures, in the memory of one part of them, and on from where it stopped.

The texts are first dealt to parts on disk by a hash of their picture's signature, so that all texts of all copies of a
picture meet in one part. Each part is then scored and written. What is done is kept in a hidden directory beside the
output until all is; a run with other inputs or options starts afresh, and one whose output is there does nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.aggregate import AggregateOptions, Annotation, aggregate
from pipelines.annotations.dictionary import Dictionary
from pipelines.annotations.features import FeatureMaker, collect_evidence, group_texts
from pipelines.annotations.files import replacing_parquet, write_text
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.scorer import Scorer
from pipelines.annotations.tables import PictureRow, TextRow, read_texts
from pipelines.annotations.training import is_label_field

FORMAT = 1
PART_BYTES = 64 << 20  # of texts in one part; scoring takes some ten times as much memory
_MAX_PARTS = 512  # files open at once
_METADATA = b"bowerbird"
SCHEMA = pa.schema(
    [
        ("picture", pa.string()),
        ("term", pa.string()),
        ("score", pa.float32()),
        ("sources", pa.list_(pa.string())),
        ("language", pa.string()),
    ]
)

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class ApplyOptions:
    """What is scored and kept.

    Attributes:
        aggregate: how copies are put together and what is kept of a picture.
        labels: `confirm`: a term that a label field of the scorer says gets the score 1, which is what the score
            means; `hide`: label fields are not looked at.
        languages: only terms of these are written; empty: of all.
        part_bytes: of the table of texts in one part.
    """

    aggregate: AggregateOptions = dataclasses.field(default_factory=AggregateOptions)
    labels: Literal["confirm", "hide"] = "confirm"
    languages: tuple[str, ...] = ()
    part_bytes: int = PART_BYTES


class Annotator:
    """Scores the terms of the texts of one record."""

    def __init__(
        self, dictionary: Dictionary, scorer: Scorer, detector: LanguageDetector, options: ApplyOptions
    ) -> None:
        """
        Raises:
            ArgumentInvalid: the scorer reads features that this version does not make.
        """
        self._matcher = dictionary.make_matcher()
        self._maker = FeatureMaker(dictionary, scorer.kinds)
        if self._maker.names != scorer.features:
            odd = sorted(set(scorer.features) ^ set(self._maker.names))
            raise ArgumentInvalid(
                f"the scorer reads other features than are made now: {', '.join(odd)}; train it again"
            )
        self._scorer = scorer
        self._detector = detector
        self._options = options
        wanted = options.languages or dictionary.languages
        self._is_wanted = [term.language in wanted for term in dictionary.terms]

    def annotate(self, records: Iterable[list[TextRow]]) -> list[list[Annotation]]:
        """Annotations of each record, in one call of the trees."""
        hidden = self._scorer.label_fields
        records = list(records)
        if not records:
            return []
        evidences = [
            collect_evidence(
                [row for row in rows if not is_label_field(row.field, hidden)], self._matcher, self._detector
            )
            for rows in records
        ]
        tables = [self._maker.make(evidence) for evidence in evidences]
        scores = self._scorer.score(np.concatenate(tables))
        ends = np.cumsum([len(table) for table in tables])
        found = []
        for rows, evidence, part in zip(records, evidences, np.split(scores, ends[:-1]), strict=True):
            annotations = {
                term: Annotation(term, float(score), tuple(sorted(one.sources)))
                for (term, one), score in zip(evidence.items(), part, strict=True)
            }
            self._confirm(rows, annotations)
            found.append([one for term, one in annotations.items() if self._is_wanted[term]])
        return found

    def _confirm(self, rows: list[TextRow], annotations: dict[int, Annotation]) -> None:
        """Give the terms that label fields say, not within longer terms, the score 1."""
        if self._options.labels == "hide":
            return
        labels = [row for row in rows if is_label_field(row.field, self._scorer.label_fields)]
        for term, seen in collect_evidence(labels, self._matcher, self._detector).items():
            if not seen.nested:
                before = annotations[term].sources if term in annotations else ()
                annotations[term] = Annotation(term, 1.0, tuple(sorted({*before, *seen.sources})))


def apply(
    texts: Path,
    pictures: Mapping[str, PictureRow],
    dictionary: Dictionary,
    scorer: Scorer,
    detector: LanguageDetector,
    output: Path,
    options: ApplyOptions,
    counts: Counter[str],
    *,
    progress: Progress | None = None,
) -> bool:
    """Write the table of annotations; False if `output` already is the one that would be written.

    Columns: `picture` (the signature where the table of pictures gives one), `term`, `score`, `sources`, `language`;
    rows of a picture stand together, best first. The schema's metadata `bowerbird` is JSON: version, digests of
    dictionary, scorer and inputs, and the options.

    Args:
        texts: table of texts; see `pipelines.annotations.tables`.
        pictures: what is known of pictures; if any, texts of others are counted and left out.
        dictionary: the terms.
        scorer: of these terms.
        detector: of the language of texts that declare none.
        output: `.parquet`; replaced at once when all is done.
        options: what is scored and kept.
        counts: grows by what was read, left out and written.
        progress: called with (parts done, parts) before each.
    Raises:
        ArgumentInvalid: a file cannot be used.
    """
    metadata = _describe(texts, pictures, dictionary, scorer, detector, options)
    if _read_metadata(output).get("version") == metadata["version"]:
        counts["up to date"] += 1
        return False
    work = output.with_name(f".{output.name}.parts")
    stamp = work / "version.json"
    if not stamp.exists() or json.loads(stamp.read_bytes())["version"] != metadata["version"]:
        shutil.rmtree(work, ignore_errors=True)
        dealt: Counter[str] = Counter()
        parts = _deal(texts, pictures, work, options.part_bytes, dealt)
        write_text(stamp, json.dumps({**metadata, "parts": parts, "counts": dealt}))
    known = json.loads(stamp.read_bytes())
    counts.update(known["counts"])
    annotator = Annotator(dictionary, scorer, detector, options)
    for number in range(known["parts"]):
        if progress is not None:
            progress(number, known["parts"])
        part = work / f"{number}.parquet"
        if not part.exists():
            _score_part(work / f"{number}.jsonl", part, pictures, dictionary, annotator, options)
    _join_parts([work / f"{number}.parquet" for number in range(known["parts"])], output, metadata, counts)
    shutil.rmtree(work)
    return True


def _describe(
    texts: Path,
    pictures: Mapping[str, PictureRow],
    dictionary: Dictionary,
    scorer: Scorer,
    detector: LanguageDetector,
    options: ApplyOptions,
) -> dict[str, Any]:
    """What the output depends on, and `version`, a digest of it."""
    try:
        with texts.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentInvalid(f"{texts}: expected a readable table of texts: {error.strerror}") from error
    known = json.dumps([dataclasses.astuple(pictures[picture]) for picture in sorted(pictures)])
    content = {
        "format": FORMAT,
        "dictionary": dictionary.sha256,
        "scorer": scorer.sha256,
        "texts": digest,
        "pictures": hashlib.sha256(known.encode()).hexdigest(),
        "languages": dictionary.languages,
        "detected_languages": detector.languages,
        "options": dataclasses.asdict(options),
    }
    return {**content, "version": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}


def _read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a table of annotations; empty if there is none."""
    try:
        metadata: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_METADATA, b"{}"))
    except (OSError, ValueError):
        return {}
    return metadata


def _deal(texts: Path, pictures: Mapping[str, PictureRow], work: Path, part_bytes: int, counts: Counter[str]) -> int:
    """Number of parts, in which the usable texts lie now, by their pictures' signatures."""
    parts = min(max(1, -(-texts.stat().st_size // part_bytes)), _MAX_PARTS)
    work.mkdir(parents=True)
    met: set[str] = set()
    with ExitStack() as stack:
        files = [stack.enter_context((work / f"{number}.jsonl").open("w")) for number in range(parts)]
        for row in read_texts(texts, counts):
            if pictures and row.picture not in pictures:
                counts["text of a picture that the table of pictures lacks"] += 1
                continue
            if pictures:
                met.add(row.picture)
            part = zlib.crc32(_sign(row.picture, pictures).encode()) % parts
            files[part].write(json.dumps(dataclasses.astuple(row)) + "\n")
    if pictures:
        counts["picture without text"] += len(pictures) - len(met)
    return parts


def _sign(picture: str, pictures: Mapping[str, PictureRow]) -> str:
    """What the copies of a picture share."""
    return (pictures[picture].signature if picture in pictures else "") or picture


def _score_part(
    source: Path,
    part: Path,
    pictures: Mapping[str, PictureRow],
    dictionary: Dictionary,
    annotator: Annotator,
    options: ApplyOptions,
) -> None:
    grouped = group_texts(_read_part(source))
    copies: dict[str, list[list[Annotation]]] = {}
    for picture, found in zip(grouped, annotator.annotate(grouped.values()), strict=True):
        copies.setdefault(_sign(picture, pictures), []).append(found)
    rows = []
    empty = 0
    for picture in sorted(copies):
        kept = aggregate(copies[picture], options.aggregate)
        empty += not kept
        for one in kept:
            term = dictionary.terms[one.term]
            rows.append((picture, term.canonical, one.score, one.sources, term.language))
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    counts = {"pictures": len(copies), "picture without annotations": empty, "annotations": len(rows)}
    schema = SCHEMA.with_metadata({_METADATA: json.dumps(counts).encode()})
    with replacing_parquet(part, schema) as writer:
        writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=schema))


def _read_part(path: Path) -> Iterator[TextRow]:
    with path.open() as file:
        for line in file:
            yield TextRow(*json.loads(line))


def _join_parts(parts: list[Path], output: Path, metadata: Mapping[str, Any], counts: Counter[str]) -> None:
    """`output`, which holds the rows of all parts now."""
    schema = SCHEMA.with_metadata({_METADATA: json.dumps(metadata).encode()})
    with replacing_parquet(output, schema) as writer:
        for part in parts:
            counts.update(_read_metadata(part))
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches():
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
