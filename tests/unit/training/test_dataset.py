"""Tables of pictures: the same from Parquet, JSON lines and CSV, and errors that say what is there."""

import csv
import json

import numpy as np
import pytest

from bowerbird.errors import ArgumentInvalid, ItemNotFound
from bowerbird.training.dataset import PictureFiles, PictureTable

RECORDS = [
    {"picture": "a.png", "category": "animal", "tags": ["cat", "Katze"], "split": "train"},
    {"picture": "sub/b.png", "category": None, "tags": ["pear", "fruit"], "split": "test"},
    {"picture": "c.png", "category": "food", "tags": None, "split": "train"},
]


def write_parquet(path, records):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(records), path)


def write_jsonl(path, records):
    lines = [json.dumps({name: value for name, value in record.items() if value is not None}) for record in records]
    path.write_text("\n\n".join(lines) + "\n")


def write_csv(path, records):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        for record in records:
            writer.writerow({k: "|".join(v) if isinstance(v, list) else v for k, v in record.items()})


@pytest.fixture(params=[write_parquet, write_jsonl, write_csv], ids=["parquet", "jsonl", "csv"])
def file(request, tmp_path):
    path = tmp_path / f"table.{request.node.callspec.id}"
    request.param(path, RECORDS)
    return path


def test_every_format_has_the_same_rows(file):
    table = PictureTable.from_file(file)
    assert len(table) == 3
    assert table.columns == ["category", "tags", "split"]
    assert table.paths == ["a.png", "sub/b.png", "c.png"]
    for name in table.columns:
        assert table.column(name) == [record[name] for record in RECORDS]


def test_only_the_columns_asked_for_are_loaded_and_another_may_hold_the_picture(file):
    table = PictureTable.from_file(file, picture_column="split", columns=["category"])
    assert table.columns == ["category"]
    assert table.paths == ["train", "test", "train"]


def test_a_missing_column_is_named_with_those_that_exist(file):
    for call in (
        lambda: PictureTable.from_file(file, columns=["colour"]),
        lambda: PictureTable.from_file(file, picture_column="colour"),
    ):
        with pytest.raises(ArgumentInvalid, match="expected a column `colour`; its columns are `picture`, `category`"):
            call()
    with pytest.raises(ArgumentInvalid, match="expected a column `colour`; its columns are `category`, `tags`"):
        PictureTable.from_file(file).column("colour")


def test_pictures_are_read_below_the_root(file, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.png").write_bytes(b"bytes")
    assert PictureTable.from_file(file).read(1) == b"bytes"
    assert PictureTable.from_file(file, root=tmp_path).read(1) == b"bytes"
    with pytest.raises(ItemNotFound, match=r"elsewhere/sub/b\.png"):
        PictureTable.from_file(file, root=tmp_path / "elsewhere").read(1)


def test_selections_nest_and_keep_rows_together(tmp_path):
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(bytes([n]))
    table = PictureTable(PictureFiles(tmp_path, [f"{n}.png" for n in range(6)]), {"n": list(range(6))})
    odd = table.select(np.arange(6) % 2 == 1)
    part = odd.select([2, 0, 0])
    assert (odd.column("n"), part.column("n")) == ([1, 3, 5], [5, 1, 1])
    assert part.paths == ["5.png", "1.png", "1.png"]
    assert [part.read(row) for row in range(3)] == [b"\x05", b"\x01", b"\x01"]
    assert part.name(0) == "5.png"
    assert len(table.select([])) == 0


def test_numbers_keep_their_type_where_the_format_has_one(tmp_path):
    path = tmp_path / "table.jsonl"
    write_jsonl(path, [{"picture": "a", "n": 3, "x": 0.5, "w": [1.0, 2.0]}])
    table = PictureTable.from_file(path)
    assert [table.column(name) for name in ("n", "x", "w")] == [[3], [0.5], [[1.0, 2.0]]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("table.xlsx", "", r"expected a table \.parquet \| \.jsonl \| \.csv"),
        ("table.jsonl", '{"picture": "a"}\n{"pict', "line 2"),
        ("table.jsonl", "[1]\n", "line 1: expected an object"),
        ("table.jsonl", '{"picture": "a"}\n{"other": 1}\n', "row 1: expected a path in `picture`, got None"),
        ("table.jsonl", '{"picture": 7}\n', "got 7"),
        ("table.csv", "picture,label\na,b,c\n", "line 2: expected 2 values as in the header, got 3"),
        ("table.csv", "", "its columns are none"),
        ("table.parquet", "no parquet", "expected a Parquet file"),
    ],
)
def test_damaged_tables_are_refused_by_line(tmp_path, name, content, words):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(content)
    with pytest.raises(ArgumentInvalid, match=words):
        PictureTable.from_file(tmp_path / name)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArgumentInvalid, match=r"expected a table at .*none\.csv"):
        PictureTable.from_file(tmp_path / "none.csv")


def test_columns_have_one_value_a_picture(tmp_path):
    with pytest.raises(ArgumentInvalid, match=r"columns\.x: expected 2 values, one a picture, got 1"):
        PictureTable(PictureFiles(tmp_path, ["a", "b"]), {"x": [1]})
