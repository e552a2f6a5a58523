"""Tables of texts and of pictures, read a chunk at a time from Parquet, CSV or JSON lines.

A table of texts has the columns `picture`, `field`, `text` and, if its source says so, `language`. A table of pictures
has `picture` (or `path`) and any of `category`, `group`, `concept` and `signature`. Others are not looked at.

A row that cannot be used is counted and passed over: one bad row out of a million must not stop a night's work. A file
that cannot be used (missing, no such column, not of its kind) is refused with its name.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.corpora.splits import concept_family
from bowerbird.errors import ArgumentInvalid

MAX_TEXT_CHARACTERS = 10_000  # what stands further down a page hardly speaks of the picture
READ_ROWS = 8192

_TEXT_COLUMNS = {"picture": ("picture",), "field": ("field",), "text": ("text",)}
_LANGUAGE_COLUMN = {"language": ("language",)}
_PICTURE_COLUMNS = {"picture": ("picture", "path")}
_ABOUT_COLUMNS = {"category": ("category",), "group": ("group",), "concept": ("concept",), "signature": ("signature",)}

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TextRow:
    """Some words about a picture. `language` is an ISO 639-1 code, or empty if nobody declared one."""

    picture: str
    field: str
    text: str
    language: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class PictureRow:
    """What is known of a picture beside its texts; what the table does not say is empty.

    Attributes:
        category: coarse kind; the spread of a term over categories is a feature of it.
        group: pictures of one group stay on one side of a split; the family of the concept if the table gives only
            that (see `bowerbird.corpora.splits`), the picture alone if empty.
        signature: equal for copies of one picture, whose texts are put together; the picture alone if empty.
    """

    picture: str
    category: str = ""
    group: str = ""
    signature: str = ""


def read_texts(path: Path, counts: Counter[str]) -> Iterator[TextRow]:
    """Usable rows of a table of texts, in its order.

    Args:
        path: `.parquet`, `.csv` or `.jsonl`.
        counts: grows by `rows`, `used`, and by one reason for each row that was not used or not used whole:
            `no picture`, `no field`, `no text`, `not UTF-8`, `not a text`, `not JSON`, `cut`.
    Raises:
        ArgumentInvalid: the file cannot be read or lacks a column; names both.
    """
    for raw in _read_rows(path, _TEXT_COLUMNS, _LANGUAGE_COLUMN, counts):
        counts["rows"] += 1
        row = _check_text(raw, counts)
        if row is not None:
            counts["used"] += 1
            yield row


def read_pictures(path: Path, counts: Counter[str]) -> dict[str, PictureRow]:
    """Rows of a table of pictures by picture; of a picture named twice the last.

    Raises:
        ArgumentInvalid: the file cannot be read or names no pictures.
    """
    pictures: dict[str, PictureRow] = {}
    for raw in _read_rows(path, _PICTURE_COLUMNS, _ABOUT_COLUMNS, counts):
        counts["rows of the table of pictures"] += 1
        values = {name: "" if value is None else str(value) for name, value in raw.items()}
        if not values["picture"]:
            counts["no picture"] += 1
            continue
        concept = values.pop("concept")
        values["group"] = values["group"] or (concept_family(concept) if concept else "")
        pictures[values["picture"]] = PictureRow(**values)
    return pictures


def _check_text(raw: Row, counts: Counter[str]) -> TextRow | None:
    """The row, or None after counting why it is of no use."""
    if not all(value is None or isinstance(value, str) for value in raw.values()):
        counts["not a text"] += 1
        return None
    values: dict[str, str] = {name: (value or "").strip() for name, value in raw.items()}
    for name in ("picture", "field", "text"):
        if not values[name]:
            counts[f"no {name}"] += 1
            return None
    if len(values["text"]) > MAX_TEXT_CHARACTERS:
        counts["cut"] += 1
        values["text"] = values["text"][:MAX_TEXT_CHARACTERS]
    return TextRow(**values)


def _read_rows(
    path: Path, required: Mapping[str, tuple[str, ...]], optional: Mapping[str, tuple[str, ...]], counts: Counter[str]
) -> Iterator[Row]:
    """Rows with our names of the columns; those that are not UTF-8 are counted and left out."""
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ArgumentInvalid(f"{path}: expected a table in {', '.join(readers)}, got {path.suffix or 'no suffix'}")
    wanted = {**required, **optional}
    try:
        checked = False
        for columns, raw in reader(path, counts):
            if not checked:
                _check_columns(path, columns, required)
                checked = True
            yield {
                name: next((raw[column] for column in spellings if raw.get(column) is not None), None)
                for name, spellings in wanted.items()
            }
    except (OSError, csv.Error, pa.ArrowInvalid) as error:
        raise ArgumentInvalid(f"{path}: expected a readable {path.suffix} table: {error}") from error


def _check_columns(path: Path, columns: Iterable[str], required: Mapping[str, tuple[str, ...]]) -> None:
    present = set(columns)
    missing = [" or ".join(spellings) for spellings in required.values() if not present.intersection(spellings)]
    if missing:
        raise ArgumentInvalid(
            f"{path}: expected columns {', '.join(missing)}, got {', '.join(sorted(present)) or 'none'}"
        )


def _read_parquet(path: Path, counts: Counter[str]) -> Iterator[tuple[list[str], Row]]:
    """Strings are read as bytes and decoded one by one, since Parquet does not check that they are UTF-8."""
    with pq.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        wanted = [name for name in names if name in _KNOWN]
        for batch in file.iter_batches(batch_size=READ_ROWS, columns=wanted):
            columns = {name: _to_values(column) for name, column in zip(wanted, batch.columns, strict=True)}
            for values in zip(*columns.values(), strict=True):
                try:
                    row = {
                        name: value.decode() if isinstance(value, bytes) else value
                        for name, value in zip(wanted, values, strict=True)
                    }
                except UnicodeDecodeError:
                    counts["rows"] += 1
                    counts["not UTF-8"] += 1
                    continue
                yield names, row
            if not wanted:
                yield names, {}


def _to_values(column: Any) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()  # type: ignore[no-any-return]


def _read_csv(path: Path, counts: Counter[str]) -> Iterator[tuple[list[str], Row]]:
    """Bytes that are not UTF-8 come through as lone surrogates, so that a quoted line break before them is kept."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        for raw in reader:
            known = {name: value for name, value in raw.items() if name in _KNOWN}
            if any(isinstance(value, str) and not _is_utf8(value) for value in known.values()):
                counts["rows"] += 1
                counts["not UTF-8"] += 1
                continue
            yield list(reader.fieldnames or ()), known


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _read_json_lines(path: Path, counts: Counter[str]) -> Iterator[tuple[list[str], Row]]:
    """Objects, one a line. A line of another kind is counted: a file cut off in its last line is still of use.

    An object may leave keys out, so a file has all columns as soon as its first object has one that we know.
    """
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                raw = json.loads(line.decode())
            except UnicodeDecodeError:
                counts["rows"] += 1
                counts["not UTF-8"] += 1
                continue
            except ValueError:
                raw = None
            if not isinstance(raw, dict):
                counts["rows"] += 1
                counts["not JSON"] += 1
                continue
            yield [*raw, *(_KNOWN if _KNOWN & set(raw) else ())], raw


_KNOWN = frozenset(
    spelling
    for columns in (_TEXT_COLUMNS, _LANGUAGE_COLUMN, _PICTURE_COLUMNS, _ABOUT_COLUMNS)
    for spellings in columns.values()
    for spelling in spellings
)
