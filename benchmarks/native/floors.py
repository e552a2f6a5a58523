"""Probes of what one thread of this machine can do at best, to be timed in turns with a kernel.

Each function tries the variants of its probe, and returns a closure of the fastest, or None (and says so once) where
there is no C++ compiler or no probe for the processor. ctypes releases the GIL around the call.

Run: python -m benchmarks.native.floors   (prints the figures of this machine)
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks import report

HERE = Path(__file__).parent
BUILD = report.REPOSITORY / "build/benchmarks"
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-shared")
READS = tuple(itertools.product((1, 2, 4, 8, 16), (0, 1024, 4096)))  # streams, bytes prefetched ahead
READ_TRIAL_BYTES = 256 << 20
GATHER_AHEAD_BYTES = (0, 1024, 2048, 4096, 8192, 16384)
GATHER_TRIAL = 8192  # rows
CACHES = (1, 2)  # the level a row is prefetched into
TILES = ((4, 1), (4, 2), (8, 1), (8, 2), (16, 1))  # queries, groups of codes
POPCOUNT_TRIAL = 1 << 20  # pairs
BLOCK_BYTES = 16 << 10  # of codes: half of the smallest L1 cache
TRIALS = 7
MOST_AVX2_WORDS = 31
FOLD, DATA, SIZE, INT = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
POPCOUNT = {"popcount_lanes": (SIZE,), "popcount_tiles": (FOLD, DATA, SIZE, DATA, SIZE, SIZE, INT, INT)}
SIGNATURES = {  # by source file: result and parameters of each function
    "floors.cpp": {
        "sequential_read": (FOLD, DATA, SIZE, INT, SIZE),
        "gather_read": (FOLD, DATA, SIZE, DATA, DATA, SIZE, SIZE, INT),
    },
    "popcount_avx2.cpp": POPCOUNT,
    "popcount_avx512.cpp": POPCOUNT,
}

Array = npt.NDArray[Any]
Probe = Callable[[], object]
Choice = TypeVar("Choice")


def sequential_read(array: Array) -> Probe | None:
    """Reads the contiguous array from begin to end."""
    if not array.flags.c_contiguous:
        raise ValueError("array: expected a contiguous one")
    library = load("floors.cpp")
    if library is None:
        return None

    def read(how: tuple[int, int], size: int) -> Probe:
        return lambda: library.sequential_read(array.ctypes.data, size, *how)

    return read(_fastest(READS, lambda how: read(how, min(array.nbytes, READ_TRIAL_BYTES))), array.nbytes)


def gather_read(rows: Array, ids: Iterator[Array], scales: Array | None = None) -> Probe | None:
    """Reads whole rows by id, and their scales if there are any, the next ids at each call, with software prefetch.

    Args:
        rows: (N, D), contiguous, a row of a multiple of 16 bytes.
        ids: endless; int64 arrays of any shape, values in [0, N). `itertools.cycle` over enough of them keeps the rows
            out of the caches.
        scales: (N,) float32, contiguous. A scale is a cache line more to a row.
    """
    row_bytes = rows.nbytes // len(rows)
    if row_bytes % 16 or not rows.flags.c_contiguous:
        raise ValueError(f"rows: expected contiguous ones of a multiple of 16 bytes, got {row_bytes} bytes")
    if scales is not None and (scales.dtype != np.float32 or not scales.flags.c_contiguous or len(scales) != len(rows)):
        raise ValueError("scales: expected as many contiguous float32 as there are rows")
    library = load("floors.cpp")
    if library is None:
        return None
    rng = np.random.default_rng(0)
    places = rows.ctypes.data, row_bytes, None if scales is None else scales.ctypes.data

    def gather(batch: Array, how: tuple[int, int]) -> object:
        batch = np.ascontiguousarray(batch, np.int64)
        return library.gather_read(*places, batch.ctypes.data, batch.size, *how)

    def trial(how: tuple[int, int]) -> Probe:
        fresh = iter(rng.integers(0, len(rows), (TRIALS + 1, GATHER_TRIAL)))
        return lambda: gather(next(fresh), how)

    distances = sorted({-(-ahead // row_bytes) for ahead in GATHER_AHEAD_BYTES})
    best = _fastest(tuple(itertools.product(distances, CACHES)), trial)
    return lambda: gather(next(ids), best)


def tiled_popcount(num_codes: int, code_bytes: int, num_queries: int) -> Probe | None:
    """Counts the differing bits of num_codes x num_queries pairs, of operands that never leave the L1 cache.

    It is a floor of the arithmetic alone: no distance is kept, and nothing is compared with a threshold.
    """
    if code_bytes % 8:
        raise ValueError(f"code_bytes: expected a multiple of 8, got {code_bytes}")
    words = code_bytes // 8
    source = popcount_source(words)
    library = load(source) if source is not None else None
    if library is None:
        return None
    rng = np.random.default_rng(0)
    lanes = int(library.popcount_lanes())
    groups = max(2, BLOCK_BYTES // (code_bytes * lanes) // 2 * 2)
    block = rng.integers(0, 2**63, groups * lanes * words, dtype=np.uint64)
    queries = rng.integers(0, 2**63, max(tile for tile, _ in TILES) * words, dtype=np.uint64)

    def count(how: tuple[int, int], pairs: int) -> Probe:
        rounds = -(-pairs // (groups * lanes * how[0]))
        return lambda: library.popcount_tiles(block.ctypes.data, groups, queries.ctypes.data, words, rounds, *how)

    return count(_fastest(TILES, lambda how: count(how, POPCOUNT_TRIAL)), num_codes * num_queries)


def popcount_source(words: int) -> str | None:
    """The source file of the popcount for codes of so many words on this processor."""
    flags = _processor_flags()
    if "avx512_vpopcntdq" in flags:
        return "popcount_avx512.cpp"
    if "avx2" in flags and words <= MOST_AVX2_WORDS:
        return "popcount_avx2.cpp"
    _note("no floor of the popcount: it is written for AVX-512 VPOPCNTDQ, and for AVX2 up to 31 words a code")
    return None


@functools.cache
def load(source: str) -> ctypes.CDLL | None:
    """The probes of one source file, compiled unless they were; None where that cannot be done."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    texts = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.[ch]pp")))
    how = " ".join([*compiler, *FLAGS, *_processor_flags()])
    path = BUILD / f"{Path(source).stem}-{hashlib.sha256(texts + how.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            subprocess.run([*compiler, *FLAGS, str(HERE / source), "-o", str(unfinished)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            _note(f"no floors from {source}: {error}")
            return None
        unfinished.rename(path)
    library = ctypes.CDLL(str(path))
    for name, (result, *parameters) in SIGNATURES[source].items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
    return library


def _fastest(choices: Sequence[Choice], make_probe: Callable[[Choice], Probe]) -> Choice:
    """The choice whose probe had the shortest of TRIALS times, taken in turns after one call to warm up."""
    probes = [make_probe(choice) for choice in choices]
    best = [float("inf")] * len(probes)
    for probe in probes:
        probe()
    for _ in range(TRIALS):
        for i, probe in enumerate(probes):
            start = time.perf_counter()
            probe()
            best[i] = min(best[i], time.perf_counter() - start)
    return choices[best.index(min(best))]


@functools.cache
def _processor_flags() -> tuple[str, ...]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return tuple(sorted(flags.split()))


@functools.cache
def _note(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Print bandwidth, the time of a gathered row and the time of a pair of codes, best and median."""
    data = np.ones((1 << 30) // 8, np.uint64)
    for size in (32_000_000, data.nbytes):
        probe, show = sequential_read(data[: size // 8]), functools.partial(_rate, size)
        _print(f"sequential read of {size / 1e6:.0f} MB", probe, show)
    rng, count = np.random.default_rng(1), 64_000
    for row_bytes in (256, 512, 768, 1024, 1536, 2560, 3072):
        rows = data[: len(data) // (row_bytes // 8) * (row_bytes // 8)].reshape(-1, row_bytes // 8)
        ids = itertools.cycle(rng.integers(0, len(rows), (16, count)))
        _print(f"gather of {row_bytes} B", gather_read(rows, ids), functools.partial(_time_each, count))
    pairs = 1 << 22
    for bits in (256, 1024):
        probe = tiled_popcount(pairs, bits // 8, 1)
        _print(f"popcount of a pair of {bits} bits", probe, functools.partial(_time_each, pairs))


def _rate(size: int, seconds: float) -> str:
    return f"{size / seconds / 1e9:.1f} GB/s"


def _time_each(count: int, seconds: float) -> str:
    return f"{seconds / count * 1e9:.3g} ns"


def _print(name: str, probe: Probe | None, show: Callable[[float], str]) -> None:
    if probe is None:
        return
    seconds = sorted(report.interleave({name: probe}, 21)[name])
    print(f"{name}: {show(seconds[0])} best, {show(seconds[len(seconds) // 2])} median")


if __name__ == "__main__":
    main()
