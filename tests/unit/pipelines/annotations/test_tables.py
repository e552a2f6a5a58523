import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.tables import MAX_TEXT_CHARACTERS, PictureRow, TextRow, read_pictures, read_texts

ROWS = [
    {"picture": "a.png", "field": "title", "text": "Ein Hund", "language": "de"},
    {"picture": "b.png", "field": "tags", "text": "naïve, 犬\nsecond line", "language": ""},
]
EXPECTED = [TextRow("a.png", "title", "Ein Hund", "de"), TextRow("b.png", "tags", "naïve, 犬\nsecond line", "")]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path, suffix):
    counts = Counter()
    assert list(read_texts(write(tmp_path / f"texts.{suffix}", ROWS), counts)) == EXPECTED
    assert counts == {"rows": 2, "used": 2}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_the_language_and_other_columns_are_optional(tmp_path, suffix):
    rows = [{"picture": "a.png", "extra": "1", "field": "title", "text": "dog"}]
    assert list(read_texts(write(tmp_path / f"t.{suffix}", rows), Counter())) == [TextRow("a.png", "title", "dog")]


def test_a_dictionary_encoded_column_of_parquet_is_read(tmp_path):
    table = pa.table({"picture": ["a"], "field": pa.array(["tags"]).dictionary_encode(), "text": ["dog"]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert list(read_texts(tmp_path / "t.parquet", Counter())) == [TextRow("a", "tags", "dog")]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_rows_that_lack_something_are_counted_and_left_out(tmp_path, suffix):
    rows = [
        {"picture": "", "field": "title", "text": "text without picture"},
        {"picture": "a.png", "field": "title", "text": "  "},
        {"picture": "a.png", "field": "", "text": "dog"},
        {"picture": "a.png", "field": "title", "text": "dog"},
    ]
    counts = Counter()
    assert len(list(read_texts(write(tmp_path / f"t.{suffix}", rows), counts))) == 1
    assert counts == {"rows": 4, "used": 1, "no picture": 1, "no text": 1, "no field": 1}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_wrong_columns_are_named(tmp_path, suffix):
    path = write(tmp_path / f"t.{suffix}", [{"image": "a.png", "words": "dog"}])
    with pytest.raises(ArgumentInvalid, match=r"expected columns picture, field, text, got image, words"):
        list(read_texts(path, Counter()))


def test_a_row_that_is_not_utf8_is_counted_in_every_kind_of_table(tmp_path):
    csv_file, json_file, parquet_file = (tmp_path / f"t.{suffix}" for suffix in ("csv", "jsonl", "parquet"))
    csv_file.write_bytes(b'picture,field,text\na,tags,"caf\xe9\n, x"\nb,tags,caf\xc3\xa9\n')
    json_file.write_bytes(
        b'{"picture": "a", "field": "tags", "text": "caf\xe9"}\n'
        b'{"picture": "b", "field": "tags", "text": "caf\xc3\xa9"}\n'
    )
    text = pa.array([b"caf\xe9", "café".encode()], pa.binary())
    invalid = pa.StringArray.from_buffers(2, text.buffers()[1], text.buffers()[2])
    pq.write_table(pa.table({"picture": ["a", "b"], "field": ["tags", "tags"], "text": invalid}), parquet_file)
    for path in (csv_file, json_file, parquet_file):
        counts = Counter()
        assert list(read_texts(path, counts)) == [TextRow("b", "tags", "café")], path
        assert counts == {"rows": 2, "used": 1, "not UTF-8": 1}, path


def test_a_huge_text_is_cut_and_counted(tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        rows = [{"picture": "a", "field": "tags", "text": "word " * 100_000}]
        counts = Counter()
        (row,) = read_texts(write(tmp_path / f"t.{suffix}", rows), counts)
        assert len(row.text) == MAX_TEXT_CHARACTERS
        assert counts["cut"] == 1


def test_lines_that_are_not_objects_and_values_that_are_not_texts_are_counted(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"picture": "a", "field": "tags", "text": 3}\n[1]\n\n{"picture": "a", "field": "tags", "te')
    counts = Counter()
    assert list(read_texts(path, counts)) == []
    assert counts == {"rows": 3, "not a text": 1, "not JSON": 2}


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "missing.jsonl", "table.xls"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ArgumentInvalid, match=name):
        list(read_texts(tmp_path / name, Counter()))


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "t.parquet").write_text("picture,field,text")
    with pytest.raises(ArgumentInvalid, match=r"t\.parquet"):
        list(read_texts(tmp_path / "t.parquet", Counter()))


def test_pictures_take_their_group_from_the_family_of_their_concept(tmp_path):
    rows = [
        {"path": "a.png", "concept": "man-cook", "category": "people"},
        {"path": "b.png", "concept": "woman-cook", "category": "people"},
    ]
    pictures = read_pictures(write(tmp_path / "p.jsonl", rows), Counter())
    assert pictures["a.png"].group == pictures["b.png"].group == "cook"
    assert pictures["a.png"].category == "people"


def test_pictures_may_have_groups_and_signatures_of_their_own(tmp_path):
    rows = [{"picture": "a.png", "group": "g", "signature": "s"}, {"picture": "", "group": "g", "signature": "s"}]
    counts = Counter()
    assert read_pictures(write(tmp_path / "p.csv", rows), counts) == {"a.png": PictureRow("a.png", "", "g", "s")}
    assert counts["no picture"] == 1
