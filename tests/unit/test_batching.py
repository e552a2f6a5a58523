"""The queue's decisions with a clock of our own, then the worker with real threads and no model."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from bowerbird import telemetry
from bowerbird.batching import Batcher, BatchQueue, Entry, Ticket
from bowerbird.errors import (
    ArgumentInvalid,
    Cancelled,
    DeadlineExceeded,
    Draining,
    ExpiredInQueue,
    InferenceFailed,
    QueueFull,
    VectorInvalid,
)

DELAY_S = 0.002
WAIT_S = 10.0  # no test waits this long unless something hangs


def make_queue(max_batch_size: int = 4, max_queue: int = 100, max_delay_s: float = DELAY_S) -> BatchQueue[str, str]:
    return BatchQueue(max_batch_size=max_batch_size, max_delay_s=max_delay_s, max_queue=max_queue)


def push(queue: BatchQueue[str, str], names: str, now: float, **options: object) -> list[Entry[str, str]]:
    """Queues one entry a letter."""
    entries = [Entry[str, str](name, **options) for name in names]  # type: ignore[arg-type]
    queue.push(entries, now)
    return entries


def names(entries: list[Entry[str, str]]) -> str:
    return "".join(entry.item for entry in entries)


def busy(queue: BatchQueue[str, str], now: float) -> None:
    """Lets the queue see a crowd: arrivals closer together than the delay."""
    for step in range(40):
        push(queue, "x", now - (40 - step) * DELAY_S / 20)
    while len(queue):
        queue.take(now)


class TestBatchQueue:
    """Decisions, without a thread, a model or a clock."""

    def test_earliest_deadline_goes_first(self) -> None:
        """Order is by deadline, not by arrival; without a deadline comes last; ties keep their order."""
        queue = make_queue(max_batch_size=10)
        for name, deadline in (("a", 9.0), ("b", 3.0), ("c", float("inf")), ("d", 5.0), ("e", 3.0)):
            push(queue, name, 1.0, deadline=deadline)
        assert names(queue.take(1.0).batch) == "bedac"

    def test_batch_never_exceeds_its_maximum(self) -> None:
        """A group larger than a batch is cut."""
        queue = make_queue(max_batch_size=4)
        push(queue, "abcdefghij", 0.0)
        assert [names(queue.take(0.0).batch) for _ in range(4)] == ["abcd", "efgh", "ij", ""]

    def test_expired_is_dropped_before_computing(self) -> None:
        """An entry at or past its deadline takes no place in the batch."""
        queue = make_queue(max_batch_size=2)
        push(queue, "a", 0.0, deadline=1.0)
        push(queue, "bc", 0.0, deadline=2.0)
        taken = queue.take(1.0)
        assert (names(taken.expired), names(taken.batch)) == ("a", "bc")

    def test_cancelled_is_dropped_before_computing(self) -> None:
        """An entry whose client has gone, or whose ticket was cancelled, takes no place in the batch."""
        queue = make_queue(max_batch_size=2)
        push(queue, "a", 0.0, is_cancelled=lambda: True)
        [entry] = push(queue, "b", 0.0)
        push(queue, "cd", 0.0, is_cancelled=lambda: False)
        assert entry.ticket.cancel()
        taken = queue.take(0.0)
        assert (names(taken.cancelled), names(taken.batch)) == ("ab", "cd")

    def test_raising_is_cancelled_counts_as_wanted(self, caplog: pytest.LogCaptureFixture) -> None:
        """A broken callback is logged and cannot stop the queue."""
        queue = make_queue()
        push(queue, "a", 0.0, is_cancelled=lambda: 1 // 0 == 0)
        assert names(queue.take(0.0).batch) == "a"
        assert "is_cancelled raised" in caplog.text

    def test_nothing_is_due_when_empty(self) -> None:
        """An empty queue has no due time and gives an empty batch."""
        queue = make_queue()
        assert queue.next_due_s(0.0) is None
        assert queue.take(0.0).batch == []

    def test_lonely_entry_does_not_wait(self) -> None:
        """Without other arrivals in sight an entry runs at once."""
        queue = make_queue()
        for now in (0.0, 1.0, 2.0):
            push(queue, "a", now)
            assert queue.next_due_s(now) == 0.0
            queue.take(now)

    def test_crowd_is_waited_for_no_longer_than_the_delay(self) -> None:
        """While arrivals are dense the first entry waits for company, at most max_delay_s after its own arrival."""
        queue = make_queue()
        busy(queue, 10.0)
        push(queue, "a", 10.0)
        assert queue.next_due_s(10.0) == pytest.approx(DELAY_S)
        push(queue, "b", 10.0015)
        assert queue.next_due_s(10.0015) == pytest.approx(0.0005)
        assert queue.next_due_s(10.5) == 0.0

    def test_full_batch_is_due_at_once(self) -> None:
        """Company is complete when the batch is full."""
        queue = make_queue(max_batch_size=2)
        busy(queue, 10.0)
        push(queue, "ab", 10.0)
        assert queue.next_due_s(10.0) == 0.0

    def test_what_stays_behind_is_due_by_its_own_age(self) -> None:
        """After a batch was taken the age of the oldest that is left counts, not of what is gone."""
        queue = make_queue(max_batch_size=1)
        busy(queue, 10.0)
        push(queue, "a", 10.0, deadline=20.0)
        push(queue, "b", 10.001, deadline=15.0)
        assert names(queue.take(10.001).batch) == "b"
        queue.max_batch_size = 2
        assert queue.next_due_s(10.001) == pytest.approx(DELAY_S - 0.001)

    def test_a_patient_entry_keeps_no_others_alive(self) -> None:
        """While more urgent work keeps coming, what was taken is let go, though the oldest still waits."""
        queue = make_queue(max_batch_size=4)
        push(queue, "p", 0.0)
        taken = []
        for step in range(100):
            now = step * DELAY_S
            taken += [weakref.ref(entry.ticket) for entry in push(queue, "abcd", now, deadline=now + 1.0)]
            queue.next_due_s(now)
            assert names(queue.take(now).batch) == "abcd"
        assert len(queue) == 1
        assert sum(ticket() is not None for ticket in taken) <= 2 * queue.max_batch_size

    def test_a_quiet_hour_is_forgotten(self) -> None:
        """After a long pause a few quick arrivals are enough to expect more."""
        queue = make_queue(max_batch_size=100)
        push(queue, "a", 0.0)
        for step in range(20):
            push(queue, "b", 3600.0 + step * DELAY_S / 10)
        assert queue.next_due_s(3600.0 + 2 * DELAY_S) is not None
        push(queue, "c", 3600.0 + 2 * DELAY_S)
        queue.take(3600.0 + 2 * DELAY_S)
        push(queue, "d", 3600.0 + 2 * DELAY_S)
        assert queue.next_due_s(3600.0 + 2 * DELAY_S) == pytest.approx(DELAY_S)

    def test_full_queue_refuses_and_says_when_to_return(self) -> None:
        """No room: QueueFull with the time that the queue needs, by what runs have cost."""
        queue = make_queue(max_queue=4)
        queue.observe_run(10, 1.0)
        push(queue, "abcd", 0.0)
        with pytest.raises(QueueFull, match="4 items wait of at most 4") as caught:
            push(queue, "e", 0.0)
        assert caught.value.retry_after_s == pytest.approx(0.4)
        assert len(queue) == 4

    def test_group_is_refused_whole(self) -> None:
        """A group without room for all is refused; nothing of it stays."""
        queue = make_queue(max_queue=4)
        push(queue, "abc", 0.0)
        with pytest.raises(QueueFull):
            push(queue, "de", 0.0)
        assert names(queue.take(0.0).batch) == "abc"

    def test_group_larger_than_the_queue_runs_when_nothing_waits(self) -> None:
        """It could never run otherwise."""
        queue = make_queue(max_queue=2)
        push(queue, "abcde", 0.0)
        assert len(queue) == 5
        with pytest.raises(QueueFull):
            push(queue, "f", 0.0)

    def test_dead_entries_make_room(self) -> None:
        """A full queue drops the expired and the cancelled before it refuses."""
        queue = make_queue(max_queue=3)
        push(queue, "a", 0.0, deadline=1.0)
        push(queue, "b", 0.0, is_cancelled=lambda: True)
        push(queue, "c", 0.0)
        push(queue, "de", 2.0)
        taken = queue.take(2.0)
        assert (names(taken.expired), names(taken.cancelled), names(taken.batch)) == ("a", "b", "cde")
        assert queue.next_due_s(2.0) is None

    def test_dead_entries_leave_even_when_there_is_still_no_room(self) -> None:
        """A refusal after a sweep loses nobody: the dead come out of the next take."""
        queue = make_queue(max_queue=3)
        push(queue, "a", 0.0, deadline=1.0)
        push(queue, "bc", 0.0)
        with pytest.raises(QueueFull):
            push(queue, "de", 2.0)
        assert queue.next_due_s(2.0) == 0.0
        taken = queue.take(2.0)
        assert (names(taken.expired), names(taken.batch)) == ("a", "bc")

    def test_refusing_is_cheap(self) -> None:
        """A full queue does not look through all entries at each refusal."""
        asked: list[str] = []

        def is_cancelled() -> bool:
            asked.append("again")
            return False

        queue = make_queue(max_queue=100)
        push(queue, "x" * 100, 0.0, is_cancelled=is_cancelled)
        for step in range(50):
            with pytest.raises(QueueFull):
                push(queue, "y", 1.0 + step * 1e-4)
        assert len(asked) == 100

    def test_take_all_empties_in_order(self) -> None:
        """Everything that waits comes out, most urgent first."""
        queue = make_queue()
        push(queue, "ab", 0.0, deadline=5.0)
        push(queue, "c", 0.0, deadline=1.0)
        assert names(queue.take_all()) == "cab"
        assert queue.next_due_s(0.0) is None

    @pytest.mark.parametrize(
        "limits", [{"max_batch_size": 0}, {"max_queue": 0}, {"max_delay_s": -1.0}, {"max_delay_s": float("nan")}]
    )
    def test_limits_out_of_range_are_refused(self, limits: dict[str, float]) -> None:
        """Sizes below one and negative delays are errors of the caller."""
        with pytest.raises(ArgumentInvalid):
            make_queue(**limits)  # type: ignore[arg-type]


Run = Callable[[list[int]], list[int | Exception]]


def double(items: list[int]) -> list[int | Exception]:
    return [2 * item for item in items]


class Gate:
    """A model that waits until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self.entered.set()
        assert self.open.wait(WAIT_S)
        return double(items)


@pytest.fixture
def start() -> Iterator[Callable[..., Batcher[int, int]]]:
    """Makes batchers that are closed at the end."""
    made: list[Batcher[int, int]] = []

    def make(run: Run = double, **options: object) -> Batcher[int, int]:
        settings = {"service": "test", "model": "none", "max_batch_size": 4, **options}
        made.append(Batcher(run, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for batcher in made:
        batcher.close(timeout_s=WAIT_S)
        assert not batcher.is_alive()


class TestBatcher:
    """The worker thread and its callers."""

    def test_submit_answers(self, start: Callable[..., Batcher[int, int]]) -> None:
        """A submitted item comes back computed, with what it cost."""
        ticket = start().submit(21)
        assert ticket.result(WAIT_S) == 42
        assert ticket.queue_s >= 0
        assert ticket.run_s >= 0
        assert ticket.batch_size == 1

    def test_infer_answers_in_order_and_records_stages(self, start: Callable[..., Batcher[int, int]]) -> None:
        """A group comes back in its order; queue and infer are stages of the calling request."""
        batcher = start()
        with telemetry.collect_timings() as timings:
            assert batcher.infer(list(range(10))) == [2 * item for item in range(10)]
        assert [stage for stage, _ in timings] == ["queue", "infer"]

    def test_times_are_measured(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Waiting ends where the run begins; a group's stages are the longest of its items."""
        now = [100.0]

        def run(items: list[int]) -> list[int | Exception]:
            now[0] += 0.25
            return double(items)

        batcher = start(run, max_batch_size=2, max_delay_s=0.0, clock=lambda: now[0])
        with telemetry.collect_timings() as timings:
            batcher.infer([1, 2, 3, 4, 5])
        assert timings == [("queue", 0.5), ("infer", 0.25)]
        ticket = batcher.submit(6)
        assert ticket.result(WAIT_S) == 12
        assert (ticket.queue_s, ticket.run_s) == (0.0, 0.25)

    def test_infer_of_nothing_is_nothing(self, start: Callable[..., Batcher[int, int]]) -> None:
        """An empty group needs no run."""
        assert start().infer([]) == []

    def test_waiting_items_share_a_batch(self, start: Callable[..., Batcher[int, int]]) -> None:
        """What comes while the model runs is computed together, never more than the maximum."""
        gate = Gate()
        batcher = start(gate, max_batch_size=4)
        tickets = [batcher.submit(0)]
        assert gate.entered.wait(WAIT_S)
        tickets += [batcher.submit(item) for item in range(1, 7)]
        gate.open.set()
        assert [ticket.result(WAIT_S) for ticket in tickets] == [0, 2, 4, 6, 8, 10, 12]
        assert [len(batch) for batch in gate.batches] == [1, 4, 2]

    def test_poisoned_item_fails_alone(self, start: Callable[..., Batcher[int, int]]) -> None:
        """One item that breaks the model fails; its neighbours are answered."""

        def run(items: list[int]) -> list[int | Exception]:
            if 13 in items:
                raise RuntimeError("unlucky")
            return double(items)

        results = start(run, max_batch_size=32).infer(list(range(32)))
        assert [result for result in results if isinstance(result, int)] == [
            2 * item for item in range(32) if item != 13
        ]
        assert isinstance(results[13], InferenceFailed)
        assert "unlucky" in results[13].message

    def test_what_is_late_when_its_batch_broke_is_not_tried_again(
        self, start: Callable[..., Batcher[int, int]]
    ) -> None:
        """Looking for the culprit computes only what is still in time."""
        now, gate, batches = [0.0], Gate(), []

        def run(items: list[int]) -> list[int | Exception]:
            batches.append(items)
            if len(items) > 1:
                now[0] = 10.0
                raise RuntimeError("slow and broken")
            return gate(items)

        batcher = start(run, max_delay_s=0.0, clock=lambda: now[0])
        batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        late, patient = batcher.submit(1, deadline=5.0), batcher.submit(2)
        gate.open.set()
        assert patient.result(WAIT_S) == 4
        with pytest.raises(ExpiredInQueue):
            late.result(WAIT_S)
        assert batches == [[0], [1, 2], [2]]

    def test_all_poisoned_items_fail_each(self, start: Callable[..., Batcher[int, int]]) -> None:
        """When nothing works every item has its answer, and the worker lives on."""
        broken = [True]

        def run(items: list[int]) -> list[int | Exception]:
            if broken:
                raise SystemExit(1)
            return double(items)

        batcher = start(run)
        assert all(isinstance(result, InferenceFailed) for result in batcher.infer([1, 2, 3]))
        broken.clear()
        assert batcher.infer([1]) == [2]
        assert batcher.is_alive()

    def test_exception_as_result_fails_its_item_only(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Our errors pass as they are; any other is wrapped."""

        def run(items: list[int]) -> list[int | Exception]:
            results: list[int | Exception] = [VectorInvalid("odd"), TimeoutError("slow"), 3]
            return results[: len(items)]

        first, second, third = start(run).infer([1, 2, 3], deadline=time.monotonic() + WAIT_S)
        assert isinstance(first, VectorInvalid)
        assert isinstance(second, InferenceFailed)
        assert isinstance(second.__cause__, TimeoutError)
        assert third == 3

    def test_wrong_number_of_results_is_a_failure(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Results are never given to the wrong items."""
        results = start(lambda items: [*items, 0]).infer([1, 2])
        assert all(isinstance(result, InferenceFailed) for result in results)

    def test_expired_work_is_not_computed(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Work that waited past its deadline is answered with ExpiredInQueue and never reaches the model."""
        gate = Gate()
        batcher = start(gate)
        first = batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        late = batcher.submit(1, deadline=time.monotonic() + 0.001)
        time.sleep(0.005)
        gate.open.set()
        assert first.result(WAIT_S) == 0
        with pytest.raises(ExpiredInQueue):
            late.result(WAIT_S)
        assert gate.batches == [[0]]

    def test_infer_returns_at_its_deadline(self, start: Callable[..., Batcher[int, int]]) -> None:
        """A caller never waits past its deadline, whether its work waits or runs."""
        gate = Gate()
        batcher = start(gate, max_batch_size=1)
        started_at = time.monotonic()
        running, waiting = batcher.infer([1, 2], deadline=started_at + 0.05)
        assert time.monotonic() - started_at < WAIT_S / 2
        assert type(running) is DeadlineExceeded
        assert isinstance(waiting, ExpiredInQueue)
        gate.open.set()
        assert batcher.infer([3]) == [6]
        assert gate.batches == [[1], [3]]

    def test_cancelled_work_is_not_computed(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Work whose client has gone is answered with Cancelled and never reaches the model."""
        gate = Gate()
        batcher = start(gate)
        gone = threading.Event()
        first = batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        unwanted = batcher.submit(1, is_cancelled=gone.is_set)
        gone.set()
        gate.open.set()
        assert first.result(WAIT_S) == 0
        with pytest.raises(Cancelled):
            unwanted.result(WAIT_S)
        assert gate.batches == [[0]]

    def test_cancellation_storm_leaves_no_stuck_ticket(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Ten thousand submits of four threads, half of them cancelled at random moments: every ticket is settled."""
        batcher = start(max_batch_size=32, max_queue=20_000)
        tickets: list[list[tuple[int, Ticket[int]]]] = [[] for _ in range(4)]

        def storm(part: int) -> None:
            for item in range(2500):
                ticket = batcher.submit(item)
                tickets[part].append((item, ticket))
                if item % 2:
                    tickets[part][item // 2][1].cancel()

        threads = [threading.Thread(target=storm, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        settled = [(item, ticket) for part in tickets for item, ticket in part]
        assert len(settled) == 10_000
        for item, ticket in settled:
            if not ticket.cancelled():
                assert ticket.result(WAIT_S) == 2 * item
        assert batcher.infer([1]) == [2]

    def test_full_queue_sheds_and_counts(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Beyond max_queue items are refused with a time to return, and counted."""
        gate = Gate()
        batcher = start(gate, max_queue=2, model="shed")
        shed = telemetry.SHED_TOTAL.labels("test", "QUEUE_FULL")
        before = shed._value.get()
        batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        batcher.submit_group([1, 2])
        with pytest.raises(QueueFull) as caught:
            batcher.submit_group([3, 4])
        assert caught.value.retry_after_s is not None
        assert shed._value.get() == before + 2
        assert telemetry.BATCH_QUEUE_DEPTH.labels("test", "shed")._value.get() == 2
        assert telemetry.BATCH_QUEUE_LIMIT.labels("test", "shed")._value.get() == 2
        gate.open.set()

    def test_close_drains(self, start: Callable[..., Batcher[int, int]]) -> None:
        """What waits is computed before the worker ends; new work is refused."""
        gate = Gate()
        batcher = start(gate, max_batch_size=1)
        tickets = [batcher.submit(item) for item in range(3)]
        closing = threading.Thread(target=batcher.close)
        closing.start()
        gate.open.set()
        closing.join(WAIT_S)
        assert [ticket.result(WAIT_S) for ticket in tickets] == [0, 2, 4]
        with pytest.raises(Draining):
            batcher.submit(3)

    def test_close_without_drain_fails_what_waits(self, start: Callable[..., Batcher[int, int]]) -> None:
        """The running batch ends, the rest is told that the server is going."""
        gate = Gate()
        batcher = start(gate, max_batch_size=1)
        first = batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        second = batcher.submit(1)
        batcher.close(drain=False, timeout_s=0.0)
        with pytest.raises(Draining):
            second.result(WAIT_S)
        assert telemetry.BATCH_QUEUE_DEPTH.labels("test", "none")._value.get() == 0
        gate.open.set()
        assert first.result(WAIT_S) == 0

    def test_close_does_not_wait_for_a_hanging_model(
        self,
        start: Callable[..., Batcher[int, int]],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A run that never ends cannot keep the process from ending; what waits behind it is told."""
        gate = Gate()
        batcher = start(gate, max_batch_size=1)
        first = batcher.submit(0)
        assert gate.entered.wait(WAIT_S)
        second = batcher.submit(1)
        monkeypatch.setattr("bowerbird.batching.worker.STALLED_AFTER_S", 0.02)
        closing = threading.Thread(target=batcher.close)
        closing.start()
        closing.join(WAIT_S / 10)
        hung = closing.is_alive()
        gate.open.set()
        closing.join(WAIT_S)
        assert not hung
        assert "the model hangs" in caplog.text
        with pytest.raises(Draining):
            second.result(WAIT_S)
        assert first.result(WAIT_S) == 0

    def test_hanging_model_is_not_alive(
        self, start: Callable[..., Batcher[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run longer than the watchdog allows shows as dead, and as alive again after it returned."""
        monkeypatch.setattr("bowerbird.batching.worker.STALLED_AFTER_S", 0.02)
        gate = Gate()
        batcher = start(gate)
        ticket = batcher.submit(1)
        assert gate.entered.wait(WAIT_S)
        time.sleep(0.04)
        assert not batcher.is_alive()
        gate.open.set()
        assert ticket.result(WAIT_S) == 2
        batcher.infer([1])
        assert batcher.is_alive()

    def test_batches_are_measured(self, start: Callable[..., Batcher[int, int]]) -> None:
        """Batch size, queue wait and wasted time are observed under the model's label."""
        batcher = start(model="measured")
        batcher.infer([1, 2, 3])
        sizes = telemetry.BATCH_SIZE.labels("test", "measured")
        waits = telemetry.BATCH_QUEUE_WAIT_SECONDS.labels("test", "measured")
        wasted = telemetry.WASTED_COMPUTE_SECONDS_TOTAL.labels("test")
        before = wasted._value.get()
        batcher.submit(4, is_cancelled=iter([False, True]).__next__).result(WAIT_S)
        assert wasted._value.get() > before
        assert sizes._sum.get() == 4
        assert sum(bucket.get() for bucket in waits._buckets) == 4

    def test_failures_are_logged(
        self, start: Callable[..., Batcher[int, int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The stack of a failed run is in the log."""

        def run(items: list[int]) -> list[int | Exception]:
            raise ValueError("broken model")

        with caplog.at_level(logging.ERROR):
            start(run).infer([1])
        assert "broken model" in caplog.text
