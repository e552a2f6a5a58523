"""What every benchmark of a CUDA kernel shares: the device's own clock, its copy bandwidth, and its description.

Times are those between two CUDA events on the current stream: what the device needed, with the host's launches where
these hold it up. torch is loaded only when something is measured, so that the module can be imported anywhere.
"""

from __future__ import annotations

import itertools
import math
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import report

COPY_BYTES = 1 << 30
COPY = "copy bandwidth"
# Written between samples: more than any L2 cache holds, and some 0.3 ms in which the host launches a whole call.
ERASED_BYTES = 1 << 30
SHORT_CALL_S, SAMPLE_S = 50e-6, 500e-6
WARM_UP_CALLS = 3
QUERIED = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")


def why_not() -> str | None:
    """Why nothing can be measured here; None where it can."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    return None if torch.cuda.is_available() else "no CUDA device"


def describe_device() -> report.Row:
    """Name, driver, clocks and power limit of the device, as they belong beside every number."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    described = {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "cuda": torch.version.cuda,
    }
    query = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(QUERIED)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return described
    return described | dict(zip(QUERIED, answer.strip().split(", "), strict=True))


def interleave(
    functions: Mapping[report.Name, Callable[[], object]], repeats: int, *, flush: bool = True
) -> dict[report.Name, list[float]]:
    """Seconds of the device a call took, `repeats` samples a function, the functions taking turns after a warm-up.

    Args:
        functions: the contenders by name; each works on the current stream.
        repeats: samples of each.
        flush: write over the L2 cache before each sample; the write also keeps the device busy until the host has
            launched the whole call. Without it, a sample of a short call is the mean of several in a row.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    import torch

    eraser = torch.empty(ERASED_BYTES, dtype=torch.uint8, device="cuda") if flush else None
    for function, _ in itertools.product(functions.values(), range(WARM_UP_CALLS)):
        function()
    calls = {name: 1 if flush else _calls_a_sample(function) for name, function in functions.items()}
    samples: dict[report.Name, list[float]] = {name: [] for name in functions}
    for round_ in range(repeats):
        for name in list(functions)[:: 1 if round_ % 2 == 0 else -1]:
            if eraser is not None:
                eraser.zero_()
            samples[name].append(_seconds_a_call(functions[name], calls[name]))
    return samples


def compare(
    name: str,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    floor_bytes: int | None = None,
    flush: bool = True,
) -> list[report.Row]:
    """One row a peer in the format of `report.compare`; the caller has compared the outputs.

    Args:
        name: kernel and input, the same in each row.
        ours: our kernel.
        peers: who computes the same.
        repeats: samples of each.
        floor_bytes: what the kernel must at least read and write; its floor is their share of a copy of COPY_BYTES
            that takes turns with the contenders.
        flush: as in `interleave`.
    """
    contenders: dict[tuple[str, str], Callable[[], object]] = {("ours", name): ours}
    contenders |= {("peer", peer): function for peer, function in peers.items()}
    if floor_bytes is not None:
        contenders["floor", COPY] = make_copy()
    samples = interleave(contenders, repeats, flush=flush)
    floors: dict[str, list[float]] = {}
    if floor_bytes is not None:
        share = floor_bytes / (2 * COPY_BYTES)  # a copy reads and writes
        floors[COPY] = [seconds * share for seconds in samples["floor", COPY]]
    peer_samples = {peer: samples["peer", peer] for peer in peers}
    rows = report.make_rows(name, samples["ours", name], peer_samples, floors)
    return [row | {"floor_bytes": floor_bytes} for row in rows]


def make_copy() -> Callable[[], object]:
    """A copy of COPY_BYTES from device memory to device memory."""
    import torch

    source = torch.randint(0, 256, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def copy_bytes_per_second(repeats: int = 21) -> float:
    """Bytes read plus bytes written a second by that copy, median."""
    seconds = sorted(interleave({COPY: make_copy()}, repeats)[COPY])
    return 2 * COPY_BYTES / seconds[len(seconds) // 2]


def _calls_a_sample(function: Callable[[], object]) -> int:
    seconds = _seconds_a_call(function, 1)
    return 1 if seconds >= SHORT_CALL_S else math.ceil(SAMPLE_S / max(seconds, 1e-9))


def _seconds_a_call(function: Callable[[], object], calls: int) -> float:
    import torch

    new_event: Callable[..., Any] = torch.cuda.Event
    start, end = new_event(enable_timing=True), new_event(enable_timing=True)
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls
