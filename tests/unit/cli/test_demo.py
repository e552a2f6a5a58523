"""The demo: its corpus step, its searches and its page, against services in this process."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bowerbird.boxes import Region
from bowerbird.cli import demo, showcase
from bowerbird.cli.outcome import CommandFailed
from bowerbird.rpc.clients import Detection, connect
from tests.unit.cli.conftest import Run, Served, paint

STYLES = {"noto": "red", "twemoji": "crimson", "openmoji": "tomato"}


def write_corpus(root: Path) -> Path:
    """A corpus as the demo expects it: a concept in three styles, a photograph, cut-outs and clip-art."""
    lines = []

    def add(path: str, colour: str, style: str, concept: str) -> None:
        paint(root / path, colour, "blue")
        lines.append(
            f'{{"path": "{path}", "style": "{style}", "concept": "{concept}", "title": "{concept}",'
            f' "licence": "CC0", "attribution": "me", "source": "{style}"}}\n'
        )

    for style, colour in STYLES.items():
        add(f"pictures/{style}/pizza.png", colour, style, "pizza")
    add("pictures/p/coffee.jpg", "brown", "photograph", "cup-of-coffee")
    add("pictures/p/taj.jpg", "white", "photograph", "taj-mahal")
    for concept, colour in (("giraffe", "yellow"), ("sports-car", "purple"), ("green-bus", "green")):
        add(f"pictures/c/{concept}.png", colour, "cutout", concept)
    add("pictures/o/gift.png", "gold", "clipart", "gift")
    (root / "pictures.jsonl").write_text("".join(lines))
    return root


def test_page_has_searches_of_all_three_kinds(run: Run, served: Served, tmp_path: Path) -> None:
    """By picture, by region and by item; the same concept is marked, the query itself is never a result."""
    corpus = write_corpus(tmp_path / "corpus")
    run("index", corpus)
    with connect(served.target) as connection:
        groups = showcase.build_groups(connection, "default", tmp_path)
        demo.write_page(connection, tmp_path, tmp_path / "demo.html")
    assert [group.title for group in groups] == ["By picture", "By region", "By item"]
    pictures, regions, items = (group.searches for group in groups)
    pizza = next(search for search in pictures if search.title == "pizza")
    assert {result.note for result in pizza.results if result.matches} == {"twemoji", "openmoji"}
    assert [search.title for search in regions] == ["giraffe", "sports-car", "corner, 0.90"]
    assert all(search.region for search in regions)
    assert [search.title for search in items] == ["gift", "green-bus"]
    assert all(search.title not in {result.title for result in search.results} for search in items)
    text = (tmp_path / "demo.html").read_text()
    assert "What looks alike" in text
    assert "noto: me (CC0)" in text
    assert (tmp_path / "scene.jpg").exists()


def test_page_says_how_often_the_same_thing_is_found(run: Run, served: Served, tmp_path: Path) -> None:
    """Over concepts that are kept from training (`cook` and `man-cook` are); without any of them it says nothing."""
    corpus = write_corpus(tmp_path / "corpus")
    run("index", corpus)
    with connect(served.target) as connection:
        assert demo.measure_quality(connection) == {}
        for style in ("noto", "twemoji"):
            for concept, colour in (("cook", "red"), ("man-cook", "blue")):
                paint(tmp_path / f"more/{style}/{concept}.png", colour)
        rows = [
            {"path": f"{style}/{concept}.png", "style": style, "concept": concept}
            for style in ("noto", "twemoji")
            for concept in ("cook", "man-cook")
        ]
        (tmp_path / "more/pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run("index", tmp_path / "more")
        assert demo.measure_quality(connection) == {"P@1 across styles": "100.0%"}


def test_commands_on_the_page_can_be_typed(run: Run, served: Served, tmp_path: Path) -> None:
    """Every command shown under a query is one that this program runs."""
    import shlex

    corpus = write_corpus(tmp_path / "corpus")
    run("index", corpus)
    with connect(served.target) as connection:
        groups = showcase.build_groups(connection, "default", tmp_path)
    for search in (search for group in groups for search in group.searches):
        words = shlex.split(search.command)
        assert words[:2] == ["bowerbird", "search"]
        assert run(*words[1:]) == 0


def test_corpus_without_the_pictures_asked_for_is_an_error(run: Run, served: Served, tmp_path: Path) -> None:
    """A page without a single search is not written."""
    paint(tmp_path / "album/a.png", "red")
    run("index", tmp_path / "album")
    with connect(served.target) as connection, pytest.raises(CommandFailed, match="none of the pictures"):
        demo.write_page(connection, tmp_path, tmp_path / "demo.html")
    assert not (tmp_path / "demo.html").exists()


def test_corpus_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run neither fetches nor renders."""
    corpus = write_corpus(tmp_path / "corpus")
    monkeypatch.setattr(demo.corpora, "build_demo", None)
    assert demo.build_corpus(corpus, None, refresh=False) == corpus


def test_no_source_at_all_fails_and_leaves_no_empty_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without npm, pip and apt the reasons are listed, and the next run tries again."""

    def fetch_nothing(_: object, folder: Path, **__: object) -> SimpleNamespace:
        folder.mkdir()
        (folder / "pictures.jsonl").touch()
        fetched = SimpleNamespace(source=SimpleNamespace(name="noto"), state="unavailable", reason="npm is not here")
        return SimpleNamespace(sources=[SimpleNamespace(pictures=0, fetched=fetched)], pictures=0)

    monkeypatch.setattr(demo.corpora, "build_demo", fetch_nothing)
    with pytest.raises(CommandFailed, match="no source"):
        demo.build_corpus(tmp_path / "corpus", None, refresh=False)
    assert "npm is not here" in capsys.readouterr().out
    assert not (tmp_path / "corpus/pictures.jsonl").exists()


def test_missing_sources_come_with_the_command_that_fetches_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever installs npm afterwards learns how to complete the corpus; a complete one says nothing of it."""

    def fetch(directory: Path | None) -> SimpleNamespace:
        fetched = SimpleNamespace(
            source=SimpleNamespace(name="noto"), state="any", reason="a reason", directory=directory
        )
        return SimpleNamespace(sources=[SimpleNamespace(pictures=1, fetched=fetched)], pictures=1)

    for directory, told in ((None, True), (tmp_path, False)):
        monkeypatch.setattr(demo.corpora, "build_demo", lambda *_, found=directory, **__: fetch(found))
        demo.build_corpus(tmp_path / "corpus", None, refresh=False)
        assert ("--refresh" in capsys.readouterr().out) is told


def test_clear_object_is_neither_speck_nor_everything() -> None:
    """The surest box of a sensible size is searched by."""

    def box(side: float, score: float) -> Detection:
        return Detection(Region(0, 0, side, side), "thing", score)

    assert showcase.choose_object([box(0.99, 0.9), box(0.05, 0.8), box(0.5, 0.6), box(0.4, 0.5)]) == box(0.5, 0.6)
    assert showcase.choose_object([box(0.99, 0.9)]) is None
