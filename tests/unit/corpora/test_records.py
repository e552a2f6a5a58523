from pathlib import Path

import pytest

from bowerbird.corpora import PictureRecord, load, save
from bowerbird.errors import ArgumentInvalid

APPLE = PictureRecord(
    path="pictures/noto/red-apple.png",
    source="noto",
    title="red apple",
    tags=("fruit", "Äpfel"),
    category="food-drink",
    style="noto",
    concept="red-apple",
    licence="Apache-2.0",
    attribution="Noto Emoji by Google",
)


def test_load_gives_what_save_wrote(tmp_path: Path) -> None:
    """Records survive the round trip, in order, and their file is text that people can read."""
    records = [APPLE, PictureRecord(path="b.jpg")]
    file = save(tmp_path, records)

    assert load(tmp_path) == records
    assert "Äpfel" in file.read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.jsonl"]


def test_load_takes_lines_with_a_path_only_and_empty_lines(tmp_path: Path) -> None:
    """A line needs no more than a path, and empty lines are no records."""
    (tmp_path / "pictures.jsonl").write_text('\n{"path": "a.jpg"}\r\n\n{"path": "b.jpg", "title": "b"}')
    assert [(record.path, record.title) for record in load(tmp_path)] == [("a.jpg", ""), ("b.jpg", "b")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "one JSON object"),
        pytest.param("[" * 100_000, "one JSON object", id="brackets"),
        ('["a.jpg"]', "JSON object, got list"),
        ('{"path": "a.jpg", "titel": "x"}', "unknown field titel"),
        ('{"path": "a.jpg", "title": 3}', "title must be a string"),
        ('{"path": "a.jpg", "tags": "fruit"}', "tags must be a list"),
        ('{"path": "a.jpg", "tags": [1]}', "tags must be a list"),
        ('{"title": "x"}', "path must be relative"),
        ('{"path": "/etc/passwd"}', "path must be relative"),
        ('{"path": "a/../../b.jpg"}', "path must be relative"),
        ('{"path": "first.jpg"}', "line 1 already"),
    ],
)
def test_load_names_the_line_of_a_bad_record(tmp_path: Path, line: str, said: str) -> None:
    """A record that is not right is refused with file, line number and the reason."""
    (tmp_path / "pictures.jsonl").write_text('{"path": "first.jpg"}\n\n' + line + "\n")
    with pytest.raises(ArgumentInvalid, match=r"pictures\.jsonl:3: .*" + said.replace(".", r"\.")):
        load(tmp_path)


def test_load_names_the_line_that_is_not_utf_8(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused with their line."""
    (tmp_path / "pictures.jsonl").write_bytes(b'{"path": "a.jpg"}\n{"path": "\xff\xfe.jpg"}\n')
    with pytest.raises(ArgumentInvalid, match="jsonl:2"):
        load(tmp_path)


def test_load_says_what_to_do_without_records(tmp_path: Path) -> None:
    """A directory without records is refused with the command that builds a corpus."""
    with pytest.raises(ArgumentInvalid, match=r"python -m bowerbird\.corpora"):
        load(tmp_path)
