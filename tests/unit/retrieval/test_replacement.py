"""An index that takes the place of another does so wholly, whenever the process is killed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bowerbird.errors import Cancelled, FailedPrecondition, IndexNotFound, Internal
from services.retrieval import catalog, disk
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.items import Item
from tests.unit.retrieval.conftest import CODE_BITS, DIMENSION


@pytest.fixture
def prepared(engine: RetrievalEngine, make_item: Callable[..., Item]) -> RetrievalEngine:
    """Three items in `pictures`, two others in `next`."""
    engine.upsert_items("pictures", [make_item(n) for n in range(3)])
    engine.create_index("next", dimension=DIMENSION, code_bits=CODE_BITS)
    engine.upsert_items("next", [make_item(n, f"new-{n}") for n in range(2)])
    return engine


def list_ids(engine: RetrievalEngine, index: str = "pictures") -> list[str]:
    return [item.item_id for item in engine.list_items(index)[0]]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after_renames", range(4))
def test_a_kill_at_any_step_leaves_the_one_or_the_other(
    prepared: RetrievalEngine,
    config: RetrievalConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_renames: int,
) -> None:
    """The files as they are after each rename are a whole old index beside its successor, or the successor alone."""
    renamed, rename_directory = 0, Path.rename

    def rename(self: Path, target: Path) -> Path:
        nonlocal renamed
        if renamed == after_renames:
            shutil.copytree(config.data_dir, tmp_path / "found")  # what the next process will find
            raise Killed
        renamed += 1
        return rename_directory(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    if after_renames < 3:
        with pytest.raises(Killed):
            prepared.replace_index("pictures", "next", sequence=1)
    else:
        prepared.replace_index("pictures", "next", sequence=1)
        shutil.copytree(config.data_dir, tmp_path / "found")
    monkeypatch.undo()

    again = RetrievalEngine.open(RetrievalConfig(data_dir=tmp_path / "found"))
    names = [info.name for info in again.list_indexes()]
    if after_renames == 0:
        assert (names, list_ids(again)) == (["next", "pictures"], ["item-0000", "item-0001", "item-0002"])
    else:
        assert (names, list_ids(again)) == (["pictures"], ["new-0", "new-1"])
    assert again.upsert_items(
        "pictures", [Item("late", again.get_item("pictures", list_ids(again)[0], include_vectors=True).embedding, None)]
    ).sequence  # type: ignore[arg-type]
    assert sorted(path.name for path in (tmp_path / "found" / "indexes").iterdir()) == names
    again.close()


def test_a_failed_replacement_leaves_both(
    prepared: RetrievalEngine, make_item: Callable[..., Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk refuses the first rename, both indexes are read and written as before."""
    monkeypatch.setattr(catalog, "move_directory", refuse)
    with pytest.raises(Internal, match="refused"):
        prepared.replace_index("pictures", "next", sequence=1)
    monkeypatch.undo()

    assert list_ids(prepared) == ["item-0000", "item-0001", "item-0002"] and list_ids(prepared, "next") == [
        "new-0",
        "new-1",
    ]
    for name in ("pictures", "next"):
        assert prepared.upsert_items(name, [make_item(9)]).written == 1
    assert prepared.replace_index("pictures", "next", sequence=prepared.get_index("pictures").sequence).items == 3


@pytest.mark.parametrize("may_undo", [True, False])
def test_no_write_is_lost_after_a_replacement_that_failed_halfway(
    prepared: RetrievalEngine,
    config: RetrievalConfig,
    make_item: Callable[..., Item],
    monkeypatch: pytest.MonkeyPatch,
    may_undo: bool,
) -> None:
    """When the disk refuses after the first rename, it is undone; where even that fails, no write is acknowledged."""

    def move(source: Path, target: Path) -> None:
        if source.name.endswith(catalog._SUCCESSOR_SUFFIX) and not may_undo:
            raise OSError("refused")
        disk.move_directory(source, target)

    def refuse_removal(_path: Path) -> None:
        raise OSError("refused")

    monkeypatch.setattr(catalog, "move_directory", move)
    monkeypatch.setattr(catalog, "remove_directory", refuse_removal)
    with pytest.raises(Internal, match="refused"):
        prepared.replace_index("pictures", "next", sequence=1)
    monkeypatch.undo()

    if may_undo:
        assert prepared.upsert_items("pictures", [make_item(7, "written-later")]).written == 1
        assert prepared.upsert_items("next", [make_item(8)]).written == 1
    else:
        with pytest.raises(IndexNotFound):
            prepared.upsert_items("pictures", [make_item(7, "written-later")])
    prepared.close()
    again = RetrievalEngine.open(config)
    assert [info.name for info in again.list_indexes()] == (["next", "pictures"] if may_undo else ["pictures"])
    assert ("written-later" in list_ids(again)) == may_undo
    again.close()


def refuse(source: Path, target: Path) -> None:
    raise OSError("refused")


def test_a_successor_that_is_being_copied_waits(prepared: RetrievalEngine, make_item: Callable[..., Item]) -> None:
    """While a snapshot reads the successor its files are not moved; afterwards they are."""
    prepared.upsert_items("next", [make_item(n) for n in range(400)])
    entered, go_on = threading.Event(), threading.Event()

    def hold(_done: float) -> None:
        entered.set()
        if not go_on.wait(10):
            raise Cancelled("nobody lets the snapshot go on")

    copying = threading.Thread(target=prepared.create_snapshot, args=("next", hold))
    copying.start()
    assert entered.wait(10)
    with pytest.raises(FailedPrecondition, match="snapshot of index 'next'"):
        prepared.replace_index("pictures", "next", sequence=1)
    assert len(list_ids(prepared)) == 3
    go_on.set()
    copying.join(10)

    assert prepared.replace_index("pictures", "next", sequence=1).items == 402
    assert prepared.list_snapshots("next")[0].items == 402


def test_names_of_successors_are_no_names_of_indexes() -> None:
    """Nobody can create an index that a start would take for an unfinished replacement."""
    from services.retrieval.items import check_index_name

    with pytest.raises(Exception, match="name"):
        check_index_name(f"pictures{catalog._SUCCESSOR_SUFFIX}")
    assert not catalog._SUCCESSOR_SUFFIX.startswith(disk.PARTIAL_PREFIX)
