"""Batches of a table's pictures, decoded and augmented ahead of the training step that will use them.

The batch of a step depends on (table, sampler, transform, step) alone: workers change when it is made, never what is in
it. A batch is the unit of work, since a transform is cheapest on many pictures at once.

Workers are threads, not processes: reading, decoding and tensor operations run with the interpreter released, the cache
of decoded pictures is one and not one a worker, batches need no copy, and nothing has to be started or can be killed
apart from the whole (`benchmarks/bench_loader.py` has processes beside them).

Legend: b pictures of a batch, H and W their size.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch

from bowerbird import images
from bowerbird.errors import ArgumentInvalid, BowerbirdError
from bowerbird.images import DecodeLimits, PixelArray
from bowerbird.training.dataset import PictureTable
from bowerbird.training.draws import IntArray, mix
from bowerbird.training.sampler import Sampler

FAULTS_NAMED = 5
LIMITS = DecodeLimits(max_bytes=256 * 1024 * 1024)  # the operator's own files, not a stranger's upload
REPLACEMENTS = 100  # tries before the table is given up: nearly all of it is unreadable

Tensor = Any  # torch.Tensor, which is untyped here


class Transform(Protocol):
    """From decoded pictures to the model's input."""

    @property
    def min_side(self) -> int:
        """The shorter side in pixels that decoding may shrink large pictures to."""

    def prepare(self, pixels: PixelArray) -> PixelArray:
        """The part that depends on the picture alone, and is worth keeping: (h, w, 3) uint8 of (H, W, 3) uint8."""

    def __call__(
        self, pictures: Sequence[PixelArray], indices: IntArray, step: int, copies: IntArray | None = None
    ) -> Tensor:
        """(b, 3, H, W) float32, normalised: a pure function of its arguments.

        Args:
            pictures: b as `prepare` makes them.
            indices: (b,) their rows.
            step: global.
            copies: (b,) numbers the appearances of each row in the step over all ranks, from 0; None: all are first.
        """


@dataclass(frozen=True)
class Batch:
    """The pictures of one step and rank.

    Attributes:
        step: global, from 0.
        indices: (b,) int64 rows of the table that the pictures show: label them by these.
        pictures: (b, 3, H, W) float32 tensor, normalised.
    """

    step: int
    indices: IntArray
    pictures: Tensor


@dataclass(frozen=True)
class Fault:
    """A picture that could not be read."""

    index: int
    name: str
    reason: str


@dataclass
class LoaderStats:
    """What a loader has done so far.

    Attributes:
        pictures: delivered.
        seconds: since the first batch was asked for, until now or the closing.
        starved_seconds: of those, how long the consumer waited for a batch.
        num_faults: pictures of the table that could not be read and were replaced.
        faults: the first of them.
    """

    pictures: int = 0
    seconds: float = 0.0
    starved_seconds: float = 0.0
    num_faults: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def pictures_per_second(self) -> float:
        """Delivered to the consumer, whose own work is in the time."""
        return self.pictures / self.seconds if self.seconds else 0.0

    @property
    def starvation(self) -> float:
        """Share of the time that the consumer waited, 0 to 1."""
        return self.starved_seconds / self.seconds if self.seconds else 0.0


class Loader:
    """Iterates over batches for ever, from `start_step` on.

    with Loader(table, sampler, transform, workers=1) as loader:
        for batch in loader: ...
    """

    def __init__(
        self,
        table: PictureTable,
        sampler: Sampler,
        transform: Transform,
        *,
        workers: int = 1,
        prefetch: int = 2,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        cache_bytes: int = 0,
        on_fault: Literal["replace", "fail"] = "replace",
    ) -> None:
        """
        Args:
            table: read by row.
            sampler: rows of every step.
            transform: picture to tensor.
            workers: threads that make batches; 0: the consumer makes its own.
            prefetch: batches that are made ahead of the consumer, a worker.
            start_step: the first step, to resume.
            rank: of this process.
            world_size: processes that share a step.
            cache_bytes: prepared pictures kept in memory up to here: a small table is decoded once.
            on_fault: a picture that is missing or cannot be decoded is replaced by another, always the same one, and
                counted; or the loader fails.
        Raises:
            ArgumentInvalid: an empty table or a number out of range.
        """
        if not len(table):
            raise ArgumentInvalid("table: expected pictures, got none", field="table")
        if workers < 0 or prefetch < 1 or cache_bytes < 0:
            raise ArgumentInvalid(
                f"expected workers >= 0, prefetch >= 1, cache_bytes >= 0; got {workers}, {prefetch}, {cache_bytes}"
            )
        sampler.batch(start_step, rank, world_size)  # refuses what it cannot do now, not in a thread
        self._table, self._sampler, self._transform = table, sampler, transform
        self._rank, self._world_size = rank, world_size
        self._on_fault = on_fault
        self._cache = _Cache(cache_bytes)
        self._stats, self._faulty, self._lock = LoaderStats(), set[int](), threading.Lock()
        self._next_step = start_step
        self._pending: deque[Future[Batch]] = deque()
        self._ahead = workers * prefetch
        self._pool = _start_workers(workers) if workers else None
        self._started: float | None = None
        self._ended: float | None = None

    @property
    def stats(self) -> LoaderStats:
        """A copy of the figures so far."""
        with self._lock:
            now = time.perf_counter() if self._ended is None else self._ended
            seconds = now - self._started if self._started is not None else 0.0
            mine = self._stats
            return LoaderStats(mine.pictures, seconds, mine.starved_seconds, mine.num_faults, list(mine.faults))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The batch of the next step.

        Raises:
            BowerbirdError: a picture cannot be read and `on_fault` is `fail`, or hardly any picture can.
        """
        if self._ended is not None:
            raise StopIteration
        asked = time.perf_counter()
        self._started = asked if self._started is None else self._started
        batch = self._take()
        with self._lock:
            self._stats.starved_seconds += time.perf_counter() - asked
            self._stats.pictures += len(batch.indices)
        return batch

    def close(self) -> None:
        """Stop the workers; batches that were made and not taken are dropped."""
        self._ended = time.perf_counter() if self._ended is None else self._ended
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> Batch:
        if self._pool is None:
            self._next_step += 1
            return self._make(self._next_step - 1)
        while len(self._pending) <= self._ahead:
            self._pending.append(self._pool.submit(self._make, self._next_step))
            self._next_step += 1
        batch = self._pending[0].result()  # an interrupt while waiting here loses no batch
        self._pending.popleft()
        return batch

    def _make(self, step: int) -> Batch:
        indices = self._sampler.batch(step, self._rank, self._world_size).copy()
        copies = self._number_copies(step, indices)
        pictures = []
        for place, index in enumerate(indices):
            indices[place], pixels = self._read_or_replace(int(index))
            pictures.append(pixels)
        return Batch(step, indices, self._transform(pictures, indices, step, copies))

    def _number_copies(self, step: int, indices: IntArray) -> IntArray:
        """(b,) int64: how often each row came before in this step, on lower ranks too.

        So the two appearances of a row differ also where two ranks have one each, and the pictures of a step stay the
        same for any number of ranks.
        """
        seen = Counter[int]()
        for rank in range(self._rank):
            seen.update(self._sampler.batch(step, rank, self._world_size).tolist())
        copies = np.empty(len(indices), np.int64)
        for place, index in enumerate(indices.tolist()):
            copies[place] = seen[index]
            seen[index] += 1
        return copies

    def _read_or_replace(self, index: int) -> tuple[int, PixelArray]:
        candidate = index
        for attempt in range(REPLACEMENTS):
            try:
                return candidate, self._prepare(candidate)
            except BowerbirdError as error:
                if self._on_fault == "fail":
                    raise type(error)(f"row {candidate}, {self._table.name(candidate)}: {error.message}") from error
                self._note_fault(candidate, error)
            candidate = int(mix(index, attempt) % np.uint64(len(self._table)))
        first = "; ".join(f"{fault.name}: {fault.reason}" for fault in self._stats.faults)
        raise ArgumentInvalid(
            f"table: {REPLACEMENTS} pictures in a row cannot be read; is their root right? The first: {first}",
            field="table",
        )

    def _prepare(self, index: int) -> PixelArray:
        kept = self._cache.get(index)
        if kept is None:
            data = self._table.read(index)
            kept = self._transform.prepare(images.decode(data, min_side=self._transform.min_side, limits=LIMITS).pixels)
            self._cache.keep(index, kept)
        return kept

    def _note_fault(self, index: int, error: BowerbirdError) -> None:
        with self._lock:
            if index in self._faulty:
                return
            self._faulty.add(index)
            self._stats.num_faults += 1
            if len(self._stats.faults) < FAULTS_NAMED:
                self._stats.faults.append(Fault(index, self._table.name(index), error.message))


def _start_workers(workers: int) -> ThreadPoolExecutor:
    """Threads whose tensor operations stay on one core each, so that they take no more than their share.

    torch gives the number that any thread set last to threads that start later: the caller's is set again, once all
    workers have theirs.
    """
    pool = ThreadPoolExecutor(workers, "loader", initializer=torch.set_num_threads, initargs=(1,))
    gathered = threading.Barrier(workers + 1)
    for _ in range(workers):
        pool.submit(gathered.wait)
    gathered.wait()
    torch.set_num_threads(torch.get_num_threads())
    return pool


class _Cache:
    """Prepared pictures by row, until the memory is used up: what was kept stays, since no row comes sooner again."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._pictures: dict[int, PixelArray] = {}
        self._lock = threading.Lock()

    def get(self, index: int) -> PixelArray | None:
        return self._pictures.get(index)

    def keep(self, index: int, pixels: PixelArray) -> None:
        with self._lock:
            if index not in self._pictures and self._bytes + pixels.nbytes <= self._max_bytes:
                self._pictures[index] = pixels
                self._bytes += pixels.nbytes
