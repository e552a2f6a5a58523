"""Pictures and their labels in tar files: the layout of the webdataset library, written, and read at random.

A sample is the members of one key: `000000012.png` and `000000012.json`, an object of labels. A large corpus is then a
few big files, which copies and object stores like, and any webdataset reader can stream it. Bowerbird reads it where it
lies, without unpacking: an index says at which byte each picture begins. It is made on first use and kept beside the
shard, `NAME.tar.index.json`.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bowerbird.errors import ArchiveRefused, ArgumentInvalid
from bowerbird.images import sniff_format
from bowerbird.training.dataset import PICTURE_COLUMN, PictureTable

PICTURES_PER_SHARD = 10_000
SUFFIXES = {"jpeg": "jpg", "png": "png", "gif": "gif", "webp": "webp", "bmp": "bmp"}
PICTURE_SUFFIXES = frozenset({*SUFFIXES.values(), "jpeg"})
SHARD_SUFFIX = ".tar"
INDEX_VERSION = 1


@dataclass
class _Shard:
    """Where the pictures of one tar file begin, and what is said about them.

    Attributes:
        bytes: of the tar file when the index was made; so is `modified_ns`.
        places: offset and length of each picture's bytes.
        records: the labels of each picture.
    """

    bytes: int
    modified_ns: int
    version: int = INDEX_VERSION
    keys: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


class ShardedPictures:
    """The pictures of several shards, one after the other; see `bowerbird.training.dataset.PictureSource`."""

    def __init__(self, names: Sequence[str], places: Sequence[tuple[Path, int, int]]) -> None:
        self.names = names
        self._places = places

    def read(self, row: int) -> bytes:
        """The encoded picture.

        Raises:
            ArchiveRefused: the shard is gone, or shorter than when it was indexed.
        """
        path, offset, length = self._places[row]
        try:
            with path.open("rb") as shard:
                shard.seek(offset)
                data = shard.read(length)
        except OSError as error:
            raise ArchiveRefused(f"expected the shard {path}: {error}") from error
        if len(data) != length:
            raise ArchiveRefused(f"{path}: expected {length} bytes at {offset}, got {len(data)}; the shard was cut")
        return data


def open_table(
    path: Path,
    *,
    root: Path | None = None,
    picture_column: str = PICTURE_COLUMN,
    columns: Sequence[str] | None = None,
) -> PictureTable:
    """A table of any kind: of a file as `PictureTable.from_file`, of one shard, or of a folder of them, by name.

    Args:
        path: of a Parquet, JSONL, CSV or tar file, or of a folder with tar files in it.
        root: see `PictureTable.from_file`; shards hold their pictures.
        picture_column: likewise.
        columns: likewise; of shards all are read anyway.
    Raises:
        ArgumentInvalid: as `PictureTable.from_file`, or a folder without shards.
        ArchiveRefused: as `read_shards`.
    """
    if not path.is_dir() and path.suffix != SHARD_SUFFIX:
        return PictureTable.from_file(path, root=root, picture_column=picture_column, columns=columns)
    shards = sorted(path.glob(f"*{SHARD_SUFFIX}")) if path.is_dir() else [path]
    if not shards:
        raise ArgumentInvalid(f"expected shards (*{SHARD_SUFFIX}) in {path}, found none", field="table")
    return read_shards(shards)


def write_shards(
    table: PictureTable, directory: Path, *, prefix: str = "shard", pictures_per_shard: int = PICTURES_PER_SHARD
) -> list[Path]:
    """The shards `PREFIX-000000.tar` and so on, with the pictures of the table as they are and their labels as JSON.

    The same table gives the same bytes. Each file appears under its name when it is whole.

    Args:
        table: what to write; a picture's name becomes the label `picture`.
        directory: made if it does not exist.
        prefix: of the file names.
        pictures_per_shard: at most.
    Raises:
        ArgumentInvalid: a picture of an unknown format, or no picture a shard.
        ItemNotFound: a picture is missing.
    """
    if pictures_per_shard < 1:
        raise ArgumentInvalid(f"pictures_per_shard: expected at least 1, got {pictures_per_shard}")
    directory.mkdir(parents=True, exist_ok=True)
    columns = {name: table.column(name) for name in table.columns}
    paths: list[Path] = []
    for first in range(0, len(table), pictures_per_shard):
        path = directory / f"{prefix}-{len(paths):06d}.tar"
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as shard:
            for row in range(first, min(first + pictures_per_shard, len(table))):
                labels = {PICTURE_COLUMN: table.name(row)} | {name: values[row] for name, values in columns.items()}
                data = table.read(row)
                _add(shard, f"{row:09d}.{_suffix_of(data, table.name(row))}", data)
                _add(shard, f"{row:09d}.json", json.dumps(labels, ensure_ascii=False).encode())
        partial.replace(path)
        paths.append(path)
    return paths


def read_shards(paths: Iterable[Path]) -> PictureTable:
    """A table over the pictures of these shards, in their order; its columns are the keys of the samples' JSON.

    Args:
        paths: tar files, not compressed. Each is scanned once, header by header, unless its index is there.
    Raises:
        ArchiveRefused: a shard is missing, damaged or compressed, or a sample has no picture or no JSON object.
    """
    names: list[str] = []
    places: list[tuple[Path, int, int]] = []
    records: list[dict[str, Any]] = []
    for path in paths:
        shard = _load_index(path) or _make_index(path)
        names += [record.get(PICTURE_COLUMN, key) for key, record in zip(shard.keys, shard.records, strict=True)]
        places += [(path, offset, length) for offset, length in shard.places]
        records += shard.records
    columns = dict.fromkeys(name for record in records for name in record if name != PICTURE_COLUMN)
    return PictureTable(
        ShardedPictures(names, places), {name: [record.get(name) for record in records] for name in columns}
    )


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time, owner and mode are the same for everyone
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def _suffix_of(data: bytes, name: str) -> str:
    kind = sniff_format(data)
    if kind is None:
        raise ArgumentInvalid(f"{name}: expected a JPEG, PNG, WebP, GIF or BMP file, got {data[:8]!r}...")
    return SUFFIXES[kind]


def _index_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.index.json")


def _load_index(path: Path) -> _Shard | None:
    """The index of a shard; None where there is none, or the shard has changed since."""
    try:
        state = path.stat()
        shard = _Shard(**json.loads(_index_path(path).read_bytes()))
    except (OSError, ValueError, TypeError):  # none, or not one of ours: made anew
        return None
    fresh = (shard.version, shard.bytes, shard.modified_ns) == (INDEX_VERSION, state.st_size, state.st_mtime_ns)
    return shard if fresh else None


def _make_index(path: Path) -> _Shard:
    try:
        state = path.stat()
        shard = _Shard(state.st_size, state.st_mtime_ns)
        with tarfile.open(path, "r:") as archive:
            _scan(archive, shard, path)
    except tarfile.TarError as error:
        raise ArchiveRefused(f"{path}: expected a tar file that is whole and not compressed: {error}") from error
    except OSError as error:
        raise ArchiveRefused(f"expected a shard at {path}: {error}") from error
    partial = path.with_name(f"{path.name}.index.{os.getpid()}")
    try:
        partial.write_text(json.dumps(asdict(shard)))
        partial.replace(_index_path(path))
    except OSError:  # a folder that may only be read: the index lives in memory
        partial.unlink(missing_ok=True)
    return shard


def _scan(archive: tarfile.TarFile, shard: _Shard, path: Path) -> None:
    """Fill the shard's lists, sample by sample; members of other kinds than picture and JSON are passed over."""
    pictures: dict[str, tuple[int, int]] = {}
    records: dict[str, dict[str, Any]] = {}
    for member in archive:
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")  # the key ends at the first dot, as in webdataset
        key = f"{folder}/{stem}" if folder else stem
        if not member.isfile():
            continue
        if suffix.lower() in PICTURE_SUFFIXES:
            pictures[key] = (member.offset_data, member.size)
        elif suffix.lower() == "json":
            records[key] = _parse_record(archive, member, path)
    for key in dict.fromkeys([*pictures, *records]):
        if key not in pictures or key not in records:
            missing = "picture" if key in records else "JSON object of labels"
            raise ArchiveRefused(f"{path}: sample {key!r}: expected a {missing}, found none")
        shard.keys.append(key)
        shard.places.append(pictures[key])
        shard.records.append(records[key])


def _parse_record(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> dict[str, Any]:
    file = archive.extractfile(member)
    assert file is not None  # a regular file has one
    try:
        record = json.loads(file.read())
    except ValueError as error:
        raise ArchiveRefused(f"{path}: {member.name}: {error}") from error
    if not isinstance(record, dict):
        raise ArchiveRefused(f"{path}: {member.name}: expected a JSON object, got {type(record).__name__}")
    return record
