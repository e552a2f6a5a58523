"""A table of pictures: where their files are, and a column a label; from Parquet, JSON lines, CSV or tar shards.

Only the picture's place is needed to train, so a table holds no pixels: `read` gives a file's bytes, from any thread.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid, ItemNotFound

Value = str | float | list[str] | list[float] | None
PICTURE_COLUMN = "picture"
LIST_SEPARATOR = "|"  # in CSV, which has no lists of its own


class PictureSource(Protocol):
    """Encoded pictures by row."""

    @property
    def names(self) -> Sequence[str]:
        """A name a row, for messages."""

    def read(self, row: int) -> bytes:
        """The encoded picture; may be called from several threads.

        Raises:
            ItemNotFound: it is not there.
        """


class PictureFiles:
    """Pictures that are files below a root."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root = root
        self.names = paths

    def read(self, row: int) -> bytes:
        """See `PictureSource.read`."""
        try:
            return (self.root / self.names[row]).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            raise ItemNotFound(f"expected a picture at {self.root / self.names[row]}: {error}") from error


class PictureTable:
    """Pictures and their labels, row by row."""

    def __init__(self, pictures: PictureSource, columns: Mapping[str, Sequence[Value]]) -> None:
        """
        Args:
            pictures: N of them.
            columns: labels by name, N each.
        Raises:
            ArgumentInvalid: a column of another length.
        """
        for name, values in columns.items():
            if len(values) != len(pictures.names):
                raise ArgumentInvalid(
                    f"columns.{name}: expected {len(pictures.names)} values, one a picture, got {len(values)}",
                    field=f"columns.{name}",
                )
        self._pictures = pictures
        self._columns = dict(columns)
        self._rows: npt.NDArray[np.int64] = np.arange(len(pictures.names))

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        root: Path | None = None,
        picture_column: str = PICTURE_COLUMN,
        columns: Sequence[str] | None = None,
    ) -> PictureTable:
        """A table from a Parquet, JSONL or CSV file, told apart by its suffix.

        In CSV every value is text, an empty one is None, and one with a `|` in it is a list. The other formats have
        types of their own; in JSONL a key that a line lacks is None.

        Args:
            path: of the table.
            root: that the pictures' paths are relative to; None: the table's folder.
            picture_column: that holds the paths.
            columns: the label columns to load; None: all.
        Raises:
            ArgumentInvalid: no such file, an unknown suffix, a damaged file, or a column that is not there; the message
                lists those that are.
        """
        readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".csv": _read_csv}
        if path.suffix not in readers:
            raise ArgumentInvalid(f"expected a table {' | '.join(readers)}, got {path}", field="table")
        if not path.is_file():
            raise ArgumentInvalid(f"expected a table at {path}, found no file", field="table")
        wanted = None if columns is None else [picture_column, *columns]
        loaded = readers[path.suffix](path, wanted)
        _require_columns(loaded, [picture_column], str(path))
        paths = loaded.pop(picture_column)
        for row, value in enumerate(paths):
            if not isinstance(value, str) or not value:
                raise ArgumentInvalid(f"{path}, row {row}: expected a path in `{picture_column}`, got {value!r}")
        return cls(PictureFiles(path.parent if root is None else root, [str(value) for value in paths]), loaded)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        """Names of the label columns."""
        return list(self._columns)

    @property
    def paths(self) -> list[str]:
        """The picture's name of every row: its path relative to the root, or its key in a shard."""
        return [self._pictures.names[row] for row in self._rows]

    def column(self, name: str) -> list[Value]:
        """The label of every row; None where there is none.

        Raises:
            ArgumentInvalid: no such column; the message lists those that are.
        """
        _require_columns(self._columns, [name], "the table")
        values = self._columns[name]
        return [values[row] for row in self._rows]

    def read(self, row: int) -> bytes:
        """The encoded picture of a row.

        Raises:
            ItemNotFound: its file is not there.
        """
        return self._pictures.read(int(self._rows[row]))

    def name(self, row: int) -> str:
        """The picture's name, for messages."""
        return self._pictures.names[int(self._rows[row])]

    def select(self, rows: npt.ArrayLike) -> PictureTable:
        """A table of these rows, or of those where a mask is true; nothing is copied."""
        selected = object.__new__(type(self))
        selected._pictures, selected._columns = self._pictures, self._columns
        chosen = np.asarray(rows)
        selected._rows = self._rows[chosen if chosen.dtype == bool else chosen.astype(np.int64)]
        return selected


def _read_parquet(path: Path, wanted: list[str] | None) -> dict[str, list[Any]]:
    from pyarrow import ArrowInvalid, parquet  # an extra

    try:
        chosen = _choose(parquet.read_schema(path).names, wanted, path)
        table = parquet.read_table(path, columns=chosen)
    except ArrowInvalid as error:
        raise ArgumentInvalid(f"{path}: expected a Parquet file: {error}", field="table") from error
    return {name: table.column(name).to_pylist() for name in chosen}


def _read_jsonl(path: Path, wanted: list[str] | None) -> dict[str, list[Any]]:
    records: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ArgumentInvalid(f"{path}, line {number}: {error}", field="table") from error
            if not isinstance(record, dict):
                raise ArgumentInvalid(f"{path}, line {number}: expected an object, got {line[:40]!r}", field="table")
            records.append(record)
    present = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in _choose(list(present), wanted, path)}


def _read_csv(path: Path, wanted: list[str] | None) -> dict[str, list[Any]]:
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        rows = list(reader)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ArgumentInvalid(
                f"{path}, line {number}: expected {len(header)} values as in the header, got {len(row)}", field="table"
            )
    places = {name: header.index(name) for name in _choose(header, wanted, path)}
    return {name: [_parse_cell(row[place]) for row in rows] for name, place in places.items()}


def _parse_cell(text: str) -> Value:
    if LIST_SEPARATOR in text:
        return [part for part in text.split(LIST_SEPARATOR) if part]
    return text or None


def _choose(present: list[str], wanted: list[str] | None, path: Path) -> list[str]:
    """The names wanted, each once, in the table's order; None: all of them."""
    _require_columns(present, wanted or [], str(path))
    return [name for name in present if wanted is None or name in wanted]


def _require_columns(present: Iterable[str], wanted: Iterable[str], where: str) -> None:
    known = list(present)
    for name in wanted:
        if name not in known:
            columns = ", ".join(f"`{column}`" for column in known) or "none"
            raise ArgumentInvalid(f"{where}: expected a column `{name}`; its columns are {columns}", field="table")
