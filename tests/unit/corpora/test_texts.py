from pathlib import Path

import pytest

from bowerbird.corpora.texts import TEXTS_FILE, TextRecord, load_texts, save_texts
from bowerbird.errors import ArgumentInvalid


def test_texts_come_back_as_saved(tmp_path: Path) -> None:
    """Fields, languages and characters survive, in order."""
    texts = [TextRecord("a.png", "tags", "", 'say "hi", \\ 梨'), TextRecord("a.png", "title:de", "de", "Köchin")]
    save_texts(tmp_path, texts)
    assert load_texts(tmp_path) == texts


def test_no_texts_are_an_empty_file(tmp_path: Path) -> None:
    """A corpus without words has an empty table."""
    save_texts(tmp_path, [])
    assert load_texts(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"picture": "a.png", "field": "tags", "text": "x"}',
        '{"picture": "a.png", "field": "tags", "language": null, "text": "x"}',
        '{"picture": "a.png", "field": "tags", "language": "", "text": "x", "score": ""}',
    ],
)
def test_load_texts_names_the_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    """A damaged line is refused with file and number."""
    good = '{"picture": "a.png", "field": "tags", "language": "", "text": "x"}'
    (tmp_path / TEXTS_FILE).write_text(f"{good}\n\n{line}\n")
    with pytest.raises(ArgumentInvalid, match=r"texts\.jsonl:3"):
        load_texts(tmp_path)


def test_load_texts_says_how_to_get_them(tmp_path: Path) -> None:
    """A corpus that was built before there were texts is told what to do."""
    with pytest.raises(ArgumentInvalid, match="keeps the pictures"):
        load_texts(tmp_path)
