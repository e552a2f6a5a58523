"""Whatever comes in whatever order, the queue keeps its promises."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bowerbird.batching import BatchQueue, Entry, Taken
from bowerbird.errors import QueueFull

DELAY_S = 0.002


class Batching(RuleBasedStateMachine):
    """Random groups, deadlines, cancellations and pauses against a plain list of what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waiting: list[Entry[int, int]] = []
        self.left: list[Entry[int, int]] = []
        self.pushed = 0

    @initialize(max_batch_size=st.integers(1, 8), max_queue=st.integers(1, 20))
    def start(self, max_batch_size: int, max_queue: int) -> None:
        """Makes the queue."""
        self.queue = BatchQueue[int, int](max_batch_size=max_batch_size, max_delay_s=DELAY_S, max_queue=max_queue)

    @rule(count=st.integers(1, 10), deadline_s=st.sampled_from([0.0, 0.001, 0.01, 0.1, math.inf]))
    def push(self, count: int, deadline_s: float) -> None:
        """A group comes; it is taken whole or refused whole."""
        group = [Entry[int, int](item, self.now + deadline_s) for item in range(count)]
        try:
            self.queue.push(group, self.now)
        except QueueFull as error:
            assert error.retry_after_s is not None
            assert error.retry_after_s > 0
            return
        self.waiting += group
        self.pushed += count

    @rule(seconds=st.sampled_from([0.0001, 0.001, 0.005, 0.05]))
    def pause(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule(choice=st.randoms(use_true_random=False))
    def cancel(self, choice: object) -> None:
        """A client gives up."""
        choice.choice(self.waiting).ticket.cancel()  # type: ignore[attr-defined]

    @rule()
    def take(self) -> None:
        """The worker comes for a batch."""
        taken: Taken[int, int] = self.queue.take(self.now)
        assert len(taken.batch) <= self.queue.max_batch_size
        assert all(entry.deadline > self.now and not entry.ticket.cancelled() for entry in taken.batch)
        assert all(entry.deadline <= self.now for entry in taken.expired)
        assert all(entry.ticket.cancelled() for entry in taken.cancelled)
        gone = {id(entry) for entry in taken.batch + taken.expired + taken.cancelled}
        assert len(gone) == len(taken.batch) + len(taken.expired) + len(taken.cancelled)
        self.left += [entry for entry in self.waiting if id(entry) in gone]
        self.waiting = [entry for entry in self.waiting if id(entry) not in gone]
        alive = [entry for entry in self.waiting if entry.deadline > self.now and not entry.ticket.cancelled()]
        if taken.batch and alive:
            assert max(entry.deadline for entry in taken.batch) <= min(entry.deadline for entry in alive)
        if alive:
            assert len(taken.batch) == self.queue.max_batch_size

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was accepted waits or has left, once."""
        assert len(self.waiting) + len(self.left) == self.pushed

    @invariant()
    def waiting_is_bounded(self) -> None:
        """Something is due exactly when something waits, and never later than the delay."""
        if not hasattr(self, "queue"):
            return
        due_s = self.queue.next_due_s(self.now)
        assert (due_s is None) == (not self.waiting)
        assert due_s is None or 0.0 <= due_s <= DELAY_S


TestBatching = Batching.TestCase
