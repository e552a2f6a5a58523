"""The searchable arrays of one index in memory: append-only slots, tombstones, copy-on-grow.

Legend: S slots in use, dead ones included; D dimensions; W bytes a code.

Writers take turns (the caller holds the write lock); searches never wait. A search takes the current `View` and reads
only its slots. Nothing a view shows ever changes: new items go to slots behind it, grown arrays are copies, and the
bitmap of live slots is copied before a bit is cleared. Replacing an item kills its slot and appends a new one, both
in one published view, so that no search sees both or neither.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bowerbird.vectors import CodeArray, HalfArray

from .codes import CodeIndex
from .description import Description
from .fields import BoolArray, Column, FieldType, FieldValue, SlotArray
from .items import Shape
from .store import Chunk

_FIRST_CAPACITY = 1024


class Slots:
    """The arrays. Attributes are replaced by larger copies, never written below what a view shows.

    Attributes:
        rows: (capacity, D) float16.
        codes: (capacity, W) uint8.
        item_ids: one a slot in use.
        columns: typed fields by name; replaced as a whole when a field is added.
        code_index: what scans `codes`.
    """

    def __init__(self, shape: Shape, capacity: int, code_index: CodeIndex) -> None:
        self.rows: HalfArray = np.empty((capacity, shape.dimension), np.float16)
        self.codes: CodeArray = np.empty((capacity, shape.code_bytes), np.uint8)
        self.item_ids: list[str] = []
        self.columns: Mapping[str, Column] = {}
        self.code_index = code_index

    @property
    def capacity(self) -> int:
        """Slots that there is room for."""
        return len(self.rows)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` slots."""
        if capacity <= self.capacity:
            return
        capacity = max(capacity, 2 * self.capacity)  # untouched memory costs nothing until it is written
        used = len(self.item_ids)
        rows = np.empty((capacity, self.rows.shape[1]), np.float16)
        rows[:used] = self.rows[:used]
        codes = np.empty((capacity, self.codes.shape[1]), np.uint8)
        codes[:used] = self.codes[:used]
        for column in self.columns.values():
            column.reserve(capacity)
        self.rows, self.codes = rows, codes

    def append(
        self, item_ids: Sequence[str], rows: HalfArray, codes: CodeArray, fields: Sequence[Mapping[str, FieldValue]]
    ) -> int:
        """Write items behind all others; returns the first slot."""
        start = len(self.item_ids)
        stop = start + len(item_ids)
        self.reserve(stop)
        self.rows[start:stop] = rows
        self.codes[start:stop] = codes
        for name in set[str]().union(*fields):  # by field, not by item: half of the time of a start
            slots = [slot for slot, named in enumerate(fields, start) if name in named]
            self.columns[name].put(slots, [named[name] for named in fields if name in named])
        self.item_ids.extend(item_ids)
        return start

    def add_columns(self, kinds: Mapping[str, FieldType]) -> None:
        """Make sure that there is a column for each of these fields."""
        new = {name: Column(kind, self.capacity) for name, kind in kinds.items() if name not in self.columns}
        if new:
            self.columns = {**self.columns, **new}


@dataclass(frozen=True)
class View:
    """What one search sees: the first `count` slots, of which `live` are alive, after write `sequence`.

    Attributes:
        alive: (capacity or more,) bool; false where the slot was deleted or replaced.
    """

    slots: Slots
    count: int
    live: int
    alive: BoolArray
    sequence: int

    @cached_property
    def mask(self) -> CodeArray | None:
        """Packed bits of the live slots, little bit order; None if all are."""
        if self.live == self.count:
            return None
        return np.packbits(self.alive[: self.count], bitorder="little")

    def fields(self, slot: int, names: Sequence[str] | None) -> dict[str, FieldValue]:
        """Values of the fields `names` (None: all) that the item at `slot` has."""
        columns = self.slots.columns
        found = {}
        for name in columns if names is None else names:
            column = columns.get(name)
            value = None if column is None else column.get(slot)
            if value is not None:
                found[name] = value
        return found


class MemoryIndex:
    """The current view, and the one way to change it."""

    def __init__(self, slots: Slots, shape: Shape, *, sequence: int = 0) -> None:
        self.shape = shape
        self.changed = threading.Condition()
        self._slot_of: dict[str, int] = {}
        self._view = View(slots, 0, 0, np.ones(slots.capacity, np.bool_), sequence)

    @property
    def view(self) -> View:
        """What a search that begins now sees."""
        return self._view

    def locate(self, item_ids: Iterable[str]) -> tuple[View, list[int | None]]:
        """The current view, and the slot in it of each id, None if absent."""
        with self.changed:
            return self._view, [self._slot_of.get(item_id) for item_id in item_ids]

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._slot_of

    def reserve(self, extra: int) -> None:
        """Take the memory that a write will need, so that nothing can fail once it is on disk."""
        slots = self._view.slots
        slots.reserve(len(slots.item_ids) + extra)

    def load(self, chunks: Iterable[Chunk], description: Description) -> None:
        """Fill an empty index with what the store holds."""
        slots = self._view.slots
        slots.add_columns(description.fields)
        for chunk in chunks:
            slots.append(chunk.item_ids, chunk.rows, chunk.codes, chunk.fields)
        count = len(slots.item_ids)
        with self.changed:
            self._slot_of = dict(zip(slots.item_ids, range(count), strict=True))
            self._view = View(slots, count, count, np.ones(slots.capacity, np.bool_), description.sequence)
        slots.code_index.refresh(slots.codes[:count])

    def apply(
        self,
        item_ids: Sequence[str],
        rows: HalfArray,
        codes: CodeArray,
        fields: Sequence[Mapping[str, FieldValue]],
        *,
        kinds: Mapping[str, FieldType],
        sequence: int,
    ) -> None:
        """Publish one write: all its items inserted or replaced, seen together or not at all.

        Args:
            kinds: types of all fields of the index.
        """
        slots, count = self._view.slots, self._view.count
        slots.add_columns(kinds)
        start = slots.append(item_ids, rows, codes, fields)
        stop = start + len(item_ids)
        dead = [self._slot_of[item_id] for item_id in item_ids if item_id in self._slot_of]
        with self.changed:
            self._slot_of.update(zip(item_ids, range(start, stop), strict=True))
            self._publish(stop, self._view.live + (stop - count) - len(dead), dead, sequence)
        slots.code_index.refresh(slots.codes[:stop])

    def remove(self, item_ids: Sequence[str], *, sequence: int) -> None:
        """Publish one delete of items that are there, each named once."""
        dead = [self._slot_of[item_id] for item_id in item_ids]
        with self.changed:
            for item_id in item_ids:
                del self._slot_of[item_id]
            self._publish(self._view.count, self._view.live - len(dead), dead, sequence)

    def _publish(self, count: int, live: int, dead: Sequence[int], sequence: int) -> None:
        slots, alive = self._view.slots, self._view.alive
        if dead or len(alive) < slots.capacity:
            alive = np.ones(max(len(alive), slots.capacity), np.bool_)
            alive[: len(self._view.alive)] = self._view.alive
            alive[dead] = False
        self._view = View(slots, count, live, alive, sequence)
        self.changed.notify_all()

    def scan_with(self, name: str, create: Callable[[], CodeIndex]) -> None:
        """Change what scans the codes, unless it is called `name` already."""
        view = self._view
        if view.slots.code_index.name != name:
            view.slots.code_index = create()
            view.slots.code_index.refresh(view.slots.codes[: view.count])

    def dead_ratio(self) -> float:
        """Fraction of slots that hold nothing any more."""
        return 1.0 - self._view.live / self._view.count if self._view.count else 0.0

    def compact(self, code_index: CodeIndex) -> None:
        """Move the live items to new arrays; searches under way keep the old ones until they end."""
        old = self._view
        keep: SlotArray = np.flatnonzero(old.alive[: old.count])
        slots = Slots(self.shape, max(_FIRST_CAPACITY, len(keep) + len(keep) // 2), code_index)
        for source, target in ((old.slots.rows, slots.rows), (old.slots.codes, slots.codes)):
            np.take(source, keep, axis=0, out=target[: len(keep)], mode="clip")  # any other mode makes a third copy
        slots.item_ids = [old.slots.item_ids[slot] for slot in keep.tolist()]
        slots.columns = {name: column.take(keep) for name, column in old.slots.columns.items()}
        for column in slots.columns.values():
            column.reserve(slots.capacity)
        slot_of = {item_id: slot for slot, item_id in enumerate(slots.item_ids)}
        with self.changed:
            self._slot_of = slot_of
            self._view = View(slots, len(keep), len(keep), np.ones(slots.capacity, np.bool_), old.sequence)
        code_index.refresh(slots.codes[: len(keep)])
