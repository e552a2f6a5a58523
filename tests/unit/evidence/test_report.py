"""Tables and plots out of results: what stands in them is what was measured, under the right name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from PIL import Image

from bowerbird.evaluation import Sample
from pipelines.evidence import report
from pipelines.evidence.results import Result
from pipelines.evidence.study import Comparison, Study

ARMS = ("plain 1%", "better 1%", "plain 100%")


def make_study(**changes: Any) -> Study:
    values = {
        "name": "toy",
        "claim": "better is better",
        "arms": dict.fromkeys(ARMS),
        "measure": None,
        "comparisons": [Comparison("P@1", ARMS[0], ARMS[1]), Comparison("probe", ARMS[0], ARMS[1])],
    }
    return Study(**{**values, **changes})


def make_results() -> list[Result]:
    """Three seeds; `better` is better by 0.25 on every concept; only `plain` has a probe."""
    results = []
    for seed in range(3):
        hits = np.random.default_rng(seed).random(40) * 0.5
        for arm, gain in zip(ARMS, (0.0, 0.25, 0.5), strict=True):
            samples = {"P@1": Sample.of(hits + gain, np.arange(40))}
            if arm == ARMS[0]:
                samples["probe"] = Sample.of(hits, np.arange(40))
            results.append(Result(arm, seed, "r", samples, {}, {"commit": "abc", "machine": "here", "seconds": 2.0}))
    return results


def test_the_summary_holds_means_intervals_and_differences() -> None:
    """Each arm with its seeds; a comparison only where both arms have the measure."""
    results = make_results()
    summary = report.summarise(make_study(), results)
    assert [row["arm"] for row in summary["rows"]] == list(ARMS)
    first = summary["rows"][0]["measures"]["P@1"]
    by_hand = [float(one.samples["P@1"].mean) for one in results if one.arm == ARMS[0]]
    assert first["by_seed"] == pytest.approx(by_hand, abs=1e-4)
    assert first["value"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert first["interval"][0] < first["value"] < first["interval"][1]
    [compared] = summary["comparisons"]
    assert (compared["measure"], compared["baseline"], compared["arm"]) == ("P@1", *ARMS[:2])
    assert compared["difference"] == pytest.approx(0.25, abs=1e-4)
    assert compared["interval"][0] > 0
    assert summary["origin"] == ["commit abc, here"]
    assert summary["rows"][0]["seconds"] == 6


def test_an_arm_that_was_not_run_is_left_out() -> None:
    """A table that was stopped half way shows what there is."""
    some = [one for one in make_results() if one.arm != ARMS[1]]
    summary = report.summarise(make_study(), some)
    assert [row["arm"] for row in summary["rows"]] == [ARMS[0], ARMS[2]]
    assert summary["comparisons"] == []


def test_both_tables_show_every_arm_and_difference(tmp_path: Path) -> None:
    """Text and Markdown have the same figures, and every row of Markdown as many cells."""
    study = make_study()
    summary = report.write(study, make_results(), tmp_path / "results", tmp_path / "images")
    text, markdown = report.render_text(summary, study.shown), (tmp_path / "results" / "toy.md").read_text()
    for arm in ARMS:
        assert arm in text
        assert f"| {arm} | 3 |" in markdown
    assert "+0.250" in text
    assert "+0.250" in markdown
    first, second = markdown.split("\n\n")
    for table in (first, second):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert json.loads((tmp_path / "results" / "toy.json").read_text()) == summary


def test_a_plot_names_every_arm_at_its_own_height() -> None:
    """An arm without the measure leaves its row empty, and moves no other."""
    figure = Figure()
    axis = figure.subplots()
    rows = report.summarise(make_study(), make_results())["rows"]
    for row in (rows[0], rows[2]):
        row["measures"].pop("P@1")
    report._draw_dots(axis, "P@1", rows)
    assert [label.get_text() for label in axis.get_yticklabels()] == list(ARMS)
    heights = {float(height) for line in axis.get_lines() for height in line.get_ydata()}
    assert heights == {1.0}


def test_arms_with_an_order_become_lines() -> None:
    """One line for each group of arms, at the places of its arms."""
    figure = Figure()
    axis = figure.subplots()
    places = dict(zip(ARMS, (0.01, 0.01, 1.0), strict=True))
    rows = report.summarise(make_study(), make_results())["rows"]
    report._draw_lines(axis, "share", places, "P@1", rows)
    drawn = {str(box.get_label()): box.lines[0].get_xdata().tolist() for box in axis.containers}
    assert drawn == {"plain": [0.01, 1.0], "better": [0.01]}


@pytest.mark.parametrize("axis", [None, ("share", dict(zip(ARMS, (0.01, 0.02, 1.0), strict=True)))])
def test_the_plot_is_a_picture(tmp_path: Path, axis: Any) -> None:
    """A PNG of a sensible size that is not blank."""
    study = make_study(axis=axis)
    report.draw(study, report.summarise(study, make_results()), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert 300 < picture.width < 2000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10
