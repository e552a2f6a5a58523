"""Descriptions of pictures: one line of JSON a picture, in `pictures.jsonl` beside the pictures.

Emoji in skin tones have a file of their own, `tones.jsonl`: five near-copies of a hand serve training, not search.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bowerbird.corpora.files import replace_file
from bowerbird.errors import ArgumentInvalid

RECORDS_FILE = "pictures.jsonl"
TONES_FILE = "tones.jsonl"


@dataclasses.dataclass(frozen=True)
class PictureRecord:
    """What is known about one picture.

    Attributes:
        path: where the picture is, relative to the directory of the records, with forward slashes.
        source: the entry of the manifest that it came from.
        title: a few words for people.
        tags: keywords, most telling first.
        category: coarse topic, e.g. `food-drink`.
        style: how it was made, e.g. `noto`, `photograph`.
        concept: what it shows, as a slug that is the same in all styles, e.g. `red-apple`.
        licence: SPDX expression, or a short text where none fits.
        attribution: who made it, in the words to be shown beside it.
    """

    path: str
    source: str = ""
    title: str = ""
    tags: tuple[str, ...] = ()
    category: str = ""
    style: str = ""
    concept: str = ""
    licence: str = ""
    attribution: str = ""


@dataclasses.dataclass(frozen=True)
class ToneRecord(PictureRecord):
    """What is known about one picture of an emoji in a skin tone.

    Attributes:
        tone: one of `bowerbird.corpora.tones.TONES`.
    """

    tone: str = ""


_Record = TypeVar("_Record", bound=PictureRecord)


def load(directory: Path) -> list[PictureRecord]:
    """Records of a corpus directory, in file order.

    Raises:
        ArgumentInvalid: there is no `pictures.jsonl`, or one of its lines is not a record; names file and line.
    """
    return _load(directory / RECORDS_FILE, PictureRecord, "python -m bowerbird.corpora")


def load_tones(directory: Path) -> list[ToneRecord]:
    """Records of the emoji in skin tones of a corpus directory, in file order.

    Raises:
        ArgumentInvalid: there is no `tones.jsonl`, or one of its lines is not a record; names file and line.
    """
    return _load(directory / TONES_FILE, ToneRecord, "python -m bowerbird.corpora --tones")


def save(directory: Path, records: Iterable[PictureRecord]) -> Path:
    """Path of the `pictures.jsonl` that now holds `records`; readers see the old file or the new one, never a part."""
    return _save(directory / RECORDS_FILE, records)


def save_tones(directory: Path, records: Iterable[ToneRecord]) -> Path:
    """Path of the `tones.jsonl` that now holds `records`; readers see the old file or the new one, never a part."""
    return _save(directory / TONES_FILE, records)


def _save(file: Path, records: Iterable[PictureRecord]) -> Path:
    lines = (json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n" for record in records)
    return replace_file(file, "".join(lines).encode())


def _load(file: Path, kind: type[_Record], command: str) -> list[_Record]:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise ArgumentInvalid(
            f"expected a readable {file}, got: {error.strerror}; build a corpus with `{command}`"
        ) from error
    records: list[_Record] = []
    line_of_path: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _parse(line, kind, where=f"{file}:{number}")
        first = line_of_path.setdefault(record.path, number)
        if first != number:
            raise ArgumentInvalid(f"{file}:{number}: path {record.path!r} was listed in line {first} already")
        records.append(record)
    return records


def _parse(line: bytes, kind: type[_Record], *, where: str) -> _Record:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and endless brackets
        raise ArgumentInvalid(f"{where}: expected one JSON object a line, got {line[:60]!r}: {error}") from error
    if not isinstance(raw, dict):
        raise ArgumentInvalid(f"{where}: expected a JSON object, got {type(raw).__name__}")
    fields = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(raw) - set(fields))
    if unknown:
        raise ArgumentInvalid(f"{where}: unknown field {', '.join(unknown)}; known: {', '.join(fields)}")
    for name, value in raw.items():
        _check_field(name, value, where)
    path = PurePosixPath(raw.get("path", ""))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ArgumentInvalid(f"{where}: path must be relative and stay inside the directory, got {str(path)!r}")
    return kind(**{**raw, "tags": tuple(raw.get("tags", ()))})


def _check_field(name: str, value: Any, where: str) -> None:
    if name == "tags":
        if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
            raise ArgumentInvalid(f"{where}: tags must be a list of strings, got {value!r}")
    elif not isinstance(value, str):
        raise ArgumentInvalid(f"{where}: {name} must be a string, got {type(value).__name__}")
