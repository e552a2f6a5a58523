"""Items on disk: one SQLite database an index, in WAL mode with synchronous=FULL.

What `transaction` returns from is on disk (fsync) and found after `kill -9` or power loss; what it does not return
from is not there. Every item carries a CRC-32 of its content, the description one of its own, and the number of
items is written down, so that a store that is not what was written is refused instead of served.

Deleted content is overwritten in the database (secure_delete) and `purge_log` takes it out of the write-ahead log.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bowerbird.errors import BowerbirdError, IndexNotFound, Internal, StorageFull, StoreCorrupt
from bowerbird.vectors import CodeArray, HalfArray

from .description import Description, decode, encode
from .disk import sync_directory
from .fields import FieldValue
from .items import Record
from .log import check_log

APPLICATION_ID = 0x42574252  # "BWBR", in the header of every store
SCHEMA_VERSION = 1
PAGE_BYTES = 16_384  # a row of 1280 float16 and its fields is 2.7 kB: six a page, where 4 kB pages would hold one
FILE_NAME = "items.db"
_CHUNK = 512
_BUSY_MS = 5000  # for somebody's sqlite3 shell on a live store; we ourselves never make a writer wait
_FULL_BELOW_BYTES = 1 << 20

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""ERROR too: our statements are fixed, so one fails only where the file has another format or schema."""

_SCHEMA = """
CREATE TABLE description (key INTEGER PRIMARY KEY CHECK (key = 0), value TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE item (
  key INTEGER PRIMARY KEY,
  item_id TEXT NOT NULL UNIQUE,
  fields TEXT NOT NULL,
  code BLOB NOT NULL,
  embedding BLOB NOT NULL,
  crc INTEGER NOT NULL
);
"""
_UPSERT = """
INSERT INTO item (item_id, fields, code, embedding, crc) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (item_id) DO UPDATE
SET fields = excluded.fields, code = excluded.code, embedding = excluded.embedding, crc = excluded.crc
"""


@dataclass(frozen=True)
class Chunk:
    """N items in the order they were first written: rows (N, D) float16, codes (N, W) uint8."""

    item_ids: list[str]
    rows: HalfArray
    codes: CodeArray
    fields: list[dict[str, FieldValue]]


class ItemStore:
    """One open store. Writes take turns; reads have a connection of their own and see committed data only."""

    def __init__(self, path: Path, *, checkpoint_bytes: int) -> None:
        self.path = path
        self._read_lock = threading.Lock()
        with _faults(path):
            self._writer = _connect(path, checkpoint_bytes)
            self._reader = _connect(path, checkpoint_bytes)

    @classmethod
    def create(cls, path: Path, description: Description) -> None:
        """Write an empty store at `path` and close it; it is on disk on return.

        Raises:
            StorageFull: no space for it.
        """
        with _faults(path):
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
                connection.execute("INSERT INTO description VALUES (0, ?, ?)", encode(description))
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
        sync_directory(path.parent)

    @classmethod
    def open(cls, path: Path, *, checkpoint_bytes: int, verify: bool = True) -> ItemStore:
        """The store at `path`.

        Raises:
            StoreCorrupt: the file is missing, not a store, of another version, or damaged; it is named.
        """
        if not path.is_file():
            raise StoreCorrupt(f"{path}: expected an item store, found no such file; restore a snapshot")
        check_log(path)
        store = cls(path, checkpoint_bytes=checkpoint_bytes)
        try:
            store._check_header()
            if verify:
                store._check_structure()
            store.describe()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Fold the log into the database and close."""
        with self._read_lock:
            self._reader.close()
        self._writer.close()

    def describe(self) -> Description:
        """What the store says about itself.

        Raises:
            StoreCorrupt: the description is missing or fails its checksum.
        """
        with _faults(self.path):
            row = self._writer.execute("SELECT value, crc FROM description").fetchone()
        return _decode_description(row, self.path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All `put`, `remove` and `set_description` inside, or none of them; on disk when the block is left.

        Raises:
            StorageFull: nothing was written and the store is as before.
        """
        with _faults(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    def put(self, records: Iterable[Record]) -> None:
        """Insert or replace items, inside a transaction."""
        self._writer.executemany(_UPSERT, map(_encode_record, records))

    def remove(self, item_ids: Iterable[str]) -> None:
        """Delete items, inside a transaction; absent ids are fine."""
        self._writer.executemany("DELETE FROM item WHERE item_id = ?", ((item_id,) for item_id in item_ids))

    def set_description(self, description: Description) -> None:
        """Replace the description, inside a transaction."""
        self._writer.execute("UPDATE description SET value = ?, crc = ?", encode(description))

    def purge_log(self) -> bool:
        """Fold the whole log into the database and empty it; False, at once, if a snapshot still reads from it."""
        with self._read_lock, _faults(self.path):  # so whoever else reads is a snapshot, which is not waited for
            self._writer.execute("PRAGMA busy_timeout = 0")
            try:
                busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return not busy

    def read_items(self) -> Iterator[Chunk]:
        """Every item, in chunks, each checked against its checksum.

        Raises:
            StoreCorrupt: an item is not what was written, or items are missing.
        """
        description = self.describe()
        with _faults(self.path):
            cursor = self._writer.execute("SELECT item_id, fields, code, embedding, crc FROM item ORDER BY key")
        seen = fingerprint = 0
        while True:
            with _faults(self.path):
                rows = cursor.fetchmany(_CHUNK)
            if not rows:
                break
            seen += len(rows)
            chunk = _decode_chunk(rows, description, self.path)
            fingerprint += sum(map(hash, zip(chunk.item_ids)))
            yield chunk
        if seen != description.items:
            raise _corrupt(self.path, f"expected {description.items} items, found {seen}")
        with _faults(self.path):  # the ids as the unique index has them: lookups go by it, and nothing checked it yet
            indexed = sum(map(hash, self._writer.execute("SELECT item_id FROM item ORDER BY item_id")))
        if indexed != fingerprint:
            raise _corrupt(self.path, "the index of item ids does not fit the items")

    def ids_after(self, item_id: str, limit: int) -> list[str]:
        """Up to `limit` item ids that sort after `item_id`, in order."""
        with self._read_lock, _faults(self.path):
            rows = self._reader.execute(
                "SELECT item_id FROM item WHERE item_id > ? ORDER BY item_id LIMIT ?", (item_id, limit)
            ).fetchall()
        return [row[0] for row in rows]

    def copy_to(self, target: Path, on_progress: Callable[[float], None], *, step_pages: int = 256) -> None:
        """Write a consistent copy while reads and writes go on.

        Args:
            target: new database file.
            on_progress: called with 0 to 1 after each step; what it raises ends the copy.
            step_pages: pages of 16 kB between two calls.
        Raises:
            StorageFull: no space for the copy.
        """
        with _faults(target):
            source = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
            copy = sqlite3.connect(target)
            try:
                source.execute("BEGIN")
                source.execute("SELECT 1 FROM description").fetchone()  # pins what the copy will hold
                source.backup(
                    copy,
                    pages=step_pages,
                    progress=lambda _status, left, total: on_progress(1.0 - left / max(total, 1)),
                )
            finally:
                copy.close()
                source.close()

    def _check_header(self) -> None:
        with _faults(self.path):
            (application,) = self._writer.execute("PRAGMA application_id").fetchone()
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise _corrupt(self.path, "this is not a Bowerbird item store")
        if version != SCHEMA_VERSION:
            raise _corrupt(self.path, f"expected store version {SCHEMA_VERSION}, found {version}")

    def _check_structure(self) -> None:
        with _faults(self.path):
            problems = [row[0] for row in self._writer.execute("PRAGMA quick_check(3)")]
        if problems != ["ok"]:
            raise _corrupt(self.path, "; ".join(problems))


def read_description(path: Path) -> Description:
    """The description in a store file that nobody writes to, such as a snapshot.

    Raises:
        StoreCorrupt: it is missing or damaged.
    """
    with _faults(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            row = connection.execute("SELECT value, crc FROM description").fetchone()
        finally:
            connection.close()
    return _decode_description(row, path)


def _decode_description(row: tuple[str, int] | None, path: Path) -> Description:
    description = decode(row)
    if description is None:
        raise _corrupt(path, "the description of the index is missing or damaged")
    return description


def renew_uid(store: ItemStore) -> None:
    """Make a copied store an index of its own, so that page tokens of the original do not fit it."""
    with store.transaction():
        store.set_description(replace(store.describe(), uid=uuid.uuid4().hex))


def _connect(path: Path, checkpoint_bytes: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {max(1, checkpoint_bytes // PAGE_BYTES)}")
    return connection


def _encode_record(record: Record) -> tuple[str, str, bytes, bytes, int]:
    fields = json.dumps(record.fields, ensure_ascii=False, separators=(",", ":"))
    code, embedding = record.code.tobytes(), record.row.astype("<f2", copy=False).tobytes()
    return record.item_id, fields, code, embedding, _checksum(record.item_id, fields, code, embedding)


def _checksum(item_id: str, fields: str, code: bytes, embedding: bytes) -> int:
    return zlib.crc32(embedding, zlib.crc32(code, zlib.crc32(f"{item_id}\0{fields}".encode())))


def _decode_chunk(rows: Sequence[tuple[str, str, bytes, bytes, int]], description: Description, path: Path) -> Chunk:
    for item_id, fields, code, embedding, crc in rows:
        try:
            intact = _checksum(item_id, fields, code, embedding) == crc
        except TypeError:  # a value came back as another SQLite type
            intact = False
        if not intact:
            raise _corrupt(path, f"item {item_id!r} fails its checksum")
    item_ids, texts, codes, embeddings, _ = zip(*rows, strict=True)
    return Chunk(
        item_ids=list(item_ids),
        rows=np.frombuffer(b"".join(embeddings), "<f2").reshape(len(rows), description.dimension),
        codes=np.frombuffer(b"".join(codes), np.uint8).reshape(len(rows), description.code_bits // 8),
        fields=json.loads(f"[{','.join(texts)}]"),  # at once: twice as fast
    )


def _corrupt(path: Path, what: str) -> StoreCorrupt:
    return StoreCorrupt(f"{path}: {what}; nothing was loaded from it, restore a snapshot")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> BowerbirdError:
    if isinstance(error, sqlite3.ProgrammingError):
        return IndexNotFound(
            f"{path}: the store was closed meanwhile: its index was deleted, or the server is stopping"
        )
    code = getattr(error, "sqlite_errorcode", 0) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return StorageFull(f"{path}: the disk is full; nothing was written. Free space and send the write again")
    if primary in _DAMAGED or isinstance(error, UnicodeDecodeError) or "decode" in str(error):
        return _corrupt(path, str(error))
    return Internal(f"{path}: {error}")


def _is_full(path: Path) -> bool:
    return shutil.disk_usage(path.parent).free < _FULL_BELOW_BYTES
