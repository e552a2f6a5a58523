import json

import pyarrow.parquet as pq
import pytest

from pipelines.annotations.__main__ import main

from .conftest import THINGS, make_rows


@pytest.fixture
def texts(write_texts):
    return write_texts(make_rows(200))


def test_texts_become_annotations(texts, tmp_path, capsys):
    dictionary, scorer, out, report = (tmp_path / name for name in ("d.parquet", "s.json", "a.parquet", "r.json"))
    assert main(["build", str(texts), "--dictionary", str(dictionary), "--without", "title"]) == 0
    edited = tmp_path / "d.tsv"
    assert main(["convert", str(dictionary), str(edited)]) == 0
    assert set(THINGS) <= {line.split("\t")[0] for line in edited.read_text().splitlines()}
    common = [str(texts), "--dictionary", str(dictionary), "--scorer", str(scorer)]
    assert main(["train", *common, "--rounds", "10", "--report", str(report)]) == 0
    assert json.loads(report.read_bytes())["measures"]["scorer"]["AUC"]["value"] > 0.8
    assert main(["apply", *common, "--out", str(out), "--labels", "hide"]) == 0
    assert pq.read_table(out).num_rows > 0
    output = capsys.readouterr()
    assert "calibration error" in output.out
    assert "rows: 600" in output.err
    assert main(["apply", *common, "--out", str(out), "--labels", "hide"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_what_is_wrong_is_said_in_one_line(texts, tmp_path, capsys):
    assert main(["build", str(tmp_path / "no.csv"), "--dictionary", str(tmp_path / "d.parquet")]) == 1
    assert "no.csv" in capsys.readouterr().err
    assert main(["build", str(texts), "--dictionary", str(tmp_path / "d.parquet"), "--seed-fields", "none"]) == 1
    assert "empty one; lower the cuts" in capsys.readouterr().err
    assert not (tmp_path / "d.parquet").exists()


def test_a_sample_of_pictures_trains_as_well(texts, tmp_path, capsys):
    dictionary, scorer = tmp_path / "d.parquet", tmp_path / "s.json"
    assert main(["build", str(texts), "--dictionary", str(dictionary)]) == 0
    options = ["--max-pictures", "100", "--rounds", "5"]
    assert main(["train", str(texts), "--dictionary", str(dictionary), "--scorer", str(scorer), *options]) == 0
    trained = json.loads(scorer.read_bytes())["trained_on"]["counts"]
    assert 0 < trained["relevant"] <= 100


def test_detection_is_measured(texts, capsys):
    assert main(["languages", str(texts)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("all")


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {"build", "train", "apply", "convert", "languages"} <= set(capsys.readouterr().out.split())
