"""The arrays in memory: what a view shows never changes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from services.retrieval.codes import NativeCodes
from services.retrieval.fields import FieldType
from services.retrieval.index import MemoryIndex, Slots
from services.retrieval.items import Shape

SHAPE = Shape(4, 64)
KINDS = {"n": FieldType.INT, "s": FieldType.STRING}


@pytest.fixture
def memory() -> MemoryIndex:
    """An empty index with room for two items."""
    return MemoryIndex(Slots(SHAPE, 2, NativeCodes()), SHAPE)


def put(memory: MemoryIndex, *numbers: int, ids: str = "id-{}", sequence: int = 1) -> None:
    count = len(numbers)
    rows = np.array(numbers, np.float16).repeat(4).reshape(count, 4)
    codes = np.array(numbers, np.uint8).repeat(8).reshape(count, 8)
    fields = [{"n": number, "s": f"text {number % 2}"} for number in numbers]
    memory.apply([ids.format(n) for n in numbers], rows, codes, fields, kinds=KINDS, sequence=sequence)


def test_view_stays_while_the_index_grows(memory: MemoryIndex) -> None:
    """A search that began before a write sees neither new items nor moved arrays."""
    put(memory, 1, 2)
    view = memory.view
    for number in range(3, 40):
        put(memory, number, sequence=number)
    assert (view.count, view.live, view.sequence) == (2, 2, 1)
    assert view.mask is None
    assert view.slots.rows[: view.count, 0].tolist() == [1, 2]
    assert view.fields(1, None) == {"n": 2, "s": "text 0"}
    assert memory.view.count == 39


def test_replaced_item_is_in_exactly_one_slot(memory: MemoryIndex) -> None:
    """The old view shows the old version, the new view the new one."""
    put(memory, 1, 2)
    before = memory.view
    memory.apply(
        ["id-1"], np.full((1, 4), 9, np.float16), np.zeros((1, 8), np.uint8), [{"n": 9}], kinds=KINDS, sequence=2
    )
    after, (slot,) = memory.locate(["id-1"])
    assert slot == 2
    assert after.fields(slot, None) == {"n": 9}
    assert (before.live, after.live, after.count) == (2, 2, 3)
    assert before.mask is None
    assert np.unpackbits(after.mask, bitorder="little")[:3].tolist() == [0, 1, 1]


def test_removed_item_is_gone_from_new_views_only(memory: MemoryIndex) -> None:
    """A delete clears a bit in a copy of the bitmap."""
    put(memory, 1, 2, 3)
    before = memory.view
    memory.remove(["id-2"], sequence=2)
    assert "id-2" not in memory
    assert before.alive[:3].all()
    assert memory.view.alive[:3].tolist() == [True, False, True]
    put(memory, 4)
    assert memory.view.alive[:4].tolist() == [True, False, True, True]


def test_compaction_drops_dead_slots_and_keeps_the_rest(memory: MemoryIndex) -> None:
    """Ids, vectors and fields survive in order; an old view still reads the old arrays."""
    put(memory, *range(10))
    memory.remove([f"id-{n}" for n in range(0, 10, 2)], sequence=2)
    old = memory.view
    assert memory.dead_ratio() == 0.5
    memory.compact(NativeCodes())
    view, slots = memory.locate([f"id-{n}" for n in range(10)])
    assert slots == [None, 0, None, 1, None, 2, None, 3, None, 4]
    assert (view.count, view.live, view.mask, view.sequence) == (5, 5, None, 2)
    assert view.slots.rows[:5, 0].tolist() == [1, 3, 5, 7, 9]
    assert [view.fields(slot, ["n", "s", "absent"]) for slot in (0, 4)] == [
        {"n": 1, "s": "text 1"},
        {"n": 9, "s": "text 1"},
    ]
    assert old.fields(2, None) == {"n": 2, "s": "text 0"}
    put(memory, 11)
    assert memory.view.live == 6


def test_compaction_holds_two_copies_and_not_three() -> None:
    """Its memory is the new arrays: nothing of their size is made on the way."""
    shape, count = Shape(1024, 64), 1000
    memory = MemoryIndex(Slots(shape, count, NativeCodes()), shape)
    rows = np.arange(count, dtype=np.float16).repeat(1024).reshape(count, 1024)
    ids = [f"id-{n}" for n in range(count)]
    memory.apply(ids, rows, np.zeros((count, 8), np.uint8), [{}] * count, kinds={}, sequence=1)
    memory.remove(ids[::2], sequence=2)
    tracemalloc.start()
    memory.compact(NativeCodes())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    slots = memory.view.slots
    assert slots.rows[: memory.view.count, 0].tolist() == rows[1::2, 0].tolist()
    assert peak_bytes < slots.rows.nbytes + 500 * 1024
