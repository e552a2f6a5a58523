"""Snapshot files: whole or not there, and checked on the way back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bowerbird.errors import Cancelled, SnapshotCorrupt, SnapshotNotFound, StorageFull
from services.retrieval import live
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.items import Item
from services.retrieval.snapshots import SnapshotCatalog


def refuse(_done: float) -> None:
    raise Cancelled("enough")


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    return tmp_path / "data" / "snapshots"


def test_cancelled_work_leaves_nothing(
    engine: RetrievalEngine, make_item: Callable[..., Item], snapshots: Path
) -> None:
    """A snapshot or restore that is cancelled has no trace on disk, and the index goes on."""
    engine.upsert_items("pictures", [make_item(n) for n in range(100)])
    with pytest.raises(Cancelled):
        engine.create_snapshot("pictures", refuse)
    assert list(snapshots.iterdir()) == []
    info = engine.create_snapshot("pictures")
    with pytest.raises(Cancelled):
        engine.restore_snapshot(info.snapshot_id, "copy", refuse)
    assert [path.name for path in (snapshots.parent / "indexes").iterdir()] == ["pictures"]
    assert engine.upsert_items("pictures", [make_item(1)]).written == 1


def test_restore_is_cancelled_while_items_are_checked(
    engine: RetrievalEngine, make_item: Callable[..., Item], snapshots: Path
) -> None:
    """Reading millions of items takes longer than copying them; a caller who is gone by then ends it too."""
    engine.upsert_items("pictures", [make_item(1)])
    info, seen = engine.create_snapshot("pictures"), []

    def refuse_later(done: float) -> None:
        seen.append(done)
        if seen.count(done) > 1:  # copied, and now being checked
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        engine.restore_snapshot(info.snapshot_id, "copy", refuse_later)
    assert [path.name for path in (snapshots.parent / "indexes").iterdir()] == ["pictures"]


def test_index_that_cannot_be_opened_leaves_its_name_free(
    engine: RetrievalEngine, snapshots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for another index neither a restore nor a creation leaves files, and both work later."""
    info = engine.create_snapshot("pictures")

    def no_memory(*_args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(live.LiveIndex, "open", no_memory)
        with pytest.raises(MemoryError):
            engine.restore_snapshot(info.snapshot_id, "copy")
        with pytest.raises(MemoryError):
            engine.create_index("other", dimension=4)
    assert [path.name for path in (snapshots.parent / "indexes").iterdir()] == ["pictures"]
    assert engine.restore_snapshot(info.snapshot_id, "copy").name == "copy"
    assert engine.create_index("other", dimension=4).name == "other"


def test_delete_during_a_snapshot_is_purged_after_it(
    engine: RetrievalEngine, make_item: Callable[..., Item], snapshots: Path
) -> None:
    """The log keeps what the snapshot reads; when that is done, deleted content leaves the files of the index."""
    secret = "title-that-must-vanish"
    engine.upsert_items("pictures", [make_item(n, title=f"{secret}-{n}") for n in range(300)])
    files = snapshots.parent / "indexes" / "pictures"

    def held() -> bool:
        return any(secret.encode() in path.read_bytes() for path in files.iterdir())

    def delete(_done: float) -> None:
        engine.delete_items("pictures", item_ids=[f"item-{n:04d}" for n in range(300)])

    assert held()
    info = engine.create_snapshot("pictures", delete)
    assert info.items == 300
    assert not held()
    assert engine.get_index("pictures").items == 0


def test_delete_before_a_kill_is_purged_at_start(
    engine: RetrievalEngine, config: RetrievalConfig, make_item: Callable[..., Item], tmp_path: Path
) -> None:
    """What a snapshot kept in the log when the process was killed leaves the files at the next start."""
    secret, killed = "title-that-must-vanish", tmp_path / "killed"
    engine.upsert_items("pictures", [make_item(1, title=secret)])

    def delete(_done: float) -> None:
        if not killed.exists():
            engine.delete_items("pictures", item_ids=["item-0001"])
            shutil.copytree(config.data_dir, killed)  # what a kill at this moment leaves

    engine.create_snapshot("pictures", delete)

    def held() -> bool:
        return any(secret.encode() in path.read_bytes() for path in (killed / "indexes" / "pictures").iterdir())

    assert held()
    again = RetrievalEngine.open(dataclasses.replace(config, data_dir=killed))
    assert not held()
    assert again.get_index("pictures").items == 0
    again.close()


def test_full_disk_leaves_nothing(engine: RetrievalEngine, snapshots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a directory or its files is StorageFull."""

    def no_space(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, os.strerror(28))

    info = engine.create_snapshot("pictures")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", no_space)
        with pytest.raises(StorageFull, match="Free space"):
            engine.create_snapshot("pictures")
        with pytest.raises(StorageFull):
            engine.restore_snapshot(info.snapshot_id, "copy")
        with pytest.raises(StorageFull):
            engine.create_index("other", dimension=4)
    assert [path.name for path in snapshots.iterdir()] == [info.snapshot_id]


def test_damaged_snapshots_are_named_and_can_be_removed(engine: RetrievalEngine, snapshots: Path) -> None:
    """Missing items, a damaged description and changed bytes are refused; each can be deleted."""
    missing, broken, changed = (engine.create_snapshot("pictures").snapshot_id for _ in range(3))
    (snapshots / missing / "items.db").unlink()
    (snapshots / broken / "snapshot.json").write_text('{"snapshot_id": 1}')
    with (snapshots / changed / "items.db").open("ab") as file:
        file.write(b"\0")
    for snapshot_id, name in ((missing, "items.db"), (broken, "snapshot.json"), (changed, "items.db")):
        with pytest.raises(SnapshotCorrupt, match=f"{snapshot_id}/{name}"):
            engine.restore_snapshot(snapshot_id, "copy")
    assert {info.snapshot_id for info in engine.list_snapshots()} == {missing, changed}
    for snapshot_id in (missing, broken, changed):
        engine.delete_snapshot(snapshot_id)
    assert list(snapshots.iterdir()) == []


def test_snapshot_with_a_foreign_store_is_refused(engine: RetrievalEngine, snapshots: Path) -> None:
    """A checksum that fits does not make a store of something else."""

    snapshot_id = engine.create_snapshot("pictures").snapshot_id
    noise = b"not a database" * 1000
    (snapshots / snapshot_id / "items.db").write_bytes(noise)
    sidecar = snapshots / snapshot_id / "snapshot.json"
    known = json.loads(sidecar.read_text()) | {"sha256": hashlib.sha256(noise).hexdigest(), "size_bytes": len(noise)}
    sidecar.write_text(json.dumps(known))
    with pytest.raises(SnapshotCorrupt, match="no sound store"):
        engine.restore_snapshot(snapshot_id, "copy")
    assert [info.name for info in engine.list_indexes()] == ["pictures"]


def test_snapshot_ids_are_no_paths(tmp_path: Path) -> None:
    """Nothing outside the directory can be named."""
    (tmp_path / "outside").mkdir()
    catalog = SnapshotCatalog(tmp_path / "snapshots")
    for name in ("../outside", "..", ".", "", "/etc", "a/b"):
        with pytest.raises(SnapshotNotFound):
            catalog.delete(name)
    assert (tmp_path / "outside").is_dir()
