"""The engine without a wire: concurrency, restarts, refusals."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bowerbird.errors import (
    Cancelled,
    ConfigInvalid,
    DeadlineExceeded,
    IndexNotFound,
    NotReady,
    SequenceNotReached,
    StoreCorrupt,
    VectorInvalid,
)
from services.retrieval import live
from services.retrieval.budget import Budget
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.filters import Clause, Filter, Op
from services.retrieval.items import Item, ModelRef, SearchParams

MakeItem = Callable[..., Item]


def test_restart_finds_everything(engine: RetrievalEngine, config: RetrievalConfig, make_item: MakeItem) -> None:
    """Items, model, fields and sequence come back, and writing goes on where it stopped."""
    engine.upsert_items("pictures", [make_item(n, style="noto", n=n) for n in range(50)], ModelRef("m", "1"))
    engine.delete_items("pictures", item_ids=["item-0003"])
    before = engine.get_index("pictures")
    query = make_item(7)
    found = engine.search("pictures", query.embedding[None], query.code[None])
    engine.close()
    again = RetrievalEngine.open(config)
    assert again.get_index("pictures") == before
    assert again.search("pictures", query.embedding[None], query.code[None]) == found
    assert again.upsert_items("pictures", [make_item(3)], ModelRef("m", "1")).sequence == before.sequence + 1
    again.close()


def test_new_data_directory_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every directory that got an entry is synced, or a power loss could take acknowledged writes away by name."""
    synced: set[Path] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    data = tmp_path / "new" / "data"
    engine = RetrievalEngine.open(RetrievalConfig(data_dir=data))
    assert {tmp_path, tmp_path / "new", data} <= synced
    engine.create_index("pictures", dimension=4)
    assert data / "indexes" in synced
    engine.close()


def test_engine_is_not_ready_before_load(config: RetrievalConfig) -> None:
    """Until the indexes are in memory, calls are answered with NotReady; loading twice is loading once."""
    engine = RetrievalEngine(config)
    with pytest.raises(NotReady):
        engine.list_indexes()
    engine.load()
    engine.load()
    assert engine.list_indexes() == []
    engine.close()
    with pytest.raises(NotReady):
        engine.list_snapshots()


def test_one_process_a_directory(engine: RetrievalEngine, config: RetrievalConfig) -> None:
    """A second engine on the directory is refused until the first is closed."""
    with pytest.raises(ConfigInvalid, match="in use by process"):
        RetrievalEngine(config)
    engine.close()
    RetrievalEngine(config).close()


def test_corrupt_store_is_refused_at_start(
    engine: RetrievalEngine, config: RetrievalConfig, make_item: MakeItem
) -> None:
    """A damaged item is found by its checksum, the file is named, and the directory is free again."""
    engine.upsert_items("pictures", [make_item(n) for n in range(50)])
    engine.close()
    path = config.data_dir / "indexes" / "pictures" / "items.db"
    raw = path.read_bytes()
    at = raw.index(make_item(30).embedding.astype(np.float16).tobytes())
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(StoreCorrupt, match=r"pictures/items\.db: item 'item-0030' fails its checksum"):
        RetrievalEngine.open(config)
    path.write_bytes(raw)
    RetrievalEngine.open(config).close()


def test_leftovers_of_an_interrupted_run_are_removed(engine: RetrievalEngine, config: RetrievalConfig) -> None:
    """Unfinished indexes and snapshots do not survive a start."""
    engine.close()
    for name in ("indexes/.partial-1", "indexes/.removed-1", "snapshots/.pictures-1"):
        (config.data_dir / name).mkdir()
        (config.data_dir / name / "items.db").write_bytes(b"half")
    engine = RetrievalEngine.open(config)
    assert [info.name for info in engine.list_indexes()] == ["pictures"]
    assert [path.name for path in (config.data_dir / "indexes").iterdir()] == ["pictures"]
    assert list((config.data_dir / "snapshots").iterdir()) == []
    engine.close()


def test_searches_beside_writes_see_whole_items(
    engine: RetrievalEngine, make_item: MakeItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While items are replaced and slots compacted, each search finds every item once, in one version."""
    monkeypatch.setattr(live, "_COMPACT_ABOVE_SLOTS", 64)
    count, versions = 60, 20
    pool = [make_item(row) for row in range(count + versions)]
    batches = [
        [
            dataclasses.replace(pool[n + version], item_id=f"id-{n}", fields={"version": version, "row": n + version})
            for n in range(count)
        ]
        for version in range(versions)
    ]
    query, params = pool[1], SearchParams(top_k=count, return_fields=("*",))
    scores = np.stack([item.embedding for item in pool]).astype(np.float16) @ query.embedding
    engine.upsert_items("pictures", batches[0])
    stop, faults = threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            (hits,) = engine.search("pictures", query.embedding[None], query.code[None], params).hits
            if len({hit.item_id for hit in hits}) != count or len({hit.fields["version"] for hit in hits}) != 1:
                faults.append(hits)
            for hit in hits:
                whole = hit.item_id == f"id-{hit.fields['row'] - hit.fields['version']}"
                if not whole or abs(scores[hit.fields["row"]] - hit.score) > 1e-2:
                    faults.append(hit)

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for batch in batches[1:]:
        engine.upsert_items("pictures", batch)
    stop.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert engine._catalog["pictures"].memory.view.count < 2 * count


def test_write_succeeds_where_compaction_has_no_memory(
    engine: RetrievalEngine, make_item: MakeItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is on disk a write is acknowledged, whatever becomes of the tidying after it."""
    monkeypatch.setattr(live, "_COMPACT_ABOVE_SLOTS", 4)
    engine.upsert_items("pictures", [make_item(n) for n in range(20)])

    def no_memory(*_args: object) -> None:
        raise MemoryError("no room for new arrays")

    with monkeypatch.context() as patch:
        patch.setattr(engine._catalog["pictures"].memory, "compact", no_memory)
        assert engine.delete_items("pictures", item_ids=[f"item-{n:04d}" for n in range(10)]).deleted == 10
        assert engine.upsert_items("pictures", [make_item(n) for n in range(15, 20)]).written == 5
    assert engine.get_index("pictures").items == 10
    engine.upsert_items("pictures", [make_item(19)])
    assert engine._catalog["pictures"].memory.view.count == 10


def test_delete_is_undone_when_nobody_waits(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """A long delete whose caller is gone stops, and deletes nothing."""
    engine.upsert_items("pictures", [make_item(n) for n in range(20)])
    asked: list[bool] = []
    gone = Budget(is_cancelled=lambda: asked.append(True) or len(asked) > 5)
    with pytest.raises(Cancelled):
        engine.delete_items("pictures", item_ids=[f"item-{n:04d}" for n in range(20)], budget=gone)
    info = engine.get_index("pictures")
    assert (info.items, info.sequence) == (20, 1)
    assert len(engine.list_items("pictures")[0]) == 20


def test_concurrent_writers_share_commits_and_lose_nothing(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """Every write has a sequence of its own, and all of them are there."""
    sequences: list[int] = []

    def write(number: int) -> None:
        for step in range(10):
            done = engine.upsert_items("pictures", [make_item(step, f"{number}-{step}", n=number)])
            sequences.append(done.sequence)
        engine.delete_items("pictures", item_ids=[f"{number}-0"])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(sequences)) == 80
    info = engine.get_index("pictures")
    assert (info.items, info.sequence) == (72, 88)


def test_filter_that_leaves_few_is_answered_exactly(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """Under one per cent of the items, or no more than are re-ranked, all are scored, whatever their codes say."""
    far = np.zeros(8, np.uint8)
    items = [dataclasses.replace(make_item(n, n=n), code=~make_item(1).code if n < 5 else far) for n in range(600)]
    engine.upsert_items("pictures", items)
    query = make_item(1)
    few = SearchParams(top_k=2, rerank=2, filter=Filter((Clause("n", Op.LT, (5,)),)))
    hits = engine.search("pictures", query.embedding[None], query.code[None], few).hits[0]
    scores = {f"item-{n:04d}": float(make_item(n).embedding @ query.embedding) for n in range(5)}
    assert [hit.item_id for hit in hits] == sorted(scores, key=lambda item_id: -scores[item_id])[:2]


def test_budget_ends_a_search(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """An expired or cancelled call computes nothing, and waits for no write."""
    query = make_item(1)
    vectors = query.embedding[None], query.code[None]
    with pytest.raises(DeadlineExceeded):
        engine.search("pictures", *vectors, budget=Budget(deadline=time.monotonic() - 1))
    with pytest.raises(Cancelled):
        engine.search("pictures", *vectors, budget=Budget(is_cancelled=lambda: True))
    with pytest.raises(Cancelled):
        waiting = Budget(time.monotonic() + 10, is_cancelled=lambda: True)
        engine.search("pictures", *vectors, SearchParams(min_sequence=5), budget=waiting)
    with pytest.raises(SequenceNotReached):
        engine.search("pictures", *vectors, SearchParams(min_sequence=5))
    with pytest.raises(DeadlineExceeded):
        engine.upsert_items("pictures", [query], budget=Budget(deadline=time.monotonic() - 1))
    assert engine.get_index("pictures").items == 0


def test_long_search_ends_when_nobody_waits(
    engine: RetrievalEngine, make_item: MakeItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large batch is scanned in parts, and left after the first if its caller is gone by then."""
    engine.upsert_items("pictures", [make_item(n) for n in range(300)])
    query, scanned = make_item(1), []
    codes = engine._catalog["pictures"].memory.view.slots.code_index
    scan = codes.search

    def search(rows: np.ndarray, queries: np.ndarray, *args: object, **kwargs: object) -> object:
        scanned.append(len(queries))
        return scan(rows, queries, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(codes, "search", search)
    vectors = np.repeat(query.embedding[None], 1000, 0), np.repeat(query.code[None], 1000, 0)
    with pytest.raises(Cancelled):
        engine.search("pictures", *vectors, budget=Budget(is_cancelled=lambda: bool(scanned)))
    assert len(scanned) == 1
    hits = engine.search("pictures", *vectors).hits
    assert len(scanned) > 2
    assert len(hits) == sum(scanned[1:]) == 1000
    assert all(found == hits[0] for found in hits)


def test_vectors_of_another_kind_are_refused(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """Data types other than float32 and float16, and codes other than bytes, are named."""
    query = make_item(1)
    with pytest.raises(VectorInvalid, match="expected float32 or float16, got float64"):
        engine.search("pictures", query.embedding[None].astype(np.float64))
    with pytest.raises(VectorInvalid, match="int8"):
        engine.search("pictures", query.embedding[None], query.code[None].astype(np.int8))


def test_query_whose_scores_overflow_is_refused(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """Finite values so large that their products are not numbers are the caller's fault, not ours."""
    engine.upsert_items("pictures", [make_item(1)])
    largest = np.full((1, 24), 65_504.0, np.float32)
    assert np.isfinite(engine.search("pictures", largest).hits[0][0].score)
    for value in (65_505.0, 3e38):
        with pytest.raises(VectorInvalid, match="within"):
            engine.search("pictures", np.full((1, 24), value, np.float32) * np.resize([1, -1], 24).astype(np.float32))


def test_calls_on_a_deleted_index_fail_cleanly(engine: RetrievalEngine, make_item: MakeItem) -> None:
    """A call that found the index before its deletion is told that it is gone."""
    found = engine._catalog["pictures"]
    engine.delete_index("pictures")
    with pytest.raises(IndexNotFound):
        found.delete(["item-0001"], Budget.UNLIMITED)
    with pytest.raises(IndexNotFound):
        found.ids_after("", 10)


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "magic"},
        {"rerank": 0},
        {"rerank": 10_001},
        {"search_threads": 0},
        {"compact_dead_ratio": 0.0},
        {"compact_dead_ratio": 1.0},
        {"checkpoint_bytes": 1},
        {"max_batch_queries": 0},
    ],
)
def test_bad_settings_are_named(settings: dict[str, object]) -> None:
    """A setting out of range is refused with its name."""
    (name,) = settings
    with pytest.raises(ConfigInvalid, match=name):
        RetrievalConfig(**settings)  # type: ignore[arg-type]
