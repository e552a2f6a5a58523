"""Finding and reading pictures on disk."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from bowerbird.cli import sources
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.sources import Picture, Skipped, Source


def make_picture(path: Path, colour: str = "red") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path.read_bytes()


def find(root: Path, prefix: str = "") -> dict[str, Source]:
    found = list(sources.find_sources(root, prefix))
    assert all(isinstance(source, Source) for source in found)
    return {source.item_id: source for source in found if isinstance(source, Source)}


def test_files_are_found_in_all_folders_by_name(tmp_path: Path) -> None:
    """Ids are paths below the root, in the order of names; hidden files and folders are left out."""
    for name in ("b.png", "a/z.png", "a/b/y.png", ".hidden/x.png", ".x.png"):
        make_picture(tmp_path / name)
    assert list(find(tmp_path)) == ["a/b/y.png", "a/z.png", "b.png"]


def test_fields_say_where_a_picture_is(tmp_path: Path) -> None:
    """A plain file has root, path, name and folder; one at the top has no folder."""
    make_picture(tmp_path / "trips/sea.png")
    make_picture(tmp_path / "top.png")
    found = find(tmp_path)
    assert found["trips/sea.png"].fields == {
        "root": str(tmp_path),
        "path": "trips/sea.png",
        "name": "sea",
        "folder": "trips",
    }
    assert "folder" not in found["top.png"].fields


def test_one_file_is_a_root_too(tmp_path: Path) -> None:
    """A file given by itself has its name as id, and a prefix goes in front."""
    make_picture(tmp_path / "cat.png")
    assert list(find(tmp_path / "cat.png", "mine/")) == ["mine/cat.png"]


def test_missing_path_fails_with_its_name(tmp_path: Path) -> None:
    """A path that does not exist is an error, not an empty folder."""
    with pytest.raises(CommandFailed, match="nowhere"):
        list(sources.find_sources(tmp_path / "nowhere"))


def test_records_name_the_pictures_and_their_fields(tmp_path: Path) -> None:
    """With a pictures.jsonl only listed pictures are found; lists become text, empty values are left out."""
    make_picture(tmp_path / "set/p/cat.png")
    make_picture(tmp_path / "set/p/unlisted.png")
    record = {"path": "p/cat.png", "title": "Cat", "tags": ["pet", "fur"], "year": 2021, "style": "", "root": "x"}
    (tmp_path / "set/pictures.jsonl").write_text(json.dumps(record) + "\n\n")
    found = find(tmp_path)
    assert list(found) == ["set/p/cat.png"]
    fields = found["set/p/cat.png"].fields
    assert fields["title"] == "Cat"
    assert fields["tags"] == "pet, fur"
    assert fields["year"] == 2021
    assert fields["root"] == str(tmp_path)
    assert "style" not in fields


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"path": "../x.png"}', '{"path": "/etc/x"}', '{"path": "a.png", "size": {}}']
)
def test_bad_record_is_skipped_with_its_line(tmp_path: Path, line: str) -> None:
    """A broken line does not stop the good ones, and is reported by its number."""
    (tmp_path / "pictures.jsonl").write_text(f'{{"path": "ok.png"}}\n{line}\n')
    good, bad = sources.find_sources(tmp_path)
    assert isinstance(good, Source)
    assert isinstance(bad, Skipped)
    assert bad.reason == sources.BAD_RECORD
    assert bad.path.endswith("pictures.jsonl:2")


def test_symlinks_to_files_are_followed_and_to_folders_not(tmp_path: Path) -> None:
    """A link that leads back up cannot make the walk endless."""
    make_picture(tmp_path / "a/cat.png")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/link.png").symlink_to(tmp_path / "a/cat.png")
    assert list(find(tmp_path)) == ["a/cat.png", "a/link.png"]


def test_picture_is_read_with_its_hash(tmp_path: Path) -> None:
    """Reading gives all bytes, and the sha256 of them as a field."""
    data = make_picture(tmp_path / "cat.png")
    picture = sources.read_picture(find(tmp_path)["cat.png"])
    assert isinstance(picture, Picture)
    assert picture.data == data
    assert picture.fields["sha256"] == hashlib.sha256(data).hexdigest()


def test_what_is_no_picture_is_skipped_with_a_reason(tmp_path: Path) -> None:
    """Empty, foreign, too large, broken-link and unreadable files each get their own reason."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("hello")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(9 * 2**20)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    outcomes = {name: sources.read_picture(source) for name, source in find(tmp_path).items()}
    reasons = {name: skipped.reason for name, skipped in outcomes.items() if isinstance(skipped, Skipped)}
    assert reasons == {
        "empty.png": sources.EMPTY,
        "gone.png": sources.UNREADABLE,
        "huge.jpg": sources.TOO_LARGE,
        "notes.txt": sources.NOT_A_PICTURE,
    }


def test_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    """An item id is UTF-8, so such a file is reported instead of failing the run."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system only holds UTF-8 names")
    (skipped,) = sources.find_sources(tmp_path)
    assert isinstance(skipped, Skipped)
    assert "UTF-8" in skipped.detail


def test_count_opens_nothing_and_agrees_with_find(tmp_path: Path) -> None:
    """The total of the progress bar is the number of sources."""
    for name in ("a.png", "b/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sources.count_sources(tmp_path) == len(find(tmp_path)) == 2
