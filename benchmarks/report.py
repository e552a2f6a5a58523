"""What every benchmark shares: the environment, the interleaved clock, the table, JSON lines and the results file.

A benchmark checks correctness first, hands `compare` (or `interleave`) one closure a contender, and gives its rows to
`publish`. Times are seconds inside and milliseconds in rows (`..._ms`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pipelines.origin import read_commit, read_processor

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "bowerbird", "numpy", "faiss-cpu", "onnxruntime", "pillow", "simplejpeg", "grpcio",
    "numba", "opencv-python-headless", "torch", "usearch",
)  # fmt: skip

# A call shorter than SHORT_CALL_S is repeated until a sample lasts SAMPLE_S: the clock itself takes about 0.1 us.
SHORT_CALL_S, SAMPLE_S = 50e-6, 200e-6
FEWEST_ROUNDS = 3  # whatever the budget: fewer have no median worth the name

Row = dict[str, Any]
Name = TypeVar("Name", bound=Hashable)


def environment(device: Row | None = None) -> dict[str, Any]:
    """Commit, time, machine, versions and the accelerator if one was used, as they belong beside every number."""
    return {
        "commit": read_commit(results=("benchmarks/results",)),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": read_processor() or "unknown",
            "architecture": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load_average": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        **({"device": device} if device else {}),
    }


def interleave(
    functions: Mapping[Name, Callable[[], object]], repeats: int, *, budget_s: float = math.inf
) -> dict[Name, list[float]]:
    """Seconds a call took, `repeats` samples a function, the functions taking turns after two warm-up calls each.

    Taking turns lets a busy neighbour slow all contenders alike; the order flips every round, so that none always
    runs with the caches its predecessor left. A sample of a very short call is the mean of several in a row.

    Args:
        functions: the contenders by name.
        repeats: rounds at most.
        budget_s: no round starts after so many seconds, once there are FEWEST_ROUNDS (or `repeats`).
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    calls = {name: _calls_a_sample(function) for name, function in functions.items()}
    samples: dict[Name, list[float]] = {name: [] for name in functions}
    started = time.perf_counter()
    for round_ in range(repeats):
        if round_ >= FEWEST_ROUNDS and time.perf_counter() - started > budget_s:
            break
        names = list(functions)[:: 1 if round_ % 2 == 0 else -1]
        for name in names:
            samples[name].append(_seconds_a_call(functions[name], calls[name]))
    return samples


def compare(
    name: str,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    floors: Mapping[str, Callable[[], object] | None] | None = None,
    budget_s: float = math.inf,
) -> list[Row]:
    """One row a peer, all measured in turns; the caller has compared the outputs.

    Args:
        name: kernel and input, the same in each row.
        ours: our kernel.
        peers: who computes the same.
        repeats: rounds at most.
        floors: probes of what the machine can do at best (`benchmarks.native.floors`); the slowest of them binds. One
            that cannot run here is None.
        budget_s: as in `interleave`.
    """
    probes = {floor: probe for floor, probe in (floors or {}).items() if probe is not None}
    contenders = {("ours", name): ours}
    contenders |= {("peer", peer): function for peer, function in peers.items()}
    contenders |= {("floor", floor): probe for floor, probe in probes.items()}
    samples = interleave(contenders, repeats, budget_s=budget_s)
    return make_rows(
        name,
        samples["ours", name],
        {peer: samples["peer", peer] for peer in peers},
        {floor: samples["floor", floor] for floor in probes},
    )


def make_rows(
    name: str,
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    floors: Mapping[str, Sequence[float]],
) -> list[Row]:
    """One row a peer out of seconds measured.

    `ratio` is peer / ours of the medians (above 1, ours is faster), `ratio_of_minima` the same of the fastest samples,
    `best_peer` true in the row of the fastest peer. `floor_ms` is the median of the floor that binds, `of_floor` is
    ours / floor (1 is the limit of the machine); both are null where no floor is defined.
    """
    if not peers:
        raise ValueError("peers: expected at least one; a time by itself says nothing")
    mine = spread(ours)
    others = {peer: spread(seconds) for peer, seconds in peers.items()}
    fastest = min(others, key=lambda peer: others[peer]["median"])
    limit = _binding_floor(mine, {floor: spread(seconds) for floor, seconds in floors.items()})
    return [
        {
            "name": name,
            "ours_ms": mine["median"],
            "peer": peer,
            "peer_ms": other["median"],
            "ratio": round(other["median"] / mine["median"], 2),
            "ratio_of_minima": round(other["min"] / mine["min"], 2),
            "best_peer": peer == fastest,
            **limit,
            "rounds": len(ours),
            "ours_spread_ms": mine,
            "peer_spread_ms": other,
        }
        for peer, other in others.items()
    ]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum in milliseconds, four significant digits."""
    measured = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}
    return {name: float(f"{value * 1e3:.4g}") for name, value in measured.items()}


def publish(name: str, rows: Iterable[Row], *, as_json: bool, keep: bool = True, device: Row | None = None) -> None:
    """Print each row as soon as it comes, as a JSON object a line or as a table; write them to the results folder.

    Args:
        name: of the results file.
        rows: measured while they are asked for.
        as_json: nothing but rows is printed.
        keep: False where only a part was measured; the file with the whole stays.
        device: the accelerator that was measured.
    """
    if not as_json:
        print(json.dumps(environment(device)), flush=True)
    measured = []
    for row in rows:
        measured.append(row)
        print(json.dumps(row) if as_json else _line(row), flush=True)
    if keep:
        path = write(name, measured, device)
        if not as_json:
            print(f"wrote {path}")


def write(name: str, rows: Sequence[Row], device: Row | None = None) -> Path:
    """Path of the JSON file with the environment and the rows: benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"name": name, "environment": environment(device), "rows": list(rows)}
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The two switches every benchmark has: --quick (fewer, smaller samples) and --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller samples")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row instead of a table")
    return parser


def _calls_a_sample(function: Callable[[], object]) -> int:
    """How often a sample calls the function, after a warm-up call and one that is timed."""
    function()
    seconds = _seconds_a_call(function, 1)
    return 1 if seconds >= SHORT_CALL_S else math.ceil(SAMPLE_S / max(seconds, 1e-9))


def _seconds_a_call(function: Callable[[], object], calls: int) -> float:
    if calls == 1:  # no loop around the one call
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def _binding_floor(mine: Mapping[str, float], floors: Mapping[str, dict[str, float]]) -> Row:
    """The part of a row about its floor: the slowest of several lower bounds is the one that binds."""
    if not floors:
        return {"floor": None, "floor_ms": None, "of_floor": None, "of_floor_of_minima": None}
    binding = max(floors, key=lambda floor: floors[floor]["median"])
    limit = floors[binding]
    return {
        "floor": binding,
        "floor_ms": limit["median"],
        "of_floor": round(mine["median"] / limit["median"], 2),
        "of_floor_of_minima": round(mine["min"] / limit["min"], 2),
        "floor_spread_ms": limit,
    }


def _line(row: Row) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.items() if not isinstance(value, dict))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
