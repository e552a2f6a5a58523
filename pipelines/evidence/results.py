"""What was measured, a line of JSON a trained model: kept in git, so that tables can be made again from it.

A line holds sums by concept and not only means; the intervals of two models that are compared come from these.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.evaluation import Sample
from pipelines.origin import REPOSITORY, read_commit, read_processor

FOLDER = REPOSITORY / "benchmarks" / "results" / "papers"


@dataclass(frozen=True)
class Result:
    """One trained model, examined.

    Attributes:
        arm: what was tried.
        seed: of its training.
        recipe: digest of everything that decides the outcome; another one makes the result void.
        samples: by measure.
        facts: numbers and small matrices that are not means, e.g. a confusion matrix.
        origin: commit, machine, versions, time, seconds.
    """

    arm: str
    seed: int
    recipe: str
    samples: Mapping[str, Sample]
    facts: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        samples = {
            name: {"totals": _shorten(sample.totals[0]), "sizes": _shorten(sample.sizes[0])}
            for name, sample in self.samples.items()
        }
        document = {**vars(self), "samples": samples}
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Result:
        """What `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else, e.g. a line that a kill cut short.
        """
        document = json.loads(line)
        samples = {
            name: Sample(np.array([each["totals"]], np.float64), np.array([each["sizes"]], np.float64))
            for name, each in document["samples"].items()
        }
        return cls(**{**document, "samples": samples})


class Results:
    """The results of one table, in a file that only grows."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: list[Result] = []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                self._lines.append(Result.from_json(line))
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a kill; its arm is run again

    def find(self, arm: str, seed: int, recipe: str) -> Result | None:
        """The newest result of an arm and seed that was made by this recipe."""
        wanted = (arm, seed, recipe)
        return next((one for one in reversed(self._lines) if (one.arm, one.seed, one.recipe) == wanted), None)

    def add(self, result: Result) -> None:
        """Append a result; it is on the disk when this returns."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = self.file.read_text() if self.file.exists() else ""
        with self.file.open("a") as file:
            if text and not text.endswith("\n"):
                file.write("\n")
            file.write(result.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(result)


def digest(*parts: object) -> str:
    """12 hex digits that stand for these values, whatever their order in dictionaries."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def keep_array(file: Path, values: npt.NDArray[np.floating]) -> None:
    """Save an array; a kill leaves no half of it under this name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    np.save(temporary, values)
    temporary.rename(file)


def describe_origin(seconds: float) -> dict[str, Any]:
    """Commit, machine and time, as they belong beside every number."""
    processor = read_processor() or "unknown processor"
    return {
        "commit": read_commit(results=("benchmarks/results", "docs")),
        "machine": f"{processor}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
        "python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _shorten(values: Iterable[float]) -> list[float]:
    """Four decimals, whole numbers as such: a line has thousands of them."""
    rounded = [round(float(value), 4) for value in values]
    return [int(value) if value == int(value) else value for value in rounded]
