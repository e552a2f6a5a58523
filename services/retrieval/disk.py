"""Files and directories that are there after a power loss, and what goes wrong with them."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bowerbird.errors import ConfigInvalid, Internal, StorageFull

PARTIAL_PREFIX = "."
"""Of directories that are being made or removed; none survives a start."""


class DirectoryLock:
    """The right to use a data directory; the operating system takes it back when the process ends."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ConfigInvalid: another process has it; its number is named.
        """
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise ConfigInvalid(
                f"{path.parent} is in use by process {owner}; stop it, or set another [retrieval] data_dir"
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Errors of the operating system as ours.

    Raises:
        StorageFull: the disk or a quota is full.
        Internal: anything else; `path` is named.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path}: the disk is full; nothing was written. Free space and try again") from error
        raise Internal(f"{path}: {error}") from error


def sync_directory(path: Path) -> None:
    """Put the entries of a directory on disk: a new or renamed file is only safe after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make `path` and those above it that are missing, each on disk; fine if it is there."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in reversed(missing):
        sync_directory(directory.parent)


def move_directory(source: Path, target: Path) -> None:
    """Rename `source`, at once and for good; `target` must not exist."""
    source.rename(target)
    sync_directory(target.parent)


def remove_directory(path: Path) -> None:
    """Take a directory away: it is gone by name at once, and its files follow."""
    hidden = path.with_name(f"{PARTIAL_PREFIX}removed-{os.urandom(8).hex()}")
    move_directory(path, hidden)
    shutil.rmtree(hidden)


def list_directories(path: Path) -> list[Path]:
    """The directories in `path` by name, after removing what an interrupted run left unfinished.

    Only for the start: whatever is unfinished later belongs to somebody.
    """
    make_directory(path)
    for leftover in path.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(leftover)
    return sorted(child for child in path.iterdir() if child.is_dir())
