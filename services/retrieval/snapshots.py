"""Snapshots: consistent copies of a store, each with a checksum beside it, and their way back.

    snapshots/<snapshot id>/items.db        the copy
    snapshots/<snapshot id>/snapshot.json   what it is, and its sha256

A snapshot appears under its name when it is complete and on disk, never before.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bowerbird import telemetry
from bowerbird.errors import SnapshotCorrupt, SnapshotNotFound

from .disk import PARTIAL_PREFIX, disk_faults, list_directories, move_directory, remove_directory, sync_directory
from .items import SnapshotInfo
from .store import FILE_NAME, read_description

_log = telemetry.get_logger(__name__)

Progress = Callable[[float], None]
"""Called with 0 to 1; what it raises ends the work, which then leaves nothing behind."""

_SIDECAR = "snapshot.json"
_SNAPSHOT_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_BLOCK_BYTES = 1 << 20
_COPY_SHARE = 0.8
"""Part of the progress that copying is; the rest is the checksum."""
COPIED = 0.9
"""Progress of a restore when the copy is there; the rest is the check of its items."""


class SnapshotCatalog:
    """The snapshots of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        list_directories(directory)

    def create(self, index: str, copy: Callable[[Path, Progress], None], on_progress: Progress) -> SnapshotInfo:
        """Take a snapshot of `index`.

        Args:
            copy: writes a consistent copy of the store to the path it is given.
            on_progress: see `Progress`.
        Raises:
            StorageFull: no space; nothing is left behind.
        """
        start = time.perf_counter()
        stamp = time.strftime("%Y%m%dt%H%M%S", time.gmtime())
        snapshot_id = f"{index}-{stamp}-{secrets.token_hex(4)}"
        partial = self._directory / f"{PARTIAL_PREFIX}{snapshot_id}"
        try:
            with disk_faults(partial):
                partial.mkdir()
                copy(partial / FILE_NAME, lambda done: on_progress(_COPY_SHARE * done))
                info = _describe(partial / FILE_NAME, snapshot_id, index, on_progress)
                (partial / _SIDECAR).write_text(json.dumps(asdict(info), indent=1) + "\n")
                _sync_files(partial)
                move_directory(partial, self._directory / snapshot_id)
        finally:
            if partial.exists():
                shutil.rmtree(partial)
        telemetry.SNAPSHOT_SECONDS.labels(index).observe(time.perf_counter() - start)
        telemetry.SNAPSHOT_LAST_SUCCESS_TIMESTAMP_SECONDS.labels(index).set(info.create_time_s)
        on_progress(1.0)
        return info

    def list(self, index: str = "") -> list[SnapshotInfo]:
        """Snapshots of one index, or of all, newest first; one whose description is damaged is logged, not listed."""
        found = []
        for directory in self._directory.iterdir():
            if directory.name.startswith(PARTIAL_PREFIX):
                continue
            try:
                info = self._read(directory.name)
            except SnapshotCorrupt as error:
                _log.error("snapshot damaged", extra={"snapshot": directory.name, "error": error.message})
                continue
            except SnapshotNotFound:  # deleted meanwhile
                continue
            if not index or info.index == index:
                found.append(info)
        return sorted(found, key=lambda info: (-info.create_time_s, info.snapshot_id))

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot, a damaged one too.

        Raises:
            SnapshotNotFound: there is none of this id.
        """
        remove_directory(self._find(snapshot_id))

    def extract(self, snapshot_id: str, target: Path, on_progress: Progress) -> SnapshotInfo:
        """Copy a snapshot's store to `target`, on disk when this returns.

        Raises:
            SnapshotNotFound: there is none of this id.
            SnapshotCorrupt: the copy is not what was written; the file is named, and nothing is left behind.
            StorageFull: no space; nothing is left behind.
        """
        info = self._read(snapshot_id)
        source = self._directory / snapshot_id / FILE_NAME
        if not source.is_file():
            raise SnapshotCorrupt(f"{source}: expected the items of snapshot {snapshot_id}, found no such file")
        with disk_faults(target):
            digest = _copy(source, target, info.size_bytes, on_progress)
            if digest != info.sha256:
                target.unlink()
                raise SnapshotCorrupt(f"{source}: expected sha256 {info.sha256}, got {digest}; use another snapshot")
            _sync_files(target.parent)
        return info

    def _find(self, snapshot_id: str) -> Path:
        directory = self._directory / snapshot_id
        if not _SNAPSHOT_ID.fullmatch(snapshot_id) or not directory.is_dir():
            raise SnapshotNotFound(
                f"no snapshot {snapshot_id!r}; list_snapshots tells which exist", field="snapshot_id"
            )
        return directory

    def _read(self, snapshot_id: str) -> SnapshotInfo:
        path = self._find(snapshot_id) / _SIDECAR
        try:
            info = SnapshotInfo(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise SnapshotCorrupt(f"{path}: cannot be read ({error}); use another snapshot") from error
        return info


def _describe(path: Path, snapshot_id: str, index: str, on_progress: Progress) -> SnapshotInfo:
    size = path.stat().st_size
    description = read_description(path)
    digest, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            read += len(block)
            on_progress(min(0.99, _COPY_SHARE + (1 - _COPY_SHARE) * read / size))
    return SnapshotInfo(
        snapshot_id=snapshot_id,
        index=index,
        sequence=description.sequence,
        items=description.items,
        size_bytes=size,
        sha256=digest.hexdigest(),
        create_time_s=time.time(),
    )


def _copy(source: Path, target: Path, size_bytes: int, on_progress: Progress) -> str:
    """The sha256 of `source`, after copying it."""
    digest, copied = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK_BYTES):
            digest.update(block)
            writer.write(block)
            copied += len(block)
            on_progress(min(COPIED, COPIED * copied / max(1, size_bytes)))
    return digest.hexdigest()


def _sync_files(directory: Path) -> None:
    """Put the files of a directory, and their names, on disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
