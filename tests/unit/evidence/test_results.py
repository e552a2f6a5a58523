"""The file of results: what was written is found again, what was cut short is not."""

from pathlib import Path

import numpy as np
import pytest

from bowerbird.evaluation import Sample
from pipelines.evidence.results import Result, Results, describe_origin, digest


def make_result(arm: str, seed: int = 0, recipe: str = "r") -> Result:
    sample = Sample.of(np.array([1.0, 0.0, 0.5]), np.array([0, 0, 1]))
    return Result(arm, seed, recipe, {"P@1": sample}, {"confusion": [[1, 2], [3, 4]]}, describe_origin(1.5))


def test_a_result_survives_the_file(tmp_path: Path) -> None:
    """Sums by cluster, facts and origin come back, under arm, seed and recipe only."""
    file = tmp_path / "table.jsonl"
    Results(file).add(make_result("a"))
    read = Results(file)
    found = read.find("a", 0, "r")
    assert found is not None
    assert found.samples["P@1"].totals.tolist() == [[1.0, 0.5]]
    assert found.samples["P@1"].sizes.tolist() == [[2.0, 1.0]]
    assert found.facts["confusion"] == [[1, 2], [3, 4]]
    assert found.origin["seconds"] == 1.5
    assert found.origin["commit"]
    assert read.find("a", 1, "r") is None
    assert read.find("a", 0, "other recipe") is None


def test_a_line_cut_short_is_passed_over_and_the_next_one_kept(tmp_path: Path) -> None:
    """A kill in the middle of a write loses that result and no other, not the one written after it either."""
    file = tmp_path / "table.jsonl"
    results = Results(file)
    results.add(make_result("a"))
    results.add(make_result("b"))
    file.write_bytes(file.read_bytes()[:-40])
    again = Results(file)
    assert again.find("a", 0, "r") is not None
    assert again.find("b", 0, "r") is None
    again.add(make_result("c"))
    assert Results(file).find("c", 0, "r") is not None


@pytest.mark.parametrize("other", [{"a": 1, "b": 3}, {"a": 1}, [1, 2]])
def test_a_digest_stands_for_its_values(other: object) -> None:
    """The order of keys does not count, every value does."""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1, "b": 2}) != digest(other)
