"""Pictures on disk: which files there are, what is known about them, and their bytes.

An item's id is the picture's path below the folder that was given, so that a changed file replaces its item, a copy is
an item of its own, and people can read it. Its fields are `root` (that folder), `path`, `name`, `folder` and `sha256`
of the file; a `pictures.jsonl` in a folder (one JSON object a line, `path` relative to that folder) names the pictures
of that folder and gives them further fields.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bowerbird.cli.outcome import CommandFailed
from bowerbird.images import DEFAULT_LIMITS, sniff_format

FieldValue = str | int | float | bool

RECORDS_FILE = "pictures.jsonl"
OWN_FIELDS = ("root", "path", "name", "folder", "sha256")
HEAD_BYTES = 32

NOT_A_PICTURE = "not a picture"
EMPTY = "empty file"
TOO_LARGE = "too large"
UNREADABLE = "cannot be read"
BAD_RECORD = "bad line in pictures.jsonl"


@dataclass(frozen=True)
class Source:
    """A file that may be a picture, and what is known about it before it is opened."""

    item_id: str
    path: Path
    fields: dict[str, FieldValue]


@dataclass(frozen=True)
class Picture:
    """A picture that was read: its bytes, and all its fields."""

    item_id: str
    data: bytes
    fields: dict[str, FieldValue]


@dataclass(frozen=True)
class Skipped:
    """A file that is not indexed, and why.

    Attributes:
        path: the file, or line, as people find it.
        reason: short and the same for all files of this kind.
        detail: more about this one; may be empty.
    """

    path: str
    reason: str
    detail: str = ""


def find_sources(root: Path, prefix: str = "") -> Iterator[Source | Skipped]:
    """The files of a folder and all folders below it, by name, or the one file; hidden ones are left out.

    Args:
        root: absolute path of a folder or a file.
        prefix: put before every item id.
    Raises:
        CommandFailed: there is nothing at this path.
    """
    if root.is_dir():
        yield from _find_in(root, PurePosixPath(), _Naming(root, prefix))
    elif root.exists():
        yield _Naming(root.parent, prefix).source(PurePosixPath(root.name), {})
    else:
        raise CommandFailed(f"there is no file or folder {root}")


def count_sources(root: Path) -> int:
    """How many sources `find_sources` will give; it opens no picture."""
    return sum(1 for _ in find_sources(root)) if root.exists() else 0


def read_picture(source: Source) -> Picture | Skipped:
    """The picture's bytes and fields, or why it cannot be indexed."""
    shown = str(source.path)
    try:
        with source.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return Skipped(shown, EMPTY)
            head = file.read(HEAD_BYTES)
            if sniff_format(head) is None:
                return Skipped(shown, NOT_A_PICTURE)
            if size > DEFAULT_LIMITS.max_bytes:
                limit = DEFAULT_LIMITS.max_bytes // 2**20
                return Skipped(shown, TOO_LARGE, f"{size / 2**20:.1f} MiB, at most {limit} MiB")
            data = head + file.read()
    except OSError as error:
        return Skipped(shown, UNREADABLE, error.strerror or str(error))
    return Picture(source.item_id, data, source.fields | {"sha256": hashlib.sha256(data).hexdigest()})


@dataclass(frozen=True)
class _Naming:
    """How paths below one root become ids and fields."""

    root: Path
    prefix: str

    def source(self, relative: PurePosixPath, known: dict[str, FieldValue]) -> Source:
        own: dict[str, FieldValue] = {"root": str(self.root), "path": str(relative), "name": relative.stem}
        if relative.parent.parts:
            own["folder"] = str(relative.parent)
        return Source(self.prefix + str(relative), self.root / relative, known | own)


def _find_in(folder: Path, relative: PurePosixPath, naming: _Naming) -> Iterator[Source | Skipped]:
    if (folder / RECORDS_FILE).is_file():
        yield from _find_recorded(folder, relative, naming)
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(str(folder), UNREADABLE, error.strerror or str(error))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _find_in(folder / entry.name, relative / entry.name, naming)
        elif not _is_text(entry.name):
            yield Skipped(repr(entry.path), UNREADABLE, "its name is not UTF-8")
        elif entry.is_file() or (entry.is_symlink() and not Path(entry.path).is_dir()):
            yield naming.source(relative / entry.name, {})


def _find_recorded(folder: Path, relative: PurePosixPath, naming: _Naming) -> Iterator[Source | Skipped]:
    """The pictures that a `pictures.jsonl` lists, read line by line, so that memory does not grow with the list."""
    records = folder / RECORDS_FILE
    with records.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                path, known = _parse_record(line)
            except ValueError as error:
                yield Skipped(f"{records}:{number}", BAD_RECORD, str(error))
                continue
            yield naming.source(relative / path, known)


def _parse_record(line: bytes) -> tuple[PurePosixPath, dict[str, FieldValue]]:
    """Path and further fields of one line; a list of words becomes one text, words parted by commas."""
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
        raise ValueError("expected a JSON object with a path")
    path = PurePosixPath(record["path"])
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"path must be relative and stay inside the folder, got {record['path']!r}")
    known: dict[str, FieldValue] = {}
    for name, value in record.items():
        if name not in OWN_FIELDS and (plain := _plain(name, value)) is not None:
            known[name] = plain
    return path, known


def _plain(name: str, value: Any) -> FieldValue | None:
    """The value as a field holds it; None for what is empty and left out."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        value = ", ".join(value)
    if value is None or value == "":
        return None
    if isinstance(value, (str, int, float)):
        return value
    raise ValueError(f"field {name} must be text, a number, true, false or a list of texts, got {value!r}")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
