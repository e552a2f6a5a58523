"""Shards: what is written is read back, by us at random and by the webdataset library as a stream."""

import gc
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from bowerbird.errors import ArchiveRefused, ArgumentInvalid
from bowerbird.training.dataset import PictureFiles, PictureTable
from bowerbird.training.shards import read_shards, write_shards

FORMATS = ("PNG", "JPEG", "WEBP")
COLUMNS = {
    "category": ["animal", None, "food", "food", "plant"],
    "tags": [["cat", "Katze"], [], ["roter Apfel"], ["a", "b"], []],
    "score": [0.5, 1.0, None, 2.0, 3.0],
}


@pytest.fixture
def table(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for n in range(5):
        pixels = np.full((8 + n, 9, 3), 40 * n, np.uint8)
        Image.fromarray(pixels).save(root / f"{n}.picture.bin", FORMATS[n % 3])
    return PictureTable(PictureFiles(root, [f"{n}.picture.bin" for n in range(5)]), COLUMNS)


def assert_same(table, other):
    assert other.paths == table.paths
    assert {name: other.column(name) for name in other.columns} == {name: table.column(name) for name in table.columns}
    assert [other.read(row) for row in range(len(other))] == [table.read(row) for row in range(len(table))]


def test_what_is_written_is_read_back_in_order(table, tmp_path):
    paths = write_shards(table, tmp_path / "shards", prefix="birds", pictures_per_shard=2)
    assert [path.name for path in paths] == ["birds-000000.tar", "birds-000001.tar", "birds-000002.tar"]
    assert_same(table, read_shards(paths))


def test_a_part_of_the_rows_in_another_order_can_be_written_and_read(table, tmp_path):
    part = table.select([4, 1, 2])
    assert_same(part, read_shards(write_shards(part, tmp_path)))
    whole = read_shards(write_shards(table, tmp_path / "whole", pictures_per_shard=2))
    assert_same(part, whole.select([4, 1, 2]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_webdataset_library_streams_our_shards(table, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = write_shards(table, tmp_path, pictures_per_shard=3)
    samples = list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{n:09d}" for n in range(5)]
    gc.collect()  # the files that the library leaves open: here, not in the next test
    for row, sample in enumerate(samples):
        assert sample[("png", "jpg", "webp")[row % 3]] == table.read(row)
        labels = json.loads(sample["json"])
        assert labels == {"picture": table.name(row)} | {name: values[row] for name, values in COLUMNS.items()}


def test_we_read_the_shards_of_the_webdataset_library(tmp_path, table):
    webdataset = pytest.importorskip("webdataset")
    path = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for n in range(3):
            labels = {"json": {"label": f"l{n}"}, "txt": "passed over"}
            writer.write({"__key__": f"folder.v1/key{n}", "png": table.read(0)} | labels)
    ours = read_shards([path])
    assert ours.paths == ["folder.v1/key0", "folder.v1/key1", "folder.v1/key2"]
    assert ours.column("label") == ["l0", "l1", "l2"]
    assert ours.read(2) == table.read(0)


def test_the_same_table_gives_the_same_bytes(table, tmp_path):
    [one], [other] = write_shards(table, tmp_path / "one"), write_shards(table, tmp_path / "other")
    assert one.read_bytes() == other.read_bytes()


def test_the_index_is_kept_and_made_anew_when_the_shard_changes(table, tmp_path):
    [path] = write_shards(table, tmp_path)
    read_shards([path])
    index = tmp_path / "shard-000000.tar.index.json"
    kept = json.loads(index.read_text())
    index.write_text(json.dumps(kept | {"keys": ["changed", *kept["keys"][1:]]}))
    kept_names = json.loads(index.read_text())["keys"]
    read_shards([path])
    assert json.loads(index.read_text())["keys"] == kept_names  # used as it is
    write_shards(table.select([0]), tmp_path)
    assert len(read_shards([path])) == 1
    index.write_text("{}")
    assert len(read_shards([path])) == 1


def test_a_folder_that_cannot_be_written_needs_no_index_file(table, tmp_path, monkeypatch):
    [path] = write_shards(table, tmp_path)
    monkeypatch.setattr(type(path), "write_text", lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
    assert_same(table, read_shards([path]))
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


def make_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.png": b"x"}, "sample 'a': expected a JSON object"),
        ({"a.json": b"{}"}, "sample 'a': expected a picture"),
        ({"a.png": b"x", "a.json": b"[1]"}, "a.json: expected a JSON object, got list"),
        ({"a.png": b"x", "a.json": b"{"}, "a.json"),
    ],
)
def test_samples_that_are_not_whole_are_named(tmp_path, members, words):
    with pytest.raises(ArchiveRefused, match=words):
        read_shards([make_tar(tmp_path / "odd.tar", members)])


def test_damaged_shards_are_refused(table, tmp_path):
    [path] = write_shards(table, tmp_path)
    whole = path.read_bytes()
    opened = read_shards([path])
    for content in (b"no tar at all" * 100, whole[:700], b""):
        path.write_bytes(content)
        with pytest.raises(ArchiveRefused, match="whole and not compressed"):
            read_shards([path])
    with pytest.raises(ArchiveRefused, match="was cut"):
        opened.read(4)
    path.unlink()
    with pytest.raises(ArchiveRefused, match="expected the shard"):
        opened.read(0)
    with pytest.raises(ArchiveRefused, match="expected a shard at"):
        read_shards([path])


def test_what_cannot_be_written_is_named(table, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ArgumentInvalid, match=r"text\.png: expected a JPEG"):
        write_shards(PictureTable(PictureFiles(tmp_path, ["text.png"]), {}), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))
    with pytest.raises(ArgumentInvalid, match="pictures_per_shard"):
        write_shards(table, tmp_path, pictures_per_shard=0)
