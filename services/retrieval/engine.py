"""The retrieval engine: indexes of typed items, durable writes, exact filters, search by vector and by item.

Legend: N items, Q queries, D dimensions, W = code bits / 8 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bowerbird.errors import ArgumentInvalid, BowerbirdError, ItemNotFound
from bowerbird.vectors import CodeArray, FloatArray

from . import pages
from .budget import Budget
from .catalog import IndexCatalog
from .config import RetrievalConfig
from .filters import Filter, match
from .index import View
from .items import (
    MAX_ITEMS_A_WRITE,
    DeleteResult,
    Hit,
    IndexInfo,
    Item,
    ModelRef,
    SearchParams,
    SearchResult,
    Shape,
    SnapshotInfo,
    UpsertResult,
    check_codes,
    check_embeddings,
    check_items,
)
from .live import LiveIndex
from .ranking import Plan, rank
from .snapshots import Progress

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def _ignore(_done: float) -> None:
    """Progress that nobody asked for."""


class RetrievalEngine:
    """All indexes of one data directory. Every method may be called from any thread."""

    def __init__(self, config: RetrievalConfig) -> None:
        """
        Take the data directory; `load` must follow.

        Raises:
            ConfigInvalid: another process uses the directory.
        """
        self._config = config
        self._catalog = IndexCatalog(config)

    @classmethod
    def open(cls, config: RetrievalConfig) -> RetrievalEngine:
        """An engine that is loaded."""
        engine = cls(config)
        try:
            engine.load()
        except BaseException:
            engine.close()
            raise
        return engine

    def load(self) -> None:
        """Read every index into memory, once; until then other methods raise NotReady.

        Raises:
            StoreCorrupt: a store is not what was written; its file is named.
        """
        self._catalog.load()

    def close(self) -> None:
        """Finish writes under way, close the stores and give the data directory back."""
        self._catalog.close()

    # ------------------------------------------------------------------------------------------------- indexes

    def create_index(
        self, name: str, *, dimension: int, code_bits: int = 0, model: ModelRef | None = None
    ) -> IndexInfo:
        """The new index, or the one of this name if it has the same shape and model.

        Raises:
            ArgumentInvalid: the name or shape is not allowed.
            IndexExists: there is one of this name that differs.
        """
        return self._catalog.create(name, Shape(dimension, code_bits), model).info()

    def get_index(self, name: str) -> IndexInfo:
        """What the index of this name is. Raises IndexNotFound."""
        return self._catalog[name].info()

    def list_indexes(self) -> list[IndexInfo]:
        """All indexes by name."""
        return [live.info() for _, live in sorted(self._catalog.indexes.items())]

    def delete_index(self, name: str) -> None:
        """Remove an index and its files; its snapshots stay. Raises IndexNotFound."""
        self._catalog.delete(name)

    def replace_index(self, name: str, by: str, *, sequence: int) -> IndexInfo:
        """The index `by` under the name of index `name`, which is deleted; searches see the one or the other.

        Args:
            sequence: newest write of `name` that `by` was made from.
        Raises:
            IndexNotFound: there is no such index.
            IndexChanged: there is a newer write; nothing was done.
        """
        return self._catalog.replace(name, by, sequence).info()

    # -------------------------------------------------------------------------------------------------- writes

    def upsert_items(
        self,
        index: str,
        items: Mapping[int, Item] | Sequence[Item],
        model: ModelRef | None = None,
        *,
        faults: Mapping[int, BowerbirdError] | None = None,
        budget: Budget = Budget.UNLIMITED,
    ) -> UpsertResult:
        """Insert or replace items; those at fault are named, the others written. On disk on return.

        Of equal ids in one batch the last good one is stored. The first write that names a model binds the index to
        it; a field keeps the type it was first written with.

        Args:
            items: in order, or keyed by their position in the batch.
            faults: positions of the batch that could not be read; with the items 1 to 1000.
        Raises:
            ArgumentInvalid: no items, or too many.
            IndexNotFound: there is no such index.
            ModelIndexMismatch: the index holds embeddings of another model.
            StorageFull: nothing was written.
        """
        live = self._catalog[index]
        batch = items if isinstance(items, Mapping) else dict(enumerate(items))
        known = dict(faults or {})
        if not 1 <= len(batch) + len(known) <= MAX_ITEMS_A_WRITE:
            raise ArgumentInvalid(
                f"items: expected 1 to {MAX_ITEMS_A_WRITE}, got {len(batch) + len(known)}", field="items"
            )
        records, unfit = check_items(batch, live.memory.shape)
        sequence, written, refused = live.upsert(records, model, budget)
        return UpsertResult(sequence, written, {**known, **unfit, **refused})

    def delete_items(
        self,
        index: str,
        *,
        item_ids: Sequence[str] = (),
        filter: Filter | None = None,  # noqa: A002
        budget: Budget = Budget.UNLIMITED,
    ) -> DeleteResult:
        """Delete items by id or by filter; absent ids are no error. Gone from disk on return.

        Raises:
            ArgumentInvalid: both or neither of ids and filter, or a filter that matches everything.
            IndexNotFound: there is no such index.
            FilterInvalid: the filter does not fit the fields.
        """
        live = self._catalog[index]
        if bool(item_ids) == (filter is not None):
            raise ArgumentInvalid("expected either item_ids or filter, got both or neither", field="item_ids")
        if filter is None:
            return live.delete(item_ids, budget)
        if not filter:
            raise ArgumentInvalid(
                "a filter without clauses matches every item; delete the index instead", field="filter"
            )
        return live.delete(filter, budget)

    # --------------------------------------------------------------------------------------------------- reads

    def get_item(self, index: str, item_id: str, *, include_vectors: bool = False) -> Item:
        """One item; its embedding as it is stored, float16. Raises IndexNotFound, ItemNotFound."""
        view, slot = self._locate(self._catalog[index], item_id)
        slots, fields = view.slots, view.fields(slot, None)
        if not include_vectors:
            return Item(item_id, fields=fields)
        code = slots.codes[slot].copy() if slots.codes.shape[1] else None
        return Item(item_id, slots.rows[slot].copy(), code, fields)

    def list_items(
        self,
        index: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        filter: Filter | None = None,  # noqa: A002
        budget: Budget = Budget.UNLIMITED,
    ) -> tuple[list[Item], str]:
        """A page of items by id, without vectors, and the token of the next page, empty at the end.

        An item that is there throughout is listed once, whatever is written between pages.

        Args:
            page_size: 0: 100; more than 1000 is 1000. A page of long texts ends earlier, so that it fits a message.
        Raises:
            PageTokenInvalid: not a token of ours, or of another index or filter.
            FilterInvalid: the filter does not fit the fields.
        """
        live = self._catalog[index]
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        last = pages.verify(self._catalog.page_key, live.uid, filter, page_token) if page_token else ""
        matched = live.memory.view
        keep = match(filter, matched.slots.columns, matched.count, budget) if filter else None
        found: list[Item] = []
        while len(found) <= size:
            budget.check()
            item_ids = live.ids_after(last, MAX_PAGE_SIZE + 1)
            if not item_ids:
                break
            last = item_ids[-1]
            view, slots = live.memory.locate(item_ids)
            if filter and view is not matched:
                matched, keep = view, match(filter, view.slots.columns, view.count, budget)
            found += [
                Item(item_id, fields=view.fields(slot, None))
                for item_id, slot in zip(item_ids, slots, strict=True)
                if slot is not None and (keep is None or keep[slot])
            ]
        count = pages.count_fitting(found, size)
        if count == len(found):
            return found, ""
        return found[:count], pages.sign(self._catalog.page_key, live.uid, filter, found[count - 1].item_id)

    def search(
        self,
        index: str,
        embeddings: FloatArray,
        codes: CodeArray | None = None,
        params: SearchParams | None = None,
        *,
        budget: Budget = Budget.UNLIMITED,
    ) -> SearchResult:
        """The items nearest to each query vector.

        Args:
            embeddings: (Q, D) float32 or float16, finite, unit length; Q from 1 to the configured number.
            codes: (Q, W) uint8; None: every row is scored.
        Raises:
            VectorInvalid: a vector does not fit the index.
            FilterInvalid: the filter does not fit the fields.
            SequenceNotReached, DeadlineExceeded, Cancelled: the budget ended.
        """
        params = params or SearchParams()
        live = self._catalog[index]
        shape = live.memory.shape
        queries = check_embeddings(embeddings, shape, field="embedding")
        if not 1 <= len(queries) <= self._config.max_batch_queries:
            raise ArgumentInvalid(
                f"expected 1 to {self._config.max_batch_queries} queries, got {len(queries)}", field="embeddings"
            )
        if codes is not None:
            codes = check_codes(codes, shape, field="code")
            if len(codes) != len(queries):
                raise ArgumentInvalid(f"expected {len(queries)} codes, one a query, got {len(codes)}", field="codes")
        self._wait(live, params, budget)
        return self._rank(live, live.memory.view, queries, codes, params, budget)

    def search_item(
        self, index: str, item_id: str, params: SearchParams | None = None, *, budget: Budget = Budget.UNLIMITED
    ) -> SearchResult:
        """The items nearest to a stored one, which is itself left out.

        Raises:
            ItemNotFound: there is no such item; else as `search`.
        """
        params = params or SearchParams()
        live = self._catalog[index]
        self._wait(live, params, budget)
        view, slot = self._locate(live, item_id)
        query = view.slots.rows[slot : slot + 1].astype(np.float32)
        codes = view.slots.codes[slot : slot + 1] if live.memory.shape.code_bits else None
        return self._rank(live, view, query, codes, params, budget, leave_out=slot)

    # ----------------------------------------------------------------------------------------------- snapshots

    def create_snapshot(self, index: str, on_progress: Progress = _ignore) -> SnapshotInfo:
        """A consistent copy of an index, while reads and writes go on; what `on_progress` raises ends the work."""
        live = self._catalog[index]
        return self._catalog.snapshots.create(index, live.copy_store, on_progress)

    def list_snapshots(self, index: str = "") -> list[SnapshotInfo]:
        """Snapshots of one index, or of all, newest first."""
        return self._catalog.snapshots.list(index)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot. Raises SnapshotNotFound."""
        self._catalog.snapshots.delete(snapshot_id)

    def restore_snapshot(self, snapshot_id: str, target_index: str, on_progress: Progress = _ignore) -> IndexInfo:
        """A new index out of a snapshot, beside the live ones; what `on_progress` raises ends the work.

        Raises:
            SnapshotNotFound: there is none of this id.
            IndexExists: `target_index` is taken.
            SnapshotCorrupt: the snapshot is not what was written; its file is named and nothing is left behind.
            StorageFull: no space; nothing is left behind.
        """
        info = self._catalog.restore(snapshot_id, target_index, on_progress).info()
        on_progress(1.0)
        return info

    # ------------------------------------------------------------------------------------------------ internal

    def _locate(self, live: LiveIndex, item_id: str) -> tuple[View, int]:
        view, (slot,) = live.memory.locate([item_id])
        if slot is None:
            raise ItemNotFound(f"index {live.name!r} has no item {item_id!r}", field="item_id")
        return view, slot

    def _wait(self, live: LiveIndex, params: SearchParams, budget: Budget) -> None:
        wanted = params.min_sequence
        if live.memory.view.sequence < wanted:
            what = f"min_sequence: write {wanted} is not visible, the newest is {live.memory.view.sequence}"
            budget.wait_until(live.memory.changed, lambda: live.memory.view.sequence >= wanted, what)

    def _rank(
        self,
        live: LiveIndex,
        view: View,
        queries: FloatArray,
        codes: CodeArray | None,
        params: SearchParams,
        budget: Budget,
        *,
        leave_out: int | None = None,
    ) -> SearchResult:
        candidates = max(params.rerank or self._config.rerank, params.top_k)
        plan = Plan(
            params.top_k, candidates, params.exact, params.filter, leave_out, threads=self._config.search_threads
        )
        ranked = rank(view, queries, codes, plan, budget)
        names = None if "*" in params.return_fields else list(params.return_fields)
        item_ids = view.slots.item_ids
        hits: list[list[Hit]] = []
        for found in ranked:
            budget.check()
            hits.append([Hit(item_ids[slot], score, view.fields(slot, names)) for slot, score in found])
        return SearchResult(hits, view.sequence, live.model)
