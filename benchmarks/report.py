"""What every benchmark shares: the environment, the interleaved clock, the table and the JSON file.

A benchmark checks correctness first, hands `interleave` one closure a contender, and writes rows with `write`. Times
are seconds inside and milliseconds in rows (`..._ms`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("bowerbird", "numpy", "faiss-cpu", "onnxruntime", "pillow", "simplejpeg", "grpcio")

Row = dict[str, Any]


def environment() -> dict[str, Any]:
    """Commit, time, machine and versions, as they belong beside every number."""
    return {
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "architecture": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load_average": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def interleave(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds a call took, `repeats` samples a function, the functions taking turns after one warm-up call each.

    Taking turns lets a busy neighbour slow all contenders alike; the order flips every round, so that none always
    runs with the caches its predecessor left.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    for function in functions.values():
        function()
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(repeats):
        names = list(functions)[:: 1 if round_ % 2 == 0 else -1]
        for name in names:
            start = time.perf_counter()
            functions[name]()
            samples[name].append(time.perf_counter() - start)
    return samples


def compare(
    name: str, ours: Callable[[], object], peers: Mapping[str, Callable[[], object]], repeats: int
) -> list[Row]:
    """One row a peer: name, ours_ms, peer, peer_ms, ratio (peer / ours of the medians) and min / median / max."""
    samples = interleave({"bowerbird": ours, **peers}, repeats)
    mine = _spread(samples["bowerbird"])
    rows: list[Row] = []
    for peer in peers:
        other = _spread(samples[peer])
        rows.append(
            {
                "name": name,
                "ours_ms": mine["median"],
                "peer": peer,
                "peer_ms": other["median"],
                "ratio": round(other["median"] / mine["median"], 2),
                "ours_spread_ms": mine,
                "peer_spread_ms": other,
            }
        )
    return rows


def write(name: str, rows: Sequence[Row]) -> Path:
    """Path of the JSON file with the environment and the rows: benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"name": name, "environment": environment(), "rows": list(rows)}, indent=2) + "\n")
    return path


def publish(name: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the environment and the rows, as one JSON document or as a table; write them to the results folder."""
    path = write(name, rows)
    if as_json:
        print(path.read_text(), end="")
        return
    print(json.dumps(environment()))
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items() if not isinstance(value, dict)))
    print(f"wrote {path}")


def parse_arguments(description: str | None) -> argparse.Namespace:
    """The two switches every benchmark has: --quick (fewer, smaller samples) and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller samples")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser.parse_args()


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "min": round(min(seconds) * 1e3, 4),
        "median": round(statistics.median(seconds) * 1e3, 4),
        "max": round(max(seconds) * 1e3, 4),
    }


def _commit() -> str:
    """The commit measured; `-dirty` if any file but the results themselves differs from it."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
