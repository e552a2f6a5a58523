"""Distances and indices of the nearest codes on a GPU, beside faiss where it has CUDA, and torch.

A row has two floors: `floor_ms`, the codes read once at the speed of a copy, and `popcount_floor_ms`, every word of
every pair counted at 16 a cycle and multiprocessor, at the highest clock of the device. The larger binds; our kernel
adds words before it counts (see scan.cu), so that it may pass the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

SEED = 20
CODES, MANY_CODES = 1_000_000, 50_000_000
K = 100
# codes, bits, queries
CASES = (
    (MANY_CODES, 256, 1),
    (CODES, 256, 64),
    (CODES, 1024, 64),
    (CODES, 256, 1),
    (MANY_CODES, 256, 16),
    (CODES, 64, 64),
)
REPEATS, QUICK_REPEATS = 31, 7
WORDS_A_CYCLE = 16  # that a multiprocessor counts, CUDA C++ programming guide, arithmetic throughput
TORCH_CODES = 1 << 16  # at a time: torch stores a byte for each byte of each pair


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One row a case and peer."""
    for count, bits, num_queries in CASES[:3] if quick else CASES:
        yield from measure(count, bits, num_queries, QUICK_REPEATS if quick else REPEATS)


def torch_scan(codes: Any, queries: Any, counts: Any) -> Any:
    """Distances of the k nearest by a table of the bits in a byte, some codes at a time."""
    import torch

    best: Any = None
    for part in codes.split(TORCH_CODES):
        distances = counts[(part[None] ^ queries[:, None]).int()].sum(2, dtype=torch.int32)
        found = distances if best is None else torch.cat([best, distances], 1)
        best = found.topk(K, largest=False).values
    return best


def faiss_scan(codes: Any, bits: int) -> Callable[[Any], Any] | None:
    """A search of a flat binary index of faiss on the GPU, which takes and gives host arrays; None without it."""
    try:
        import faiss

        index = faiss.GpuIndexBinaryFlat(faiss.StandardGpuResources(), bits)
    except (ImportError, AttributeError):
        return None
    index.add(codes.cpu().numpy())
    return lambda queries: index.search(queries, K)[0]


def popcount_floor_ms(count: int, bits: int, num_queries: int) -> float | None:
    """Milliseconds to count the bits of all pairs; None where nvidia-smi does not tell the clock."""
    device = clock.describe_device()
    if "clocks.max.sm" not in device:
        return None
    words_a_cycle = WORDS_A_CYCLE * int(device["multiprocessors"])
    return count * (bits // 32) * num_queries / words_a_cycle / (float(device["clocks.max.sm"].split()[0]) * 1e3)


def measure(count: int, bits: int, num_queries: int, repeats: int) -> list[report.Row]:
    """Outputs are compared on the first codes for torch, whose way is slow, and on all for faiss."""
    import torch

    torch.manual_seed(SEED)
    codes = torch.randint(0, 256, (count, bits // 8), dtype=torch.uint8, device="cuda")
    queries = torch.randint(0, 256, (num_queries, bits // 8), dtype=torch.uint8, device="cuda")
    counts = torch.tensor([i.bit_count() for i in range(256)], dtype=torch.uint8, device="cuda")
    some = codes[:TORCH_CODES]
    assert torch.equal(native.scan(some, queries, K)[0], torch_scan(some, queries, counts))
    peers: dict[str, Callable[[], object]] = {}
    if count <= CODES:
        peers["torch table + topk"] = lambda: torch_scan(codes, queries, counts)
    if (search := faiss_scan(codes, bits)) is not None:
        on_host = queries.cpu().numpy()
        assert (search(on_host) == native.scan(codes, queries, K)[0].cpu().numpy()).all()
        peers["faiss GpuIndexBinaryFlat"] = lambda: search(on_host)
    if not peers:
        peers["torch read of the codes"] = lambda: codes.view(torch.int64).sum()
    measured = clock.compare(
        f"scan {count} x {bits} bits, top {K}, {num_queries} queries",
        lambda: native.scan(codes, queries, K),
        peers,
        repeats,
        floor_bytes=codes.numel(),
    )
    return [row | {"popcount_floor_ms": popcount_floor_ms(count, bits, num_queries)} for row in measured]
