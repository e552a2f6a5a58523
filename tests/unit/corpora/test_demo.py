import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bowerbird.corpora import TONES, build_demo, build_tones, load, load_texts, load_tones
from bowerbird.corpora import __main__ as command
from bowerbird.corpora.building import BuildReport
from bowerbird.corpora.manifest import Source
from bowerbird.errors import PackageUnavailable

Sources = tuple[Source, ...]
APPLE = "pictures/style-a/red-apple.png"


@pytest.fixture
def build(tmp_path: Path, sources: Sources, client: Any) -> Any:
    """Builds the golden corpus below `tmp_path / "out"`, in this process."""

    def run(**options: Any) -> BuildReport:
        options = {"sources": sources, "download": client, "workers": 1, **options}
        return build_demo(tmp_path / "cache", tmp_path / "out", **options)

    return run


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_build_demo_writes_pictures_with_records(tmp_path: Path, build: Any) -> None:
    """Each record has its picture, and styles share the concepts."""
    report = build()
    records = load(tmp_path / "out")

    assert report.pictures == len(records) == 9
    for record in records:
        with Image.open(tmp_path / "out" / record.path) as image:
            image.load()
    by_path = {record.path: record for record in records}
    apple = by_path[APPLE]
    assert (apple.title, apple.category, apple.style, apple.concept) == ("red apple", "group-4", "style-a", "red-apple")
    assert (apple.licence, apple.attribution) == ("CC0-1.0", "makers of style-a")
    styles = {
        style: {record.concept for record in records if record.style == style} for style in ("style-a", "style-b")
    }
    assert styles["style-a"] == styles["style-b"] != set()
    assert by_path["pictures/stamps/green-pear.png"].style == "cutout"


def test_build_demo_writes_the_raw_words_of_each_picture(tmp_path: Path, build: Any) -> None:
    """Every text names a picture of the corpus; an emoji has words in several languages and the tags of users."""
    build()
    texts = load_texts(tmp_path / "out")

    assert {text.picture for text in texts} == {record.path for record in load(tmp_path / "out")}
    apple = {text.field: (text.language, text.text) for text in texts if text.picture == APPLE}
    assert apple == {
        "title:en": ("en", "red apple"),
        "keywords:en": ("en", "tag"),
        "title:de": ("de", "red apple (de)"),
        "keywords:de": ("de", "Wort, zweites Wort"),
        "tags": ("en", "red apple, fruit, :D"),
    }


def test_build_tones_draws_each_style_in_five_tones(tmp_path: Path, sources: Sources, client: Any) -> None:
    """Hands of both styles come in each tone, in a file of their own, and the demo is as if they were not there."""
    report = build_tones(tmp_path / "cache", tmp_path / "out", sources=sources, download=client, workers=1)
    records = load_tones(tmp_path / "out")

    assert report.pictures == len(records) == 10
    hands = [record for record in records if record.style == "style-a"]
    assert [(hand.concept, hand.tone) for hand in hands] == [("backhand-index-pointing-right", tone) for tone in TONES]
    assert hands[0].path == "tones/style-a/backhand-index-pointing-right--light.png"
    assert hands[0].title == "backhand index pointing right: light skin tone"
    brightness = []
    for hand in hands:
        with Image.open(tmp_path / "out" / hand.path) as image:
            brightness.append(sum(image.convert("RGB").getpixel((40, 64))))
    assert brightness == sorted(brightness, reverse=True)
    assert not (tmp_path / "out/pictures.jsonl").exists()


def test_mirrored_icon_is_drawn_mirrored(tmp_path: Path, build: Any) -> None:
    """The hand that one style draws itself and the other as a mirrored alias points to opposite sides."""
    build()
    left, right = (
        Image.open(tmp_path / f"out/pictures/{style}/backhand-index-pointing-right.png").convert("RGB")
        for style in ("style-a", "style-b")
    )
    assert left.getpixel((4, 64)) == right.getpixel((123, 64)) != (255, 255, 255)
    assert left.getpixel((123, 64)) == right.getpixel((4, 64)) == (255, 255, 255)


def test_build_demo_credits_the_sources(tmp_path: Path, build: Any) -> None:
    """SOURCES.md names maker, licence, package and version of every source that gave pictures, and of no other."""
    build(names=["style-a"])
    text = (tmp_path / "out/SOURCES.md").read_text()
    assert "| style-a | makers of style-a | CC0-1.0 | npm: style-a.tgz | 1.0 |" in text
    assert "stamps" not in text


def test_second_build_changes_nothing(tmp_path: Path, build: Any) -> None:
    """A second build makes no picture again and leaves the same records."""
    build()
    before = snapshot(tmp_path / "out/pictures")
    records, texts = ((tmp_path / "out" / name).read_bytes() for name in ("pictures.jsonl", "texts.jsonl"))
    report = build()

    assert sum(row.made for row in report.sources) == 0
    assert snapshot(tmp_path / "out/pictures") == before
    assert (tmp_path / "out/pictures.jsonl").read_bytes() == records
    assert (tmp_path / "out/texts.jsonl").read_bytes() == texts


def test_build_goes_on_where_it_was_killed(tmp_path: Path, build: Any) -> None:
    """After a kill there are pictures but no records; the next build makes the missing pictures only."""

    def die(done: int, total: int, label: str) -> None:
        if label == "build style-b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(progress=die)
    assert (tmp_path / "out" / APPLE).exists()
    assert not (tmp_path / "out/pictures.jsonl").exists()
    report = build()

    made = {row.fetched.source.name: row.made for row in report.sources}
    assert (made["style-a"], made["style-b"], report.pictures) == (0, 4, 9)


def test_build_makes_a_lost_picture_again(tmp_path: Path, build: Any) -> None:
    """A picture that was deleted comes back the same."""
    build()
    content = (tmp_path / "out" / APPLE).read_bytes()
    (tmp_path / "out" / APPLE).unlink()
    build()
    assert (tmp_path / "out" / APPLE).read_bytes() == content


def test_build_makes_pictures_of_another_package_anew(tmp_path: Path, build: Any, sources: Sources) -> None:
    """When a source comes from another archive, none of its old pictures stay."""
    build()
    stamp = tmp_path / "out/pictures/style-a/.made-from"
    stamp.write_text("another archive\n")
    (tmp_path / "out/pictures/style-a/old.png").write_bytes(b"old")
    report = build()

    assert {row.fetched.source.name: row.made for row in report.sources}["style-a"] == 4
    assert not (tmp_path / "out/pictures/style-a/old.png").exists()


def test_build_in_processes_is_the_build_in_one(tmp_path: Path, build: Any) -> None:
    """Worker processes make the same files."""
    build(names=["stamps"])
    alone = snapshot(tmp_path / "out/pictures")
    shutil.rmtree(tmp_path / "out")
    build(names=["stamps"], workers=2)
    assert {name: content for name, (content, _) in snapshot(tmp_path / "out/pictures").items()} == {
        name: content for name, (content, _) in alone.items()
    }


def test_build_reports_progress(build: Any) -> None:
    """The progress of building counts up to the number of planned pictures."""
    told: list[tuple[int, int, str]] = []
    build(progress=lambda *step: told.append(step))
    building = [step for step in told if step[2].startswith("build")]
    assert building[-1][0] == building[-1][1] == 9
    assert [step[0] for step in building] == sorted(step[0] for step in building)


def test_build_goes_on_without_a_source(tmp_path: Path, build: Any, client: Any) -> None:
    """Without the client of one registry, the others' pictures are built and the report says what is missing."""

    def fail_for_debian(source: Source, _: Path) -> None:
        if source.registry == "debian":
            raise PackageUnavailable("apt-get is not on PATH")

    client.before = fail_for_debian
    report = build()
    assert report.pictures == 8
    assert "stamps: unavailable: apt-get is not on PATH" in command.format_report(report, 1.0)


def test_emoji_without_their_words_are_reported(build: Any, client: Any) -> None:
    """Icons without labels cannot be joined; the report says so for each style."""

    def fail_for_labels(source: Source, _: Path) -> None:
        if source.kind == "labels":
            raise PackageUnavailable("npm is not on PATH")

    client.before = fail_for_labels
    report = build()
    states = {row.fetched.source.name: row.fetched.state for row in report.sources}
    assert (states["style-a"], states["style-b"], states["stamps"]) == ("unreadable", "unreadable", "downloaded")
    assert report.pictures == 1


def test_pictures_of_one_concept_get_numbers(tmp_path: Path, build: Any, sources: Sources) -> None:
    """Two pictures of a concept in one source have files of their own and share the concept."""
    members = tmp_path / "cache/corpora/members"
    build()
    folder = next(members.glob("stamps-*")) / "usr/share/tuxpaint/stamps/food/fruit"
    shutil.copy(folder / "pear_1.png", folder / "pear_2.png")
    shutil.copy(folder / "pear_1.txt", folder / "pear_2.txt")
    build()
    pears = [record for record in load(tmp_path / "out") if record.source == "stamps"]
    assert [(pear.path.rsplit("/", 1)[1], pear.concept) for pear in pears] == [
        ("green-pear.png", "green-pear"),
        ("green-pear--2.png", "green-pear"),
    ]


def test_command_builds_and_prints_a_table(
    tmp_path: Path, sources: Sources, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints progress and one row a source, and succeeds."""
    monkeypatch.setattr(command, "build_demo", lambda *a, **o: build_demo(*a, **o, sources=sources, download=client))
    out = tmp_path / "out"
    status = command.main(
        ["--cache", str(tmp_path / "c"), "--out", str(out), "--only", "style-a, style-b", "--workers", "1"]
    )
    printed = capsys.readouterr().out

    assert status == 0
    assert "     4/4 fetched" in printed
    assert "     8/8 build style-b" in printed
    assert any(line.split()[:3] == ["style-a", "4", "4"] for line in printed.splitlines())


def test_command_builds_tones(
    tmp_path: Path, sources: Sources, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--tones` only the emoji styles are fetched and built."""
    monkeypatch.setattr(command, "build_tones", lambda *a, **o: build_tones(*a, **o, sources=sources, download=client))
    arguments = ["--tones", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "out"), "--workers", "1"]

    assert command.main([*arguments, "--only", "style-a,stamps"]) == 0
    assert client.brought == ["labels", "keywords", "style-a"]
    assert any(line.split()[:3] == ["style-a", "5", "5"] for line in capsys.readouterr().out.splitlines())


def test_command_fails_with_advice(
    tmp_path: Path, sources: Sources, client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown source, and an archive that is refused, give exit status 1 and a reason."""
    altered = [dataclasses.replace(source, sha256="0" * 64) for source in sources]
    monkeypatch.setattr(command, "build_demo", lambda *a, **o: build_demo(*a, **o, sources=altered, download=client))
    arguments = ["--cache", str(tmp_path / "c"), "--out", str(tmp_path / "out"), "--workers", "1"]

    assert command.main([*arguments, "--only", "nothing"]) == 1
    assert "unknown source 'nothing'" in capsys.readouterr().err
    assert command.main([*arguments, "--only", "stamps"]) == 1
    assert "stamps: refused: stamps: expected" in capsys.readouterr().out
