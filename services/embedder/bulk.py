"""Large batches: every thread takes a few pictures at a time through decoding, preprocessing and the model.

Each thread runs the model on its own instead of all threads sharing one run: no thread waits for another at the end of
a layer, a few pictures stay in the processor's cache, and while one thread decodes the other computes. Measured on two
cores this gives more pictures a second than runs of 32 with both threads, although it decodes as well.

Legend: N inputs, D dimensions, B code bits, W = B / 8 bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, Cancelled, Draining, ExpiredInQueue, QueueFull
from bowerbird.models.engine import FloatArray, InferenceEngine
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.zoo import InputSpec
from bowerbird.vectors import CodeArray, pack_code

from .heads import Labels, Wanted

PixelArray = npt.NDArray[np.uint8]
Reader = Callable[[], PixelArray]  # gives the pixels of one input, (H, W, 3) uint8, or raises BowerbirdError

_LOG = telemetry.get_logger(__name__)
_FIRST_COST_S = 0.005  # of one input, before the first is measured
_SMOOTHING = 0.2  # weight of the newest chunk in the running mean of the cost


@dataclass(frozen=True)
class Call:
    """One request: until when, for whom, and where its results go.

    Attributes:
        embeddings: (N, D) float32, zeros until computed.
        codes: (N, W) uint8, likewise.
        wanted: which labels beside them.
        labels: of the heads that are wanted, by position.
        errors: of the inputs that failed, by position.
        stage_seconds: by stage, summed over threads.
    """

    deadline: float | None
    is_cancelled: Callable[[], bool] | None
    embeddings: FloatArray
    codes: CodeArray
    wanted: Wanted = Wanted()  # noqa: RUF009 (frozen)
    labels: dict[int, Labels] = field(default_factory=dict)
    errors: dict[int, BowerbirdError] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def raise_if_over(self) -> None:
        """Do nothing while the answer is wanted.

        Raises:
            ExpiredInQueue, Cancelled: it is not any more.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise ExpiredInQueue("the deadline passed before computing began; allow more time or send less at once")
        if self.is_cancelled is not None and self.is_cancelled():
            raise Cancelled("the client gave up before computing began")

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Count time of a stage; called by several threads."""
        with self.lock:
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


class BulkRunner:
    """A pool of threads, each of which decodes and computes; bounded in what it accepts."""

    def __init__(
        self, engine: InferenceEngine, spec: InputSpec, *, threads: int, chunk_size: int, max_pending: int
    ) -> None:
        """
        Args:
            engine: whose runs use one thread each.
            spec: input of the model.
            threads: of the pool.
            chunk_size: inputs of one run.
            max_pending: inputs accepted and not answered, at most.
        """
        self._engine = engine
        self._spec = spec
        self._chunk_size = chunk_size
        self._max_pending = max_pending
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embedder-bulk")
        self._threads = threads
        self._local = threading.local()
        self._lock = threading.Lock()
        self._pending = 0
        self._is_closed = False
        self._cost_s = _FIRST_COST_S
        self._label = f"{engine.name}/bulk"  # beside the queue of single inputs, which the batcher reports
        self._batch_size = telemetry.BATCH_SIZE.labels("embedder", self._label)
        self._depth = telemetry.BATCH_QUEUE_DEPTH.labels("embedder", self._label)
        telemetry.BATCH_QUEUE_LIMIT.labels("embedder", self._label).set(max_pending)

    def run(self, readers: Sequence[Reader | BowerbirdError], call: Call) -> None:
        """Fill in the results of a call; returns when every input is computed or has its error.

        Raises:
            QueueFull: too much is under way; nothing was computed.
            Draining: `close` was called.
            ExpiredInQueue, Cancelled: nobody waits for the answer; the rest was not computed.
        """
        call.errors.update({i: entry for i, entry in enumerate(readers) if isinstance(entry, BowerbirdError)})
        work = [(i, entry) for i, entry in enumerate(readers) if not isinstance(entry, BowerbirdError)]
        self._accept(len(work))
        try:
            chunks = [work[i : i + self._chunk_size] for i in range(0, len(work), self._chunk_size)]
            futures = [self._pool.submit(self._run_chunk, chunk, call) for chunk in chunks]
            failures = [future.exception() for future in futures]
        finally:
            self._release(len(work))
        for failure in failures:
            if failure is not None:
                raise failure
        for stage, seconds in call.stage_seconds.items():
            telemetry.record_stage("embedder", stage, seconds)

    def close(self) -> None:
        """Finish what was accepted and end the threads."""
        with self._lock:
            self._is_closed = True
        self._pool.shutdown()

    def _accept(self, count: int) -> None:
        with self._lock:
            if self._is_closed:
                raise Draining("the server is shutting down; ask another replica")
            if self._pending + count > self._max_pending:
                retry_after_s = max(0.05, self._pending * self._cost_s)
                telemetry.SHED_TOTAL.labels("embedder", QueueFull.reason).inc(count)
                raise QueueFull(
                    f"{self._pending} inputs are under way of at most {self._max_pending}, no room for {count}; "
                    "try again later",
                    retry_after_s=retry_after_s,
                )
            self._pending += count
            self._depth.set(self._pending)

    def _release(self, count: int) -> None:
        with self._lock:
            self._pending -= count
            self._depth.set(self._pending)

    def _run_chunk(self, chunk: Sequence[tuple[int, Reader]], call: Call) -> None:
        call.raise_if_over()
        started_at = time.perf_counter()
        buffer = self._buffer()
        positions = self._prepare(chunk, buffer, call)
        if not positions:
            return
        prepared_at = time.perf_counter()
        self._infer(positions, buffer[: len(positions)], call)
        finished_at = time.perf_counter()
        call.add_seconds("infer", finished_at - prepared_at)
        cost_s = (finished_at - started_at) / len(positions) / self._threads
        self._cost_s += _SMOOTHING * (cost_s - self._cost_s)

    def _prepare(self, chunk: Sequence[tuple[int, Reader]], buffer: FloatArray, call: Call) -> list[int]:
        """Positions of the inputs that can be read, their pixels in the first rows of `buffer`; the others get errors.

        One at a time, as a picture that cannot be decoded smaller may have 300 MB.
        """
        positions: list[int] = []
        decode_s = preprocess_s = 0.0
        for position, reader in chunk:
            started_at = decoded_at = time.perf_counter()
            try:
                pixels = reader()
                decoded_at = time.perf_counter()
                make_batch([pixels], self._spec, out=buffer[len(positions) : len(positions) + 1])
                del pixels  # before the next is decoded
                positions.append(position)
                preprocess_s += time.perf_counter() - decoded_at
            except BowerbirdError as error:
                call.errors[position] = error
            decode_s += decoded_at - started_at
        call.add_seconds("decode", decode_s)
        call.add_seconds("preprocess", preprocess_s)
        return positions

    def _infer(self, positions: list[int], batch: FloatArray, call: Call) -> None:
        """Results of the rows of `batch`; when the run fails each row is run alone, so that only the culprit fails."""
        try:
            outputs = self._engine.run(batch, call.wanted.outputs)
        except BowerbirdError as error:
            _LOG.exception("a batch failed", extra={"model": self._engine.name, "batch_size": len(positions)})
            telemetry.INFERENCE_FAILURES_TOTAL.labels("embedder", self._label, type(error).__name__).inc()
            if len(positions) == 1:
                call.errors[positions[0]] = error
                return
            for row, position in enumerate(positions):
                self._infer([position], batch[row : row + 1], call)
            return
        call.embeddings[positions] = outputs["embedding"]
        call.codes[positions] = pack_code(outputs["code_projection"])
        if call.wanted.heads:
            call.labels.update({at: call.wanted.read_labels(outputs, row) for row, at in enumerate(positions)})
        self._batch_size.observe(len(positions))

    def _buffer(self) -> FloatArray:
        """(chunk_size, 3, height, width) float32 of this thread; fresh memory for every run would cost page faults."""
        buffer: FloatArray | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = np.empty(
                (self._chunk_size, 3, self._spec.height, self._spec.width), np.float32
            )
        return buffer
