"""Descriptions of pictures: one line of JSON a picture, in `pictures.jsonl` beside the pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from bowerbird.corpora.files import replace_file
from bowerbird.errors import ArgumentInvalid

RECORDS_FILE = "pictures.jsonl"


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


_FIELDS = tuple(field.name for field in dataclasses.fields(PictureRecord))


def load(directory: Path) -> list[PictureRecord]:
    """Records of a corpus directory, in file order.

    Raises:
        ArgumentInvalid: there is no `pictures.jsonl`, or one of its lines is not a record; names file and line.
    """
    file = directory / RECORDS_FILE
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise ArgumentInvalid(
            f"expected a readable {file}, got: {error.strerror}; build a corpus with `python -m bowerbird.corpora`"
        ) from error
    records: list[PictureRecord] = []
    line_of_path: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _parse(line, where=f"{file}:{number}")
        first = line_of_path.setdefault(record.path, number)
        if first != number:
            raise ArgumentInvalid(f"{file}:{number}: path {record.path!r} was listed in line {first} already")
        records.append(record)
    return records


def save(directory: Path, records: Iterable[PictureRecord]) -> Path:
    """Path of the `pictures.jsonl` that now holds `records`; readers see the old file or the new one, never a part."""
    lines = (json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n" for record in records)
    return replace_file(directory / RECORDS_FILE, "".join(lines).encode())


def _parse(line: bytes, *, where: str) -> PictureRecord:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and endless brackets
        raise ArgumentInvalid(f"{where}: expected one JSON object a line, got {line[:60]!r}: {error}") from error
    if not isinstance(raw, dict):
        raise ArgumentInvalid(f"{where}: expected a JSON object, got {type(raw).__name__}")
    unknown = sorted(set(raw) - set(_FIELDS))
    if unknown:
        raise ArgumentInvalid(f"{where}: unknown field {', '.join(unknown)}; known: {', '.join(_FIELDS)}")
    for name, value in raw.items():
        _check_field(name, value, where)
    path = PurePosixPath(raw.get("path", ""))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ArgumentInvalid(f"{where}: path must be relative and stay inside the directory, got {str(path)!r}")
    return PictureRecord(**{**raw, "tags": tuple(raw.get("tags", ()))})


def _check_field(name: str, value: Any, where: str) -> None:
    if name == "tags":
        if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
            raise ArgumentInvalid(f"{where}: tags must be a list of strings, got {value!r}")
    elif not isinstance(value, str):
        raise ArgumentInvalid(f"{where}: {name} must be a string, got {type(value).__name__}")
