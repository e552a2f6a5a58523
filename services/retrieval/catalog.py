"""The indexes of one data directory: made, found, removed, restored.

    data_dir/lock                       held by the one process that uses the directory
    data_dir/page.key                   signs page tokens
    data_dir/indexes/<name>/items.db    the truth; what is searched is rebuilt from it at start
    data_dir/snapshots/<id>/            see `snapshots`

An index appears and disappears by the rename of its directory, so an interrupted step leaves all of it or nothing.
One that takes the place of another is renamed to `<name>~next` first; from then on the next start would finish it.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from pathlib import Path

from bowerbird.errors import ArgumentInvalid, IndexExists, IndexNotFound, NotReady, SnapshotCorrupt, StoreCorrupt

from . import pages
from .config import RetrievalConfig
from .description import Description
from .disk import (
    PARTIAL_PREFIX,
    DirectoryLock,
    disk_faults,
    list_directories,
    make_directory,
    move_directory,
    remove_directory,
)
from .items import IndexInfo, ModelRef, Shape, check_index_name
from .live import LiveIndex
from .snapshots import COPIED, Progress, SnapshotCatalog
from .store import FILE_NAME, ItemStore, renew_uid

_SUCCESSOR_SUFFIX = "~next"  # no index has such a name


class IndexCatalog:
    """All live indexes by name. Look-ups never wait; what changes the set of indexes takes turns."""

    def __init__(self, config: RetrievalConfig) -> None:
        """
        Raises:
            ConfigInvalid: another process uses the data directory.
        """
        self._config = config
        self._turn = threading.Lock()
        self._indexes: dict[str, LiveIndex] | None = None
        with disk_faults(config.data_dir):
            make_directory(config.data_dir)
            self._lock = DirectoryLock(config.data_dir / "lock")

    def load(self) -> None:
        """Read every index into memory, once; until then the others raise NotReady.

        Raises:
            StoreCorrupt: a store is not what was written; its file is named.
        """
        with self._turn:
            if self._indexes is not None:
                return
            directory = self._config.data_dir
            with disk_faults(directory):
                self.page_key = pages.load_key(directory / "page.key")
                self._snapshots = SnapshotCatalog(directory / "snapshots")
                found = _finish_replacements(list_directories(directory / "indexes"))
            loaded: dict[str, LiveIndex] = {}
            try:
                for path in found:
                    loaded[path.name] = LiveIndex.open(path, self._config)
            except BaseException:
                for live in loaded.values():
                    live.close()
                raise
            self._indexes = loaded

    def close(self) -> None:
        """Finish writes under way, close the stores and give the data directory back."""
        with self._turn:
            for live in (self._indexes or {}).values():
                live.close()
            self._indexes = None
            self._lock.release()

    @property
    def indexes(self) -> dict[str, LiveIndex]:
        """All indexes; a new dict whenever one comes or goes. Raises NotReady."""
        if self._indexes is None:
            raise NotReady("the indexes are not loaded: this server is starting or stopping", retry_after_s=1.0)
        return self._indexes

    @property
    def snapshots(self) -> SnapshotCatalog:
        """The snapshots. Raises NotReady."""
        assert self.indexes is not None
        return self._snapshots

    def __getitem__(self, name: str) -> LiveIndex:
        live = self.indexes.get(name)
        if live is None:
            known = ", ".join(sorted(self.indexes)) or "none yet"
            raise IndexNotFound(f"no index {name!r}; there is: {known}. Create it first", field="index")
        return live

    def create(self, name: str, shape: Shape, model: ModelRef | None) -> LiveIndex:
        """A new index, or the one of this name if it is the same. Raises IndexExists if it differs."""
        check_index_name(name)
        with self._turn:
            existing = self.indexes.get(name)
            if existing is not None:
                _require_same(existing.info(), shape, model)
                return existing
            description = Description(
                uuid.uuid4().hex, shape.dimension, shape.code_bits, create_time_s=time.time(), model=model
            )
            partial = self._partial()
            try:
                with disk_faults(partial):
                    partial.mkdir()
                    ItemStore.create(partial / FILE_NAME, description)
                    move_directory(partial, self._directory(name))
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return self._add(name)

    def delete(self, name: str) -> None:
        """Remove an index and its files; its snapshots stay. Raises IndexNotFound."""
        with self._turn:
            live = self[name]
            self._indexes = {key: value for key, value in self.indexes.items() if key != name}
            live.close()
            live.forget()
            with disk_faults(self._directory(name)):
                remove_directory(self._directory(name))

    def replace(self, name: str, by: str, sequence: int) -> LiveIndex:
        """Index `by` under the name `name`, whose index is deleted.

        Args:
            sequence: newest write of `name` that the caller knows.
        Raises:
            IndexNotFound: there is no such index.
            IndexChanged: there is a newer write; nothing was done.
            FailedPrecondition: a snapshot of `by` is being taken; nothing was done.
        """
        if name == by:
            raise ArgumentInvalid(f"expected two indexes, got {name!r} twice", field="by")
        with self._turn:
            old, new = self[name], self[by]
            old.close(sequence=sequence)
            try:
                new.relocate(self._directory(name), lambda: self._take_place(name, by), after=sequence)
            except BaseException:
                if self._directory(name).is_dir() and not self._successor(name).exists():  # else the next start ends it
                    self._indexes = {**self.indexes, name: LiveIndex.open(self._directory(name), self._config)}
                raise
            self._indexes = {**{key: value for key, value in self.indexes.items() if key != by}, name: new}
            return new

    def _take_place(self, name: str, by: str) -> None:
        """Rename the directories; the first rename decides, `_finish_replacements` would do the others.

        A disk that refuses after the first is asked to undo it: what is written to the old index from then on must not
        be thrown away by the next start.
        """
        directory, successor = self._directory(name), self._successor(name)
        with disk_faults(directory):
            try:
                move_directory(self._directory(by), successor)
                _finish_replacements([successor])
            except OSError:
                if successor.exists() and directory.exists():
                    move_directory(successor, self._directory(by))
                raise

    def restore(self, snapshot_id: str, name: str, on_progress: Progress) -> LiveIndex:
        """A new index out of a snapshot. Raises IndexExists, SnapshotNotFound, SnapshotCorrupt, StorageFull."""
        check_index_name(name)
        self._require_free(name)
        partial = self._partial()
        try:
            with disk_faults(partial):
                partial.mkdir()
                self.snapshots.extract(snapshot_id, partial / FILE_NAME, on_progress)
            self._check_restored(partial / FILE_NAME, snapshot_id, on_progress)
            with self._turn:
                self._require_free(name)
                with disk_faults(partial):
                    move_directory(partial, self._directory(name))
                return self._add(name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _add(self, name: str) -> LiveIndex:
        """Serve the index whose files are in place, or take them away again; it is this thread's turn."""
        directory = self._directory(name)
        try:
            live = LiveIndex.open(directory, self._config)
        except BaseException:  # no memory, no file descriptors: the name must not stay taken
            with disk_faults(directory):
                remove_directory(directory)
            raise
        self._indexes = {**self.indexes, name: live}
        return live

    def _require_free(self, name: str) -> None:
        if name in self.indexes:
            raise IndexExists(f"index {name!r} exists; restore to another name, or delete it first", field="index")

    def _check_restored(self, path: Path, snapshot_id: str, on_progress: Progress) -> None:
        """Check all of what a snapshot held, and make it an index of its own."""
        try:
            store = ItemStore.open(path, checkpoint_bytes=self._config.checkpoint_bytes)
            try:
                for _ in store.read_items():
                    on_progress(COPIED)
                renew_uid(store)
            finally:
                store.close()
        except StoreCorrupt as error:
            raise SnapshotCorrupt(f"snapshot {snapshot_id} holds no sound store: {error.message}") from error

    def _directory(self, name: str) -> Path:
        return self._config.data_dir / "indexes" / name

    def _successor(self, name: str) -> Path:
        return self._directory(f"{name}{_SUCCESSOR_SUFFIX}")

    def _partial(self) -> Path:
        return self._config.data_dir / "indexes" / f"{PARTIAL_PREFIX}partial-{uuid.uuid4().hex}"


def _finish_replacements(directories: list[Path]) -> list[Path]:
    """Directories of indexes, after each that was to take the place of another has done so."""
    for successor in directories:
        name, suffix, _ = successor.name.partition(_SUCCESSOR_SUFFIX)
        if suffix:
            directory = successor.with_name(name)
            if directory.exists():
                remove_directory(directory)
            move_directory(successor, directory)
    return sorted({path.with_name(path.name.removesuffix(_SUCCESSOR_SUFFIX)) for path in directories})


def _require_same(existing: IndexInfo, shape: Shape, model: ModelRef | None) -> None:
    same_model = model is None or existing.model is None or model == existing.model
    if (existing.dimension, existing.code_bits) == (shape.dimension, shape.code_bits) and same_model:
        return
    raise IndexExists(
        f"index {existing.name!r} exists with dimension {existing.dimension}, {existing.code_bits} code bits and "
        f"model {existing.model or 'none'}; use it as it is, delete it, or choose another name",
        field="name",
    )
