"""Packing a table into shards by the command, and reading them as a table again."""

import json

import numpy as np
import pytest
from PIL import Image

from bowerbird.errors import ArgumentInvalid
from bowerbird.training.shards import open_table
from pipelines import shards


@pytest.fixture
def file(tmp_path):
    for n in range(3):
        Image.fromarray(np.full((4, 4, 3), n, np.uint8)).save(tmp_path / f"{n}.png")
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps({"image": f"{n}.png", "label": f"l{n}"}) + "\n" for n in range(3)))
    return path


def test_a_table_becomes_a_folder_of_shards_that_reads_like_it(file, tmp_path, capsys):
    out = tmp_path / "shards"
    command = [str(file), "--picture-column", "image", "--out", str(out), "--pictures-per-shard", "2"]
    assert shards.main(command) == 0
    assert capsys.readouterr().out.startswith(f"3 pictures -> 2 shards in {out}")
    packed = open_table(out)
    assert packed.paths == ["0.png", "1.png", "2.png"]
    assert packed.column("label") == ["l0", "l1", "l2"]
    assert packed.read(2) == (tmp_path / "2.png").read_bytes()
    assert len(open_table(out / "shard-000001.tar")) == 1
    assert len(open_table(file, picture_column="image")) == 3


def test_what_is_wrong_is_said_and_nothing_is_packed(file, tmp_path, capsys):
    assert shards.main([str(file), "--out", str(tmp_path / "shards")]) == 1
    assert "expected a column `picture`" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()
    with pytest.raises(ArgumentInvalid, match="expected shards"):
        open_table(tmp_path)
