"""The thread that runs the batches, and what the requests that wait for it see."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bowerbird import telemetry
from bowerbird.batching.queue import BatchQueue, Entry, Taken, Ticket
from bowerbird.errors import (
    BowerbirdError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    ExpiredInQueue,
    InferenceFailed,
    QueueFull,
)

T = TypeVar("T")
R = TypeVar("R")

_LOG = telemetry.get_logger(__name__)

HEARTBEAT_S = 1.0  # the worker wakes at least this often, so that a silent worker is a dead one
STALLED_AFTER_S = 10.0  # a run longer than this on a model that takes milliseconds is a hang


class Batcher(Generic[T, R]):
    """Collects items of many threads into batches and runs them on one worker thread."""

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R | Exception]],
        *,
        service: str,
        model: str,
        max_batch_size: int,
        max_delay_s: float = 0.002,
        max_queue: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            run: answers a list of items with one result or exception each, in order. Called by one thread only.
            service: label of metrics and stage timings.
            model: label of metrics.
            max_batch_size: items in one run.
            max_delay_s: how long an item may wait for company.
            max_queue: items that wait at most; beyond, `submit` refuses.
            clock: of deadlines, in seconds.
        """
        self._run = run
        self._service = service
        self._model = model
        self._clock = clock
        self._queue = BatchQueue[T, R](max_batch_size=max_batch_size, max_delay_s=max_delay_s, max_queue=max_queue)
        self._changed = threading.Condition()
        self._is_closed = False
        self._beat_at = time.monotonic()
        self._batch_size = telemetry.BATCH_SIZE.labels(service, model)
        self._queue_wait = telemetry.BATCH_QUEUE_WAIT_SECONDS.labels(service, model)
        self._depth = telemetry.BATCH_QUEUE_DEPTH.labels(service, model)
        self._wasted = telemetry.WASTED_COMPUTE_SECONDS_TOTAL.labels(service)
        telemetry.BATCH_QUEUE_LIMIT.labels(service, model).set(max_queue)
        self._worker = threading.Thread(target=self._work, name=f"batcher-{service}-{model}", daemon=True)
        self._worker.start()

    def submit(
        self, item: T, *, deadline: float | None = None, is_cancelled: Callable[[], bool] | None = None
    ) -> Ticket[R]:
        """A ticket for the result of one item; cancelling the ticket takes the item out of the queue.

        Args:
            deadline: absolute, of `clock`; None: waits as long as it takes, after everything that has a deadline.
            is_cancelled: asked before computing; must be quick.
        Raises:
            QueueFull: too much waits already.
            Draining: `close` was called.
        """
        return self.submit_group([item], deadline=deadline, is_cancelled=is_cancelled)[0]

    def submit_group(
        self, items: Sequence[T], *, deadline: float | None = None, is_cancelled: Callable[[], bool] | None = None
    ) -> list[Ticket[R]]:
        """Tickets for all items, accepted or refused as one; they may run in several batches.

        Raises:
            QueueFull, Draining: as `submit`.
        """
        until = math.inf if deadline is None else deadline
        entries = [Entry[T, R](item, until, is_cancelled) for item in items]
        if not entries:
            return []
        with self._changed:
            if self._is_closed:
                raise _draining()
            try:
                self._queue.push(entries, self._clock())
            except QueueFull as error:
                self._count_shed(error.reason, len(entries))
                raise
            self._depth.set(len(self._queue))
            self._changed.notify()
        return [entry.ticket for entry in entries]

    def infer(
        self, items: Sequence[T], *, deadline: float | None = None, is_cancelled: Callable[[], bool] | None = None
    ) -> list[R | Exception]:
        """One result or exception an item, in order; waits no longer than the deadline.

        Records the stages `queue` and `infer` for the request of the calling thread.

        Raises:
            QueueFull, Draining: as `submit`; nothing was computed.
        """
        tickets = self.submit_group(items, deadline=deadline, is_cancelled=is_cancelled)
        results = [self._wait(ticket, deadline) for ticket in tickets]
        telemetry.record_stage(self._service, "queue", max((ticket.queue_s for ticket in tickets), default=0.0))
        telemetry.record_stage(self._service, "infer", max((ticket.run_s for ticket in tickets), default=0.0))
        return results

    def is_alive(self) -> bool:
        """Whether the worker thread exists and has shown itself in the last 10 seconds."""
        return self._worker.is_alive() and time.monotonic() - self._beat_at < STALLED_AFTER_S

    def close(self, *, drain: bool = True, timeout_s: float | None = None) -> None:
        """Takes no more items and ends the worker.

        Args:
            drain: compute what waits; False: fail it with `Draining`.
            timeout_s: how long to wait for the worker; None: as long as it makes progress.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if not drain:
            self._fail_waiting()
        if timeout_s is not None:
            self._worker.join(timeout_s)
            return
        while self.is_alive():
            self._worker.join(min(HEARTBEAT_S, STALLED_AFTER_S))
        if self._worker.is_alive():
            _LOG.error("the model hangs; its thread is left behind", extra={"model": self._model})
            self._fail_waiting()

    def _wait(self, ticket: Ticket[R], deadline: float | None) -> R | Exception:
        try:
            return ticket.result(None if deadline is None else max(0.0, deadline - self._clock()))
        except BowerbirdError as error:
            return error
        except TimeoutError:
            if ticket.cancel():
                return _expired()
            if ticket.done():
                return self._wait(ticket, None)
            return DeadlineExceeded("the deadline passed while the model was running; allow more time")

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._wait_until_due():
                    return
                taken = self._queue.take(self._clock())
                self._depth.set(len(self._queue))
            self._fail_dead(taken)
            self._run_batch(taken.batch)

    def _wait_until_due(self) -> bool:
        """True when a batch should run; False when the batcher is closed and nothing waits. Holds the lock."""
        while True:
            self._beat_at = time.monotonic()
            due_s = self._queue.next_due_s(self._clock())
            if due_s is None and self._is_closed:
                return False
            if due_s is not None and (due_s <= 0 or self._is_closed):
                return True
            self._changed.wait(HEARTBEAT_S if due_s is None else min(due_s, HEARTBEAT_S))

    def _run_batch(self, batch: list[Entry[T, R]]) -> None:
        """Answers every ticket of the batch; halves what fails until the culprits are alone."""
        running = [entry for entry in batch if entry.ticket.set_running_or_notify_cancel()]
        started_at = self._clock()
        for entry in running:
            entry.ticket.queue_s = started_at - entry.queued_at
            self._queue_wait.observe(entry.ticket.queue_s)
        parts = [running] if running else []
        while parts:
            part = parts.pop()
            error = self._try(part)
            if error is not None and len(part) == 1:
                part[0].ticket.set_exception(_as_failure(error, self._model))
            elif error is not None:
                middle = len(part) // 2
                parts += [half for half in (self._drop_late(part[middle:]), self._drop_late(part[:middle])) if half]

    def _try(self, part: list[Entry[T, R]]) -> BaseException | None:
        """None when the part was run and every ticket answered, else what the run raised."""
        self._beat_at = time.monotonic()
        started_at = self._clock()
        try:
            results = self._run([entry.item for entry in part])
            if len(results) != len(part):
                raise InferenceFailed(f"{self._model}: expected {len(part)} results, got {len(results)}")
        except BaseException as error:  # nothing that a model raises may end the worker
            _LOG.exception("a batch failed", extra={"model": self._model, "batch_size": len(part)})
            telemetry.INFERENCE_FAILURES_TOTAL.labels(self._service, self._model, type(error).__name__).inc()
            return error
        self._observe_run(part, self._clock() - started_at)
        for entry, result in zip(part, results, strict=True):
            if isinstance(result, Exception):
                entry.ticket.set_exception(_as_failure(result, self._model))
            else:
                entry.ticket.set_result(result)
        return None

    def _observe_run(self, part: list[Entry[T, R]], run_s: float) -> None:
        self._batch_size.observe(len(part))
        with self._changed:
            self._queue.observe_run(len(part), run_s)
        now = self._clock()
        for entry in part:
            entry.ticket.run_s, entry.ticket.batch_size = run_s, len(part)
            if entry.deadline <= now or entry.is_gone():
                self._wasted.inc(run_s / len(part))

    def _drop_late(self, entries: list[Entry[T, R]]) -> list[Entry[T, R]]:
        """The entries that are still in time for another run; the others are answered."""
        now = self._clock()
        for entry in entries:
            if entry.deadline <= now:
                entry.ticket.set_exception(_expired())
        return [entry for entry in entries if entry.deadline > now]

    def _fail_dead(self, taken: Taken[T, R]) -> None:
        for entry in taken.expired:
            self._fail(entry, _expired())
        for entry in taken.cancelled:
            self._fail(entry, Cancelled("the client gave up before computing began"))

    def _fail_waiting(self) -> None:
        with self._changed:
            waiting = self._queue.take_all()
            self._depth.set(0)
        for entry in waiting:
            self._fail(entry, _draining())

    def _fail(self, entry: Entry[T, R], error: BowerbirdError) -> None:
        self._count_shed(error.reason, 1)
        if entry.ticket.set_running_or_notify_cancel():
            entry.ticket.set_exception(error)

    def _count_shed(self, reason: str, items: int) -> None:
        telemetry.SHED_TOTAL.labels(self._service, reason).inc(items)


def _draining() -> Draining:
    return Draining("the server is shutting down; ask another replica")


def _expired() -> ExpiredInQueue:
    return ExpiredInQueue("the deadline passed before computing began; allow more time or send less at once")


def _as_failure(error: BaseException, model: str) -> BowerbirdError:
    if isinstance(error, BowerbirdError):
        return error
    failure = InferenceFailed(f"{model}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
