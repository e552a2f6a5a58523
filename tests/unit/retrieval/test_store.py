"""The item store: durability, atomicity, and refusal of what is not what was written."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bowerbird.errors import Cancelled, StorageFull, StoreCorrupt
from services.retrieval.description import Description, with_write
from services.retrieval.fields import FieldType
from services.retrieval.items import ModelRef, Record
from services.retrieval.store import ItemStore, read_description

DIMENSION = 40
SECRET = "the-title-that-must-vanish"


def record(number: int, **fields: str | int | float | bool) -> Record:
    rng = np.random.default_rng(number)
    row = rng.standard_normal(DIMENSION).astype(np.float16)
    return Record(f"id-{number:03d}", row, rng.integers(0, 256, 8, np.uint8), fields)


def write(store: ItemStore, *records: Record, items: int) -> None:
    after = with_write(store.describe(), items=items, model=ModelRef("m", "1"), fields={"n": FieldType.INT})
    with store.transaction():
        store.put(records)
        store.set_description(after)


def content(store: ItemStore) -> list[tuple[str, bytes, bytes, dict[str, object]]]:
    return [
        (item_id, row.tobytes(), code.tobytes(), dict(fields))
        for chunk in store.read_items()
        for item_id, row, code, fields in zip(chunk.item_ids, chunk.rows, chunk.codes, chunk.fields, strict=True)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of 40 items, closed."""
    path = tmp_path / "items.db"
    ItemStore.create(path, Description("uid", DIMENSION, 64, create_time_s=1.5))
    store = ItemStore.open(path, checkpoint_bytes=1 << 20)
    write(store, *(record(n, n=n, title=f"title {n}") for n in range(40)), items=40)
    store.close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[ItemStore]:
    store = ItemStore.open(path, checkpoint_bytes=1 << 20)
    yield store
    store.close()


def test_items_come_back_as_written(store: ItemStore) -> None:
    """Ids, vectors, codes, and fields of every type survive; the description counts the write."""
    fields = {"s": "späß\0", "i": 2**63 - 1, "d": 0.1, "whole": 2.0, "b": True}
    write(store, record(99, **fields), items=41)
    known = store.describe()
    assert (known.sequence, known.items, known.model) == (2, 41, ModelRef("m", "1"))
    item_id, row, code, found = content(store)[-1]
    expected = record(99)
    assert (item_id, row, code) == ("id-099", expected.row.tobytes(), expected.code.tobytes())
    assert found == fields
    assert [type(value) for value in found.values()] == [str, int, float, float, bool]


def test_failed_transaction_leaves_no_trace(store: ItemStore) -> None:
    """An error between two writes of a transaction undoes the first."""
    before = content(store), store.describe()
    with pytest.raises(Cancelled), store.transaction():
        store.put([record(0, n=1000), record(50)])
        raise Cancelled("test")
    assert (content(store), store.describe()) == before
    write(store, record(50), items=41)
    assert len(content(store)) == 41


def test_full_disk_is_named_and_the_store_stays_usable(store: ItemStore) -> None:
    """No space: nothing is written, reads go on, and the next write after space returned succeeds."""
    before = content(store)
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as on a full disk
    with pytest.raises(StorageFull, match="disk is full"):
        write(store, *(record(n) for n in range(100, 400)), items=340)
    assert content(store) == before
    store._writer.execute("PRAGMA max_page_count = 1000000")
    write(store, *(record(n) for n in range(100, 400)), items=340)
    assert len(content(store)) == 340


def test_deleted_content_leaves_the_files(store: ItemStore) -> None:
    """After a delete, neither the database nor its log holds the bytes of the item."""
    write(store, record(77, title=SECRET), items=41)
    assert any(SECRET.encode() in file.read_bytes() for file in store.path.parent.iterdir())
    with store.transaction():
        store.remove(["id-077"])
        store.set_description(with_write(store.describe(), items=40, model=None, fields={}))
    assert store.purge_log()
    for file in store.path.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()
        assert record(77).row.tobytes() not in file.read_bytes()


def test_overwritten_content_leaves_the_files_on_close(store: ItemStore) -> None:
    """The former fields of a replaced item are gone once the log is folded in."""
    write(store, record(77, title=SECRET), items=41)
    write(store, record(77, title="new"), items=41)
    store.close()
    assert SECRET.encode() not in store.path.read_bytes()


def test_ids_are_paged_in_order(store: ItemStore) -> None:
    """A page holds the ids that sort after the given one."""
    assert store.ids_after("", 3) == ["id-000", "id-001", "id-002"]
    assert store.ids_after("id-0375", 10) == ["id-038", "id-039"]
    assert store.ids_after("id-039", 10) == []


def test_every_flipped_byte_is_noticed_or_harmless(path: Path, tmp_path: Path) -> None:
    """A damaged store is refused, or still says exactly what was written: never something else."""
    store = ItemStore.open(path, checkpoint_bytes=1 << 20)
    expected = content(store), store.describe()
    store.close()
    raw = path.read_bytes()
    refused = 0
    positions = [*range(100), *range(100, len(raw), 211)]
    for position in positions:
        damaged = tmp_path / f"{position}" / "items.db"
        damaged.parent.mkdir()
        damaged.write_bytes(raw[:position] + bytes([raw[position] ^ 0xFF]) + raw[position + 1 :])
        try:
            opened = ItemStore.open(damaged, checkpoint_bytes=1 << 20)
        except StoreCorrupt as error:
            assert str(damaged) in error.message
            refused += 1
            continue
        try:
            assert (content(opened), opened.describe()) == expected
            assert opened.ids_after("", 100) == [f"id-{n:03d}" for n in range(40)]
        except StoreCorrupt as error:
            assert str(damaged) in error.message
            refused += 1
        finally:
            opened.close()
    assert refused > 10


@pytest.mark.parametrize("keep", [0, 1, 99, 100, 4096, 16384, 16384 + 5, 32768])
def test_truncated_store_is_refused(path: Path, keep: int) -> None:
    """A store cut short is named, not read as a smaller one."""
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreCorrupt, match=r"items\.db"):
        store = ItemStore.open(path, checkpoint_bytes=1 << 20)
        content(store)


def test_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    """Neither text, nor another program's database, nor a store of another version is served."""
    text = tmp_path / "text.db"
    text.write_text("this is no database at all, and long enough to have a header of one hundred bytes " * 3)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    newer = tmp_path / "newer.db"
    shutil.copy(path, newer)
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    for file, reason in ((text, "text.db"), (other, "not a Bowerbird"), (newer, "expected store version 1, found 2")):
        with pytest.raises(StoreCorrupt, match=reason):
            ItemStore.open(file, checkpoint_bytes=1 << 20)
    with pytest.raises(StoreCorrupt, match=r"missing\.db"):
        ItemStore.open(tmp_path / "missing.db", checkpoint_bytes=1 << 20)


def test_missing_items_are_noticed(path: Path) -> None:
    """Fewer items than were written down is damage, even in a sound database."""
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM item WHERE item_id = 'id-007'")
    connection.commit()
    connection.close()
    store = ItemStore.open(path, checkpoint_bytes=1 << 20)
    with pytest.raises(StoreCorrupt, match="expected 40 items, found 39"):
        content(store)
    store.close()


def test_copy_is_consistent_while_writes_go_on(store: ItemStore, tmp_path: Path) -> None:
    """A copy shows the moment it began, however much is written while it is made."""
    before = content(store)
    seen: list[float] = []

    def on_progress(done: float) -> None:
        seen.append(done)
        number = 100 + len(seen)
        write(store, record(number), items=40 + len(seen))

    target = tmp_path / "copy" / "items.db"
    target.parent.mkdir()
    store.copy_to(target, on_progress, step_pages=1)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert read_description(target).items == 40
    copy = ItemStore.open(target, checkpoint_bytes=1 << 20)
    assert content(copy) == before
    copy.close()
    assert len(content(store)) == 40 + len(seen)


def test_purge_does_not_wait_for_a_copy(store: ItemStore, tmp_path: Path) -> None:
    """While a copy reads the log it cannot be emptied; a write that tries is told so and goes on."""
    waited_s: list[float] = []

    def purge(_done: float) -> None:
        if not waited_s:
            write(store, record(50), items=41)
            start = time.monotonic()
            assert not store.purge_log()
            waited_s.append(time.monotonic() - start)

    store.copy_to(tmp_path / "copy.db", purge, step_pages=1)
    assert waited_s[0] < 2  # SQLite's patience with others is 5 s
    assert store.purge_log()


def test_cancelled_copy_ends_with_the_reason(store: ItemStore, tmp_path: Path) -> None:
    """What the progress callback raises comes out, and the store can be written on."""

    def cancel(_done: float) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        store.copy_to(tmp_path / "copy.db", cancel, step_pages=1)
    write(store, record(50), items=41)
    assert store.purge_log()
