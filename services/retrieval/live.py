"""One index that is being served: its store, its arrays, and the writes that change both.

A write is planned against what the store will say, committed to disk, and only then shown to searches; a write that
fails leaves both as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, FailedPrecondition, IndexChanged, IndexNotFound

from .budget import Budget
from .codes import CodeIndex, create_code_index
from .commits import CommitQueue
from .config import RetrievalConfig
from .description import with_write
from .filters import Filter, match
from .index import MemoryIndex, Slots
from .items import DeleteResult, IndexInfo, ModelRef, Record
from .store import FILE_NAME, ItemStore
from .writes import Delete, Upsert, plan_upsert

_log = telemetry.get_logger(__name__)
_COMPACT_ABOVE_SLOTS = 4096
"""Below, dead slots cost less than moving the others."""


class LiveIndex:
    """Store and arrays of one index."""

    def __init__(self, name: str, store: ItemStore, config: RetrievalConfig) -> None:
        self.name = name
        self._config = config
        self._store = store
        self._commits: CommitQueue[Upsert | Delete] = CommitQueue(self._commit)
        self._description = store.describe()
        self._closed = False
        self._purge_due = True  # whoever had the store before may have ended between a delete and its purge
        shape = self._description.shape
        code_index = self._code_index(self._description.items)
        capacity = self._description.items + max(1024, self._description.items // 4)
        self.memory = MemoryIndex(Slots(shape, capacity, code_index), shape)
        self.memory.load(store.read_items(), self._description)
        self._purge_log()
        self._gauge()

    @classmethod
    def open(cls, directory: Path, config: RetrievalConfig) -> LiveIndex:
        """The index whose store is in `directory`, ready to be searched.

        Raises:
            StoreCorrupt: the store is not what was written.
        """
        start = time.perf_counter()
        path = directory / FILE_NAME
        store = ItemStore.open(path, checkpoint_bytes=config.checkpoint_bytes, verify=config.verify_on_open)
        try:
            live = cls(directory.name, store, config)
        except BaseException:
            store.close()
            raise
        seconds = time.perf_counter() - start
        telemetry.RECOVERY_SECONDS.labels(live.name).set(seconds)
        _log.info("index loaded", extra={"index": live.name, "items": live.memory.view.live, "seconds": seconds})
        return live

    def close(self, *, sequence: int | None = None) -> None:
        """Let the write under way finish, refuse later ones, and close the store; searches go on in memory.

        Args:
            sequence: close only if this is the newest write.
        Raises:
            IndexChanged: it is not.
        """
        with self._commits.exclusive():
            newest = self._description.sequence
            if sequence is not None and sequence != newest:
                raise IndexChanged(
                    f"index {self.name!r} was written to: its newest write is {newest}, expected {sequence}",
                    field="sequence",
                )
            if not self._closed:
                self._closed = True
                self._store.close()

    def relocate(self, directory: Path, move: Callable[[], None], *, after: int) -> None:
        """Go on in another directory, under its name, while searches go on.

        Args:
            directory: where the store is once `move` has returned.
            move: brings it there.
            after: sequence of a write that this index comes after, so that tokens of that one stay good.
        Raises:
            FailedPrecondition: a snapshot is being taken; nothing changed.
        """
        with self._commits.exclusive():
            self._check_open()
            known = self._description
            self._description = replace(known, sequence=max(known.sequence, after) + 1)
            with self._store.transaction():
                self._store.set_description(self._description)
            self.memory.remove([], sequence=self._description.sequence)
            path = self._store.path
            self._store.close()
            try:
                if path.with_name(f"{path.name}-wal").exists():  # somebody else has the store open
                    raise FailedPrecondition(f"a snapshot of index {self.name!r} is being taken; try again later")
                move()
                path = directory / FILE_NAME
            finally:
                if path.is_file():
                    self._store = ItemStore.open(path, checkpoint_bytes=self._config.checkpoint_bytes, verify=False)
                else:
                    self._closed = True  # an interrupted move, which the next start ends
            self.forget()
            self.name = directory.name
            self._gauge()

    def forget(self) -> None:
        """Take the gauges of an index that is deleted out of the metrics."""
        for gauge in (telemetry.INDEX_ITEMS, telemetry.INDEX_SEQUENCE, telemetry.INDEX_MEMORY_BYTES):
            gauge.remove(self.name)

    @property
    def uid(self) -> str:
        """Identity of the index: another one by the same name has another."""
        return self._description.uid

    def info(self) -> IndexInfo:
        """What this index is."""
        known, view = self._description, self.memory.view
        return IndexInfo(
            name=self.name,
            dimension=known.dimension,
            code_bits=known.code_bits,
            model=known.model,
            items=view.live,
            sequence=view.sequence,
            create_time_s=known.create_time_s,
            backend=view.slots.code_index.name,
            fields=tuple(sorted(known.fields)),
        )

    @property
    def model(self) -> ModelRef | None:
        """The model whose embeddings this index holds, None until a write named one."""
        return self._description.model

    def upsert(
        self, records: Mapping[int, Record], model: ModelRef | None, budget: Budget
    ) -> tuple[int, int, Mapping[int, BowerbirdError]]:
        """Insert or replace `records`, keyed by position in the batch; of equal ids the last good one is stored.

        Returns:
            The sequence of the write, the number of items stored, and the fault of each other position.
        Raises:
            ModelIndexMismatch: the index holds embeddings of another model.
            StorageFull: nothing was written.
        """
        write = Upsert(records, model, budget)
        self._commits.submit(write)
        assert write.after is not None
        telemetry.INDEX_WRITES_TOTAL.labels(self.name, "upsert", "ok").inc(len(write.stored))
        telemetry.INDEX_WRITES_TOTAL.labels(self.name, "upsert", "refused").inc(len(write.faults))
        return write.after.sequence, len(write.stored), write.faults

    def delete(self, chosen: Sequence[str] | Filter, budget: Budget) -> DeleteResult:
        """Delete the items with these ids, or that match this filter; gone from the files on return.

        Raises:
            FilterInvalid: the filter does not fit the fields.
            StorageFull: nothing was deleted.
        """
        write = Delete(chosen, budget)
        self._commits.submit(write)
        telemetry.INDEX_WRITES_TOTAL.labels(self.name, "delete", "ok").inc(write.deleted)
        return DeleteResult(write.sequence, write.deleted)

    def ids_after(self, item_id: str, limit: int) -> list[str]:
        """Up to `limit` stored ids that sort after `item_id`, in order."""
        self._check_open()
        return self._store.ids_after(item_id, limit)

    def copy_store(self, target: Path, on_progress: Callable[[float], None]) -> None:
        """Write a consistent copy of the store to `target` while reads and writes go on.

        Deletes of that time stay in the log, which the copy reads from, and are taken out of it at the end.
        """
        self._check_open()
        try:
            self._store.copy_to(target, on_progress)
        finally:
            with self._commits.exclusive():
                self._purge_log()

    def _commit(self, group: Sequence[Upsert | Delete]) -> None:
        self._check_open()
        if isinstance(group[0], Delete):
            self._commit_delete(group[0])
        else:
            self._commit_upserts([write for write in group if isinstance(write, Upsert)])

    def _commit_upserts(self, group: Sequence[Upsert]) -> None:
        """Plan, store and publish the writes of one group, in order, in one transaction."""
        after, new_ids = self._description, set[str]()
        for write in group:
            after = plan_upsert(write, after, self.memory.__contains__, new_ids, self.name)
        planned = [write for write in group if write.stored]
        if planned:
            self.memory.reserve(sum(len(write.stored) for write in planned))
            start = time.perf_counter()
            with self._store.transaction():
                for write in planned:
                    self._store.put(write.stored)
                self._store.set_description(after)
            telemetry.STORE_COMMIT_SECONDS.labels(self.name).observe(time.perf_counter() - start)
            self._description = after
        for write in planned:
            self._publish(write)
        for write in group:
            write.done = True
        if planned:
            self._settle()

    def _publish(self, write: Upsert) -> None:
        assert write.after is not None
        self.memory.apply(
            [record.item_id for record in write.stored],
            np.stack([record.row for record in write.stored]),
            np.stack([record.code for record in write.stored]),
            [record.fields for record in write.stored],
            kinds=write.after.fields,
            sequence=write.after.sequence,
        )

    def _commit_delete(self, write: Delete) -> None:
        """Delete in a transaction of its own, then take the deleted content out of the log."""
        write.budget.check()
        item_ids = self._choose(write.chosen, write.budget)
        if item_ids:
            before = self._description
            after = with_write(before, items=before.items - len(item_ids), model=before.model, fields=before.fields)
            with self._store.transaction():
                self._store.remove(_while_wanted(item_ids, write.budget))
                self._store.set_description(after)
            self._description = after
            self.memory.remove(item_ids, sequence=after.sequence)
            self._purge_due = True
            self._settle()
        write.deleted, write.sequence, write.done = len(item_ids), self._description.sequence, True

    def _choose(self, chosen: Sequence[str] | Filter, budget: Budget) -> list[str]:
        """The ids of the items to delete that are there, each once."""
        if not isinstance(chosen, Filter):
            return [item_id for item_id in dict.fromkeys(chosen) if item_id in self.memory]
        view = self.memory.view
        matches = match(chosen, view.slots.columns, view.count, budget) & view.alive[: view.count]
        return [view.slots.item_ids[slot] for slot in np.flatnonzero(matches).tolist()]

    def _settle(self) -> None:
        """What a write leaves to do: deleted content in the log, compaction, gauges."""
        self._purge_log()
        view = self.memory.view
        try:
            if view.count > _COMPACT_ABOVE_SLOTS and self.memory.dead_ratio() > self._config.compact_dead_ratio:
                self.memory.compact(self._code_index(view.live))
            elif self._config.backend == "auto" and view.live > self._config.ivf_above_items:
                self.memory.scan_with("faiss-ivf", lambda: self._code_index(view.live))
        except MemoryError as error:  # the write is done, and searches go on: over dead slots, or without an index
            _log.error("no memory to compact the index", extra={"index": self.name, "error": str(error)})
        self._gauge()

    def _purge_log(self) -> None:
        """Take deleted content out of the log. The delete is done whatever comes of this, so a fault is not its own."""
        if not self._purge_due or self._closed:
            return
        try:
            self._purge_due = not self._store.purge_log()  # not while a snapshot reads the log: its end comes here too
        except BowerbirdError as error:
            _log.error("deleted content stays in the log for now", extra={"index": self.name, "error": error.message})

    def _gauge(self) -> None:
        view = self.memory.view
        telemetry.INDEX_ITEMS.labels(self.name).set(view.live)
        telemetry.INDEX_SEQUENCE.labels(self.name).set(view.sequence)
        slot_bytes = view.slots.rows[:1].nbytes + view.slots.codes[:1].nbytes
        telemetry.INDEX_MEMORY_BYTES.labels(self.name).set(slot_bytes * view.count)

    def _code_index(self, items: int) -> CodeIndex:
        config = self._config
        return create_code_index(
            config.backend, items, ivf_above_items=config.ivf_above_items, threads=config.search_threads
        )

    def _check_open(self) -> None:
        if self._closed:
            raise IndexNotFound(f"index {self.name!r} was deleted or this server is stopping", field="index")


def _while_wanted(item_ids: Iterable[str], budget: Budget) -> Iterator[str]:
    """The same ids, for as long as somebody waits."""
    for item_id in item_ids:
        budget.check()
        yield item_id
