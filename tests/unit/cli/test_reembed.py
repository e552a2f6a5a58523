"""An index made again with another model: wholly or not at all, and no item lost without a word."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from bowerbird.cli import flow, outcome, reembedding
from bowerbird.cli.reembedding import locate, name_successor
from bowerbird.cli.sources import Skipped, Source
from bowerbird.rpc.clients import Item, ModelRef, RetrievalClient, connect
from tests.unit.cli.conftest import Run, Served, paint

Capture = pytest.CaptureFixture[str]
OLD, NEW = ModelRef("colours", "0123456789ab"), ModelRef("colours", "fedcba987654")


@pytest.fixture
def client(served: Served) -> Any:
    with connect(served.target) as connection:
        yield RetrievalClient(connection)


@pytest.fixture
def indexed(run: Run, served: Served, album: Path, capsys: Capture) -> Path:
    """Five pictures in the index, after which another model is served."""
    record = {"path": "two.png", "title": "Two", "year": 2021}
    (album / "extra").mkdir()
    paint(album / "extra/two.png", "green", "yellow")
    (album / "extra/pictures.jsonl").write_text(json.dumps(record) + "\n")
    assert run("index", album) == outcome.EXIT_OK
    served.embedder.info = dataclasses.replace(served.embedder.info, version=NEW.version)
    capsys.readouterr()
    return album


def test_one_command_makes_an_index_fit_the_model(run: Run, indexed: Path, client: Any, capsys: Capture) -> None:
    """Afterwards the index has the same items and fields, is of the served model, and takes pictures again."""
    before = {item.item_id: item.fields for item in client.list_items()}
    assert client.get_index().model == OLD
    assert run("index", indexed) == outcome.EXIT_FAILED
    assert "bowerbird reembed default" in capsys.readouterr().err

    assert run("reembed") == outcome.EXIT_OK

    assert "6 written" in (out := capsys.readouterr().out) and "now holds vectors of colours fedcba987654" in out
    assert client.get_index().model == NEW
    assert {item.item_id: item.fields for item in client.list_items()} == before
    assert [index.name for index in client.list_indexes()] == ["default"]
    assert run("index", indexed) == outcome.EXIT_OK
    assert "0 written, 6 unchanged" in capsys.readouterr().out
    assert run("search", indexed / "two.png", "--json") == outcome.EXIT_OK


def test_what_fits_is_left_alone(run: Run, served: Served, indexed: Path, capsys: Capture) -> None:
    """A second run embeds nothing."""
    run("reembed")
    embedded = served.embedder.embedded
    capsys.readouterr()
    assert run("reembed", "--json") == outcome.EXIT_OK
    assert json.loads(capsys.readouterr().out)["replaced"] is False
    assert served.embedder.embedded == embedded


def test_an_item_without_its_picture_stops_the_replacement(
    run: Run, indexed: Path, client: Any, tmp_path: Path, capsys: Capture
) -> None:
    """The item is named and the index as it was; --drop-missing lets it go, and embeds nothing twice."""
    (indexed / "warm/red.png").unlink()
    before = client.get_index()

    assert run("reembed", "--skipped", tmp_path / "gone.txt") == outcome.EXIT_FAILED

    captured = capsys.readouterr()
    assert "cannot be read" in captured.out and "is as it was" in captured.out and "--drop-missing" in captured.err
    assert str(indexed / "warm/red.png") in (tmp_path / "gone.txt").read_text()
    assert client.get_index() == before
    assert run("reembed", "--drop-missing", "--json") == outcome.EXIT_OK
    report = json.loads(capsys.readouterr().out)
    assert (report["replaced"], report["written"], report["unchanged"]) == (True, 0, 5)
    assert "warm/red.png" not in {item.item_id for item in client.list_items()}


def test_pictures_that_moved_are_found_below_their_new_folder(run: Run, indexed: Path, client: Any) -> None:
    """--pictures stands in place of the folder that was indexed, from then on too."""
    moved = indexed.with_name("moved")
    shutil.move(indexed, moved)
    assert run("reembed") == outcome.EXIT_FAILED
    assert run("reembed", "--pictures", moved) == outcome.EXIT_OK
    assert {item.fields["root"] for item in client.list_items()} == {str(moved)}
    assert run("index", moved) == outcome.EXIT_OK


def test_items_that_others_wrote_have_no_picture(run: Run, indexed: Path, client: Any, capsys: Capture) -> None:
    """A vector without a path cannot be made again, and is not dropped silently."""
    item = client.get_item("two.png", include_vectors=True)
    client.upsert([dataclasses.replace(item, item_id="by hand", fields={"title": "x"})], model=OLD)
    assert run("reembed") == outcome.EXIT_FAILED
    assert "does not say where its picture is" in capsys.readouterr().out


def test_an_interrupted_run_goes_on(
    run: Run, served: Served, indexed: Path, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Ctrl-C leaves the index as it was; the next run embeds only the rest."""
    monkeypatch.setattr("bowerbird.cli.indexing.WINDOW_PICTURES", 1)
    made = flow.run_in_flight

    def interrupted(windows: Any, work: Any, *, in_flight: int, stop: threading.Event) -> None:
        def work_once(window: Any) -> None:
            work(window)
            stop.set()

        made(windows, work_once, in_flight=1, stop=stop)

    monkeypatch.setattr(flow, "run_in_flight", interrupted)
    before = client.get_index()
    assert run("reembed") == outcome.EXIT_INTERRUPTED
    assert "as it was" in capsys.readouterr().err
    assert client.get_index() == before
    monkeypatch.setattr(flow, "run_in_flight", made)
    embedded = served.embedder.embedded

    assert run("reembed", "--json") == outcome.EXIT_OK

    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["unchanged"]) == (5, 1)
    assert served.embedder.embedded - embedded == 5


def test_what_is_written_meanwhile_is_not_lost(
    run: Run, indexed: Path, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Items that come, change and go while the index is embedded again are so in the new one."""
    made, calls = reembedding.Reembedding._make_pass, 0

    def write_after(self: Any, *arguments: Any) -> None:
        nonlocal calls
        made(self, *arguments)
        calls += 1
        if calls == 1:
            item = client.get_item("two.png", include_vectors=True)
            paint(indexed / "late.png", "white")
            late = dict(item.fields) | {"path": "late.png", "name": "late"}
            client.upsert([dataclasses.replace(item, item_id="late.png", fields=late)], model=OLD)
            changed = dict(item.fields) | {"title": "changed"}
            client.upsert([dataclasses.replace(item, fields=changed)], model=OLD)
            client.delete(["cold/navy.png"])

    monkeypatch.setattr(reembedding.Reembedding, "_make_pass", write_after)

    assert run("reembed", "--json") == outcome.EXIT_OK

    report = json.loads(capsys.readouterr().out)
    assert (calls, report["replaced"], report["written"]) == (2, True, 8)
    found = {item.item_id: item.fields for item in client.list_items()}
    assert "late.png" in found and "cold/navy.png" not in found and found["two.png"]["title"] == "changed"
    assert len(found) == 6


@pytest.mark.parametrize("is_before", [True, False])
def test_two_runs_at_once_end_with_one_index(
    run: Run, indexed: Path, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture, is_before: bool
) -> None:
    """The slower one finds the work done, before or after its own pass, and leaves nothing behind."""
    made = reembedding.Reembedding._make_pass

    def meet_another(self: Any, *arguments: Any) -> None:
        monkeypatch.setattr(reembedding.Reembedding, "_make_pass", made)
        if is_before:
            assert run("reembed") == outcome.EXIT_OK
        made(self, *arguments)
        if not is_before:
            assert run("reembed") == outcome.EXIT_OK

    monkeypatch.setattr(reembedding.Reembedding, "_make_pass", meet_another)
    assert run("reembed") == outcome.EXIT_OK
    assert capsys.readouterr().out.count("now holds vectors of colours fedcba987654") == 2
    assert [(index.name, index.items, index.model) for index in client.list_indexes()] == [("default", 6, NEW)]


@pytest.mark.parametrize("command", ["index", "reembed"])
def test_a_model_that_is_changed_on_the_way_leaves_no_vectors(
    run: Run, served: Served, indexed: Path, client: Any, capsys: Capture, command: str
) -> None:
    """Vectors of services that started anew with another model are not written under the name of the first."""
    embed_batch = served.embedder.embed_batch

    def restart(*given: Any, **options: Any) -> Any:
        served.embedder.info = dataclasses.replace(served.embedder.info, version="ffffffffffff")
        return embed_batch(*given, **options)

    served.embedder.embed_batch = restart  # type: ignore[method-assign]
    words = ["index", indexed, "--index", "fresh"] if command == "index" else ["reembed"]
    assert run(*words) == outcome.EXIT_FAILED
    assert "does not run colours fedcba987654 any more" in capsys.readouterr().err
    assert client.get_index().model == OLD
    assert sum(index.items for index in client.list_indexes()) == 6


def test_an_index_that_is_not_there(run: Run, capsys: Capture) -> None:
    """The names that exist are listed."""
    assert run("reembed", "absent") == outcome.EXIT_FAILED
    assert "no index 'absent'" in capsys.readouterr().err


def test_the_picture_of_an_item() -> None:
    """Root and path say where; a given folder wins; without a path there is none."""
    item = Item("p/a.png", None, None, {"root": "/old", "path": "a.png", "sha256": "1", "year": 3})  # type: ignore[arg-type]
    assert locate(item, None) == Source("p/a.png", Path("/old/a.png"), {"root": "/old", "path": "a.png", "year": 3})
    moved = locate(item, Path("/new"))
    assert isinstance(moved, Source) and moved.path == Path("/new/a.png") and moved.fields["root"] == "/new"
    assert isinstance(locate(dataclasses.replace(item, fields={"path": "a.png"}), None), Skipped)
    assert isinstance(locate(dataclasses.replace(item, fields={}), Path("/new")), Skipped)


def test_the_name_of_a_successor() -> None:
    """It is one that an index may have, however long the old one is, and another for another model."""
    for name in ("a", "x" * 63):
        names = {name_successor(name, "vit", version) for version in ("1", "2")}
        assert len(names) == 2 and all(len(each) <= 63 for each in names)
    assert name_successor("x" * 62, "vit", "1") != name_successor("x" * 63, "vit", "1")
