"""What every CUDA kernel promises of streams: it joins the current one, waits for nothing, and goes into a graph.

Legend: a case draws the arrays of a call from a seed, always of the same shapes, and computes on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bowerbird import native
from tests.device_arrays import needs_device, needs_gpu, to_device, to_host

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Rng = np.random.Generator
Case = tuple[Callable[[Rng], Arrays], Callable[..., Any]]

CUDA_SOURCES = Path(__file__).parents[2] / "native" / "cuda"
DELAY_CYCLES = 50_000_000  # some 30 ms, in which the host has queued everything
ROUNDS = 20


def scan_arrays(rng: Rng) -> Arrays:
    codes, queries = (rng.integers(0, 256, (count, 32), dtype=np.uint8) for count in (3000, 5))
    return {"codes": codes, "queries": queries}


def rerank_arrays(rng: Rng) -> Arrays:
    """Small integers, so that sums are exact in any order."""
    rows, queries = (rng.integers(-8, 9, (count, 64)).astype(np.float32) for count in (500, 4))
    return {"rows": rows, "queries": queries, "candidates": rng.integers(-1, 500, (4, 200))}


def nms_arrays(rng: Rng) -> Arrays:
    corner = rng.random((2, 1500, 2), np.float32) * 200
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape).astype(np.float32)], axis=2)
    return {"boxes": boxes, "scores": rng.random((2, 1500), np.float32), "classes": rng.integers(0, 3, (2, 1500))}


def detection_arrays(rng: Rng) -> Arrays:
    corner = rng.random((2, 700, 2), np.float32) * 200
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, corner.shape).astype(np.float32)], axis=2)
    return {"scores": rng.normal(-2, 1, (2, 700, 5)).astype(np.float32), "boxes": boxes}


def walk_arrays(rng: Rng) -> Arrays:
    """300 items on 40 boards, ten boards an item."""
    item_boards = np.sort(rng.random((300, 40)).argsort(axis=1)[:, :10], axis=1).astype(np.int32)
    items = np.repeat(np.arange(300, dtype=np.int32), 10)
    by_board = np.argsort(item_boards.ravel(), kind="stable")
    sizes = np.bincount(item_boards.ravel(), minlength=40)
    return {
        "item_offsets": np.arange(0, 3001, 10),
        "item_boards": item_boards.ravel(),
        "board_offsets": np.concatenate([[0], np.cumsum(sizes)]),
        "board_items": items[by_board],
        "queries": rng.integers(0, 300, 6),
        "weights": np.ones(6, np.float32),
        "offsets": np.arange(0, 7, 2),
    }


def preprocess_arrays(rng: Rng) -> Arrays:
    return {"pictures": rng.integers(0, 256, (3, 60, 90, 3), dtype=np.uint8)}


def roi_align_arrays(rng: Rng) -> Arrays:
    corner = rng.random((30, 2), np.float32) * 15
    boxes = np.concatenate([corner, corner + rng.uniform(2, 9, corner.shape).astype(np.float32)], axis=1)
    return {"features": rng.random((2, 9, 20, 20), np.float32), "boxes": boxes, "images": rng.integers(0, 2, 30)}


def preprocess(pictures: Any) -> Any:
    images = [pictures[n] for n in range(3)]
    return native.preprocess(images, height=16, width=40, mean=(0, 0, 0), std=(60, 60, 60))


def detect(**arrays: Any) -> Any:
    return native.detection_postprocess(**arrays, activation="sigmoid", min_score=0.1, max_iou=0.5)


CASES: dict[str, Case] = {
    "scan": (scan_arrays, lambda **arrays: native.scan(**arrays, k=10)),
    "rerank": (rerank_arrays, lambda **arrays: native.rerank(**arrays, k=10)),
    "nms": (nms_arrays, lambda **arrays: native.batched_nms(**arrays, max_iou=0.5)),
    "detection_postprocess": (detection_arrays, detect),
    "preprocess": (preprocess_arrays, preprocess),
    "roi_align": (roi_align_arrays, lambda **arrays: native.roi_align(**arrays, output_size=(5, 7))),
    "walk": (walk_arrays, lambda **arrays: native.walk(**arrays, k=10, steps=2000)),
}
WITH_CUDA = sorted(path.stem for path in CUDA_SOURCES.glob("*.cu") if path.stem in CASES)
every_kernel = pytest.mark.parametrize("kernel", WITH_CUDA)


def drawn(kernel: str, seed: int) -> dict[str, Any]:
    """The arrays of a case, on the device."""
    return {name: to_device(array) for name, array in CASES[kernel][0](np.random.default_rng(seed)).items()}


def parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_equal(actual: Any, expected: Any) -> None:
    for got, wanted in zip(parts(actual), parts(expected), strict=True):
        np.testing.assert_array_equal(to_host(got), to_host(wanted))


@contextmanager
def no_waiting(torch: Any) -> Iterator[None]:
    """An error for every call of torch that waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_every_kernel_has_a_case() -> None:
    """Nobody adds a kernel and forgets its streams."""
    ours = {path.stem for path in CUDA_SOURCES.glob("*.cu")}
    ours = {stem for stem in ours if (CUDA_SOURCES.parent / "bindings" / f"{stem}.cpp").exists()}
    assert ours <= set(CASES)


@needs_device
@every_kernel
def test_the_cases_are_right(kernel: str) -> None:
    """Each gives what the host gives, on the emulated device too, and not the same everywhere."""
    draw, compute = CASES[kernel]
    expected = compute(**draw(np.random.default_rng(1)))
    for got, wanted in zip(parts(compute(**drawn(kernel, 1))), parts(expected), strict=True):
        np.testing.assert_allclose(to_host(got), wanted, rtol=1e-5)
    assert np.unique(parts(expected)[0]).size > 1


@needs_gpu
@every_kernel
def test_it_joins_the_current_stream_and_does_not_wait(kernel: str) -> None:
    """Inputs come about on a side stream, late: the kernel sees them, and the call is back before."""
    import torch

    compute, late = CASES[kernel][1], drawn(kernel, 1)
    expected = compute(**late)
    inputs = {name: torch.zeros_like(array) for name, array in late.items()}
    compute(**inputs)  # modules are loaded, and the allocator has its memory
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        compute(**inputs)
        side.synchronize()
        with no_waiting(torch):
            torch.cuda._sleep(DELAY_CYCLES)
            for name, array in inputs.items():
                array.copy_(late[name], non_blocking=True)
            actual = compute(**inputs)
        assert not side.query(), "the call has waited for the device"
    side.synchronize()
    assert_equal(actual, expected)


@needs_gpu
@every_kernel
def test_a_graph_computes_anew_on_each_replay(kernel: str) -> None:
    """Captured once, replayed with other values in the same memory."""
    import torch

    compute, inputs = CASES[kernel][1], drawn(kernel, 0)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        compute(**inputs)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        actual = compute(**inputs)
    for seed in (1, 2, 1):
        others = drawn(kernel, seed)
        for name, array in inputs.items():
            array.copy_(others[name])
        graph.replay()
        torch.cuda.synchronize()
        assert_equal(actual, compute(**others))


@needs_gpu
@every_kernel
def test_calls_on_two_streams_do_not_meet(kernel: str) -> None:
    """Nothing is shared between calls, scratch memory least of all."""
    import torch

    compute = CASES[kernel][1]
    inputs = [drawn(kernel, seed) for seed in (1, 2)]
    expected = [compute(**arrays) for arrays in inputs]
    streams = [torch.cuda.Stream() for _ in inputs]
    torch.cuda.synchronize()
    results: list[list[Any]] = [[], []]
    for _ in range(ROUNDS):
        for stream, arrays, of_stream in zip(streams, inputs, results, strict=True):
            with torch.cuda.stream(stream):
                of_stream.append(compute(**arrays))
    torch.cuda.synchronize()
    for of_stream, wanted in zip(results, expected, strict=True):
        for actual in of_stream:
            assert_equal(actual, wanted)


@needs_gpu
@every_kernel
def test_memory_goes_back(kernel: str) -> None:
    """After a call only its results are held."""
    import torch

    compute, inputs = CASES[kernel][1], drawn(kernel, 1)
    compute(**inputs)
    before = torch.cuda.memory_allocated()
    result = compute(**inputs)
    assert torch.cuda.memory_allocated() > before
    del result
    assert torch.cuda.memory_allocated() == before
