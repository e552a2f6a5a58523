from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import report


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def slow(calls: list[str], name: str, seconds: float = 1.1 * report.SHORT_CALL_S) -> None:
    """Note the call and take longer than a short one."""
    calls.append(name)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_the_contenders_take_turns_in_flipping_order() -> None:
    """After the warm-up each round calls every contender once, and the next round the other way round."""
    calls: list[str] = []

    samples = report.interleave({"a": lambda: slow(calls, "a"), "b": lambda: slow(calls, "b")}, 3)

    assert calls == ["a", "a", "b", "b", *"ab", *"ba", *"ab"]
    assert {name: len(seconds) for name, seconds in samples.items()} == {"a": 3, "b": 3}


def test_a_short_call_is_repeated_within_a_sample() -> None:
    """A call far below the resolution of the clock is called many times a sample, and a sample is the time of one."""
    calls: list[str] = []

    samples = report.interleave({"short": lambda: calls.append("short")}, 5)

    assert len(calls) > 5 * 10
    assert all(0 < seconds < report.SHORT_CALL_S for seconds in samples["short"])


def test_the_budget_ends_the_rounds_but_not_before_there_is_a_median() -> None:
    """With no time left there are still three rounds."""
    calls: list[str] = []

    samples = report.interleave({"a": lambda: slow(calls, "a")}, 1000, budget_s=0)

    assert len(samples["a"]) == report.FEWEST_ROUNDS


def test_at_least_one_round_is_asked_for() -> None:
    """Zero samples have no median."""
    with pytest.raises(ValueError, match="repeats"):
        report.interleave({"a": lambda: None}, 0)


def test_there_is_a_row_for_each_peer_and_one_of_them_is_the_best() -> None:
    """The ratios are peer / ours, and the peer with the smallest median is marked."""
    rows = report.make_rows("x", [1e-3, 2e-3, 9e-3], {"a": [8e-3, 8e-3, 8e-3], "b": [5e-3, 6e-3, 7e-3]}, {})

    assert [(row["peer"], row["ratio"], row["ratio_of_minima"], row["best_peer"]) for row in rows] == [
        ("a", 4.0, 8.0, False),
        ("b", 3.0, 5.0, True),
    ]
    assert rows[0]["ours_ms"] == 2.0
    assert rows[1]["peer_spread_ms"] == {"min": 5.0, "median": 6.0, "max": 7.0}


def test_a_row_needs_a_peer() -> None:
    """A time by itself says nothing."""
    with pytest.raises(ValueError, match="peers"):
        report.make_rows("x", [1e-3], {}, {})


def test_the_slowest_of_several_floors_binds() -> None:
    """A lower bound that lies below another says nothing."""
    (row,) = report.make_rows("x", [3e-3], {"a": [9e-3]}, {"read": [1e-3], "count": [2e-3]})

    assert (row["floor"], row["floor_ms"], row["of_floor"]) == ("count", 2.0, 1.5)


def test_without_a_floor_its_fields_are_null() -> None:
    """A row has the same fields with and without a floor, so that it can be read without looking."""
    (row,) = report.make_rows("x", [3e-3], {"a": [9e-3]}, {})

    assert row["floor_ms"] is None
    assert row["of_floor"] is None


def test_the_floor_is_measured_in_turns_with_the_others() -> None:
    """A probe is called as often as the kernel and between its calls; one that cannot run here is left out."""
    calls: list[str] = []

    rows = report.compare(
        "x",
        lambda: slow(calls, "ours"),
        {"a": lambda: slow(calls, "a")},
        2,
        floors={"probe": lambda: slow(calls, "floor"), "not on this machine": None},
    )

    assert calls[6:] == ["ours", "a", "floor", "floor", "a", "ours"]
    assert rows[0]["floor"] == "probe"


def test_a_peer_may_have_the_name_of_a_floor() -> None:
    """Contenders, peers and floors have names of their own."""
    calls: list[str] = []

    (row,) = report.compare(
        "x", lambda: slow(calls, "ours"), {"x": lambda: slow(calls, "a")}, 1, floors={"x": lambda: slow(calls, "b")}
    )

    assert (row["peer"], row["floor"]) == ("x", "x")
    assert calls[6:] == ["ours", "a", "b"]


def test_json_is_one_object_a_row_as_soon_as_it_is_measured(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first row is out before the second is measured, and nothing but rows is printed."""
    printed_before_the_second: list[str] = []

    def rows() -> Iterator[report.Row]:
        yield {"name": "first"}
        printed_before_the_second.append(capsys.readouterr().out)
        yield {"name": "second", "floor_ms": None}

    report.publish("x", rows(), as_json=True)

    assert [json.loads(line) for line in printed_before_the_second[0].splitlines()] == [{"name": "first"}]
    assert capsys.readouterr().out == '{"name": "second", "floor_ms": null}\n'


def test_the_results_are_one_document_with_the_environment(results: Path) -> None:
    """The file has what belongs beside every number."""
    report.publish("x", iter([{"name": "first"}]), as_json=False)

    document = json.loads((results / "x.json").read_text())
    assert document["rows"] == [{"name": "first"}]
    assert {"commit", "time", "machine", "versions"} <= document["environment"].keys()


def test_a_part_does_not_replace_the_whole(results: Path) -> None:
    """A run of some kernels leaves the results file as it was."""
    report.publish("x", iter([{"name": "first"}]), as_json=True, keep=False)

    assert not (results / "x.json").exists()
