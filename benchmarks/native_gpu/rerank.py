"""Scores and ids of the best among candidate rows on a GPU, beside torch's gather, product and top-k."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from benchmarks import report
from benchmarks.native_gpu import clock
from bowerbird import native

SEED = 20
ROWS = 2_000_000  # at d = 768 and float16 3 GB: far beyond the L2 cache
K = 100
# queries, candidates, dimension, dtype. The first is the goal: at least 0.7 of the floor, 3 times torch.
CASES = (
    (256, 10_000, 768, "float16"),
    (256, 10_000, 256, "float16"),
    (256, 10_000, 256, "int8"),
    (256, 10_000, 768, "bfloat16"),
    (64, 1_000, 768, "float32"),
    (64, 1_000, 256, "float16"),
    (1, 1_000, 256, "float16"),
)
REPEATS, QUICK_REPEATS = 31, 7
SETS = 4  # of candidates, taken in turn
ID_BYTES = 8


def rows(*, quick: bool) -> Iterator[report.Row]:
    """One row a case and peer."""
    for num_queries, num_candidates, dimension, dtype in CASES[:3] if quick else CASES:
        yield from measure(num_queries, num_candidates, dimension, dtype, QUICK_REPEATS if quick else REPEATS)


def torch_rerank(vectors: Any, scales: Any, queries: Any, candidates: Any) -> tuple[Any, Any]:
    """Gather, batched product, top-k: what one writes without a kernel. int8 is widened, since bmm takes none."""
    import torch

    gathered = vectors[candidates]
    if scales is not None:
        gathered = gathered.to(torch.float16)
    products = torch.bmm(gathered, queries.to(gathered.dtype)[:, :, None])[:, :, 0].float()
    if scales is not None:
        products *= scales[candidates]
    scores, places = products.topk(K)
    return scores, candidates.gather(1, places)


def check(ours: tuple[Any, Any], vectors: Any, scales: Any, queries: Any, candidates: Any) -> None:
    """Our scores are float64's to rounding, and the k-th is no worse than torch's."""
    import torch

    scores, ids = ours
    exact = (vectors[ids].double() * queries.double()[:, None, :]).sum(2)
    if scales is not None:
        exact *= scales[ids]
    torch.testing.assert_close(scores.double(), exact, rtol=1e-5, atol=1e-3)
    theirs = torch_rerank(vectors, scales, queries, candidates)[0]
    spread = float(scores[:, 0].max()) * 1e-2  # torch rounds products to the rows' type
    assert bool((scores[:, -1] >= theirs[:, -1] - spread).all())


def measure(num_queries: int, num_candidates: int, dimension: int, dtype: str, repeats: int) -> list[report.Row]:
    """The floor reads each candidate's row and id once and writes the results, at the speed of a copy."""
    import torch

    torch.manual_seed(SEED)
    if dtype == "int8":
        vectors = torch.randint(-127, 128, (ROWS, dimension), dtype=torch.int8, device="cuda")
        scales = torch.rand(ROWS, device="cuda")
    else:
        vectors = torch.randn(ROWS, dimension, device="cuda").to(getattr(torch, dtype))
        scales = None
    queries = torch.randn(num_queries, dimension, device="cuda")
    sets = [torch.randint(0, ROWS, (num_queries, num_candidates), device="cuda") for _ in range(SETS)]
    check(native.rerank(vectors, queries, sets[0], K, scales=scales), vectors, scales, queries, sets[0])
    ours, theirs = itertools.cycle(sets), itertools.cycle(sets)
    row_bytes = dimension * vectors.element_size() + (0 if scales is None else scales.element_size())
    return clock.compare(
        f"rerank {num_queries} x {num_candidates} of {ROWS} x {dimension}-d {dtype}, top {K}",
        lambda: native.rerank(vectors, queries, next(ours), K, scales=scales),
        {"torch gather + bmm + topk": lambda: torch_rerank(vectors, scales, queries, next(theirs))},
        repeats,
        floor_bytes=num_queries * (num_candidates * (row_bytes + ID_BYTES) + K * 12),
    )
