"""The decisions of batching: which items run next, and when. No thread, no clock of its own."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bowerbird import telemetry
from bowerbird.errors import ArgumentInvalid, QueueFull

T = TypeVar("T")
R = TypeVar("R")

_LOG = telemetry.get_logger(__name__)

SWEEP_EVERY_S = 0.01  # a full queue looks for dead entries at most this often, so that refusing stays cheap
SMOOTHING = 0.2  # weight of the newest value in the running means of arrival gap and cost
MIN_RETRY_AFTER_S, MAX_RETRY_AFTER_S = 0.01, 5.0


class Ticket(Future[R]):
    """The answer to come of one item, and what it cost.

    Attributes:
        queue_s: seconds from submission to the start of the run.
        run_s: seconds of the run, shared by all items of the batch.
        batch_size: items in that run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue_s = 0.0
        self.run_s = 0.0
        self.batch_size = 0


@dataclass(slots=True, eq=False)
class Entry(Generic[T, R]):
    """One item that waits."""

    item: T
    deadline: float = math.inf  # absolute, of the queue's clock
    is_cancelled: Callable[[], bool] | None = None
    ticket: Ticket[R] = field(default_factory=Ticket)
    queued_at: float = 0.0
    is_waiting: bool = False

    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        if self.ticket.cancelled():
            return True
        try:
            return self.is_cancelled is not None and self.is_cancelled()
        except Exception:
            _LOG.exception("is_cancelled raised; the item is computed")
            return False


@dataclass(slots=True)
class Taken(Generic[T, R]):
    """What left the queue: to compute, too late, and unwanted."""

    batch: list[Entry[T, R]] = field(default_factory=list)
    expired: list[Entry[T, R]] = field(default_factory=list)
    cancelled: list[Entry[T, R]] = field(default_factory=list)


class BatchQueue(Generic[T, R]):
    """Which items run next, and when. Not thread-safe; `now` is the caller's clock in seconds."""

    def __init__(self, *, max_batch_size: int, max_delay_s: float, max_queue: int) -> None:
        """
        Args:
            max_batch_size: items in one run, at least 1.
            max_delay_s: how long an item may wait for company.
            max_queue: items that wait at most, at least 1.
        Raises:
            ArgumentInvalid: a limit is out of range.
        """
        if max_batch_size < 1 or max_queue < 1 or not max_delay_s >= 0:
            raise ArgumentInvalid(
                "expected max_batch_size >= 1, max_queue >= 1 and max_delay_s >= 0, "
                f"got {max_batch_size}, {max_queue} and {max_delay_s}"
            )
        self.max_batch_size = max_batch_size
        self.max_delay_s = max_delay_s
        self.max_queue = max_queue
        self._by_deadline: list[tuple[float, int, Entry[T, R]]] = []
        self._by_age: deque[Entry[T, R]] = deque()  # entries taken already stay until they are many
        self._order = itertools.count()
        self._last_push_at = -math.inf
        self._mean_gap_s = math.inf
        self._seconds_per_item = 0.0
        self._swept = Taken[T, R]()  # dead entries on their way out
        self._swept_at = -math.inf

    def __len__(self) -> int:
        return len(self._by_deadline)

    def push(self, entries: Sequence[Entry[T, R]], now: float) -> None:
        """Queues all entries or none; entries that nobody waits for make room, and leave with the next `take`.

        A group larger than the whole queue is taken when the queue is empty, as it could never run otherwise.

        Raises:
            QueueFull: no room, with `retry_after_s` from the measured cost of what waits.
        """
        if self._lacks_room(len(entries)) and now - self._swept_at >= SWEEP_EVERY_S:
            self._sweep(now)
        if self._lacks_room(len(entries)):
            raise QueueFull(
                f"{len(self)} items wait of at most {self.max_queue}, no room for {len(entries)}; try again later",
                retry_after_s=min(max(len(self) * self._seconds_per_item, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S),
            )
        for entry in entries:
            entry.queued_at = now
            entry.is_waiting = True
            heapq.heappush(self._by_deadline, (entry.deadline, next(self._order), entry))
            self._by_age.append(entry)
        self._observe_arrival(now)

    def next_due_s(self, now: float) -> float | None:
        """Seconds until a batch should run, 0 for at once; None while nothing waits."""
        while self._by_age and not self._by_age[0].is_waiting:
            self._by_age.popleft()
        if self._swept.expired or self._swept.cancelled:
            return 0.0
        if not self._by_age:
            return None
        company_is_likely = self._mean_gap_s < self.max_delay_s
        if len(self) >= self.max_batch_size or not company_is_likely:
            return 0.0
        return max(0.0, self._by_age[0].queued_at + self.max_delay_s - now)

    def take(self, now: float) -> Taken[T, R]:
        """The next batch, most urgent first, and the dead entries that stood before it."""
        taken, self._swept = self._swept, Taken()
        while self._by_deadline and len(taken.batch) < self.max_batch_size:
            _, _, entry = heapq.heappop(self._by_deadline)
            entry.is_waiting = False
            _sort_into(taken, entry, now)
        if len(self._by_age) > 2 * len(self) + self.max_batch_size:  # one patient entry would keep all later ones
            self._by_age = deque(entry for entry in self._by_age if entry.is_waiting)
        return taken

    def take_all(self) -> list[Entry[T, R]]:
        """Everything that waits, most urgent first, then what a sweep took out; the queue is empty afterwards."""
        entries = [entry for _, _, entry in sorted(self._by_deadline, key=lambda row: row[:2])]
        entries += self._swept.expired + self._swept.cancelled
        self._by_deadline.clear()
        self._by_age.clear()
        self._swept = Taken()
        return entries

    def observe_run(self, items: int, seconds: float) -> None:
        """Learns from a finished run what an item costs."""
        cost = seconds / items
        self._seconds_per_item += (cost - self._seconds_per_item) * (SMOOTHING if self._seconds_per_item else 1.0)

    def _lacks_room(self, count: int) -> bool:
        return bool(self) and len(self) + count > self.max_queue

    def _observe_arrival(self, now: float) -> None:
        # Capped, so that one quiet hour is forgotten after a few quick arrivals.
        gap_s = min(now - self._last_push_at, 10 * self.max_delay_s)
        known = math.isfinite(self._mean_gap_s)
        self._mean_gap_s = self._mean_gap_s + SMOOTHING * (gap_s - self._mean_gap_s) if known else gap_s
        self._last_push_at = now

    def _sweep(self, now: float) -> None:
        """Takes every dead entry out of the waiting ones."""
        self._swept_at = now
        sorted_ = Taken[T, R]()
        for _, _, entry in self._by_deadline:
            _sort_into(sorted_, entry, now)
        for entry in sorted_.expired + sorted_.cancelled:
            entry.is_waiting = False
        self._swept.expired += sorted_.expired
        self._swept.cancelled += sorted_.cancelled
        self._by_deadline = [row for row in self._by_deadline if row[2].is_waiting]
        heapq.heapify(self._by_deadline)
        self._by_age = deque(entry for entry in self._by_age if entry.is_waiting)


def _sort_into(taken: Taken[T, R], entry: Entry[T, R], now: float) -> None:
    if entry.deadline <= now:
        taken.expired.append(entry)
    elif entry.is_gone():
        taken.cancelled.append(entry)
    else:
        taken.batch.append(entry)
