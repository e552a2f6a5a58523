"""Resuming with something changed: refused where it would be wrong, told where it may be meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from services.embedder.continuity import list_changes  # noqa: E402
from services.embedder.train import main  # noqa: E402
from tests.unit.embedder.tiny_training import write_corpus  # noqa: E402

SHORT = ("--set", "optimizer.steps=2", "--set", "validation.every=0")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a run that stands at step 2."""
    path = write_corpus(tmp_path)
    assert main([str(path), *SHORT]) == 0
    return path


def resume(config: Path, *changes: str) -> int:
    return main([str(config), "--resume", "--set", "optimizer.steps=4", "--set", "validation.every=0", *changes])


def rewrite(config: Path, old: str, new: str) -> None:
    table = config.parent / "table.jsonl"
    table.write_text(table.read_text().replace(old, new))


def test_as_many_but_other_labels_are_refused(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every shape fits, and yet the rows of the head would stand for other labels."""
    rewrite(config, '"dark"', '"pale"')
    assert resume(config) == 2
    report = capfd.readouterr().err
    assert "the labels of shade are not those" in report
    assert f"model.init={config.parent / 'run'}" in report


def test_other_pictures_are_told(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same labels on other pictures, and the run goes on."""
    table = config.parent / "table.jsonl"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert resume(config) == 0
    assert "the table's training pictures or their labels have changed" in capfd.readouterr().err


def test_other_settings_are_told_and_taken(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the names that --set knows; a precision that is asked for goes before that of the state."""
    assert resume(config, "--set", "task.words.weight=2.0", "--set", "optimizer.precision=bf16") == 0
    report = capfd.readouterr().err
    assert "optimizer.steps: 2 -> 4" in report
    assert "task.words.weight: 1.0 -> 2.0" in report
    assert "step 2, bfloat16 on" in report
    assert json.loads((config.parent / "run/config.json").read_text())["optimizer"]["steps"] == 4


def test_nothing_is_told_where_nothing_changed(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same command again."""
    assert main([str(config), "--resume", *SHORT]) == 0
    assert "not quite" not in capfd.readouterr().err


def test_a_refused_run_leaves_the_directory_as_it_was(config: Path) -> None:
    """Its configuration is still that of the weights beside it, which export reads."""
    recorded = config.parent / "run/config.json"
    before = recorded.read_bytes()
    assert resume(config, "--set", "model.dimension=24") == 2
    assert recorded.read_bytes() == before


def test_the_end_says_which_weights_stand_there_and_what_comes_next(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The measures of the best step, and not those of the last one; also after resuming."""
    whole = config.parent / "whole run"
    arguments = [str(config), "--output", str(whole), "--set", "validation.every=1", "--set", "optimizer.steps=6"]
    assert main(arguments) == 0
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    best = max((row for row in rows if row["kind"] == "validation"), key=lambda row: (row["score"], -row["step"]))
    expected = f"the weights of step {best['step']}  concept/p_at_1 {best['measures']['concept/p_at_1']:.3f}"
    report = capfd.readouterr().err
    assert expected in report
    assert f"next: bowerbird export embedder '{whole}' --name" in report
    assert main([*arguments, "--resume"]) == 0
    assert expected in capfd.readouterr().err


def test_changes_are_listed_by_task() -> None:
    """A task that came and one that went."""
    old = {"seed": 0, "output": "a", "tasks": [{"name": "x", "weight": 1}]}
    new = {"seed": 0, "output": "b", "tasks": [{"name": "y", "weight": 1}]}
    assert list_changes(old, new) == [
        "task.y.name: None -> y",
        "task.y.weight: None -> 1",
        "task.x.name: x -> None",
        "task.x.weight: 1 -> None",
    ]
