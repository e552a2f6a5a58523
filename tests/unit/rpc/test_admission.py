"""The pool that answers calls."""

import threading
import time
from collections.abc import Callable

import pytest

from bowerbird.rpc.admission import Workers


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.001)


def test_tasks_run_and_are_counted_until_they_end() -> None:
    """in_flight counts what is queued and what runs, and falls back to zero."""
    workers, gate, done = Workers(2), threading.Event(), []
    for number in range(5):
        workers.submit(lambda number: (gate.wait(5), done.append(number)), number)
    assert workers.in_flight == 5
    gate.set()
    wait_until(lambda: workers.in_flight == 0)
    assert sorted(done) == list(range(5))
    workers.shutdown()


def test_no_more_threads_than_calls_at_once() -> None:
    """One call after another needs one thread; the pool does not grow for nothing."""
    workers, names = Workers(8), set()
    for _ in range(20):
        workers.submit(lambda: names.add(threading.current_thread().name))
        wait_until(lambda: workers.in_flight == 0)
    assert len(names) == 1
    workers.shutdown()


def test_a_callback_is_called_once_before_or_after_the_end() -> None:
    """A callback added to a running task and one added to a finished task are both called, once."""
    workers, gate, called = Workers(1), threading.Event(), []
    task = workers.submit(gate.wait, 5)
    task.add_done_callback(lambda _: called.append("early"))
    gate.set()
    wait_until(lambda: called == ["early"])
    task.add_done_callback(lambda _: called.append("late"))
    assert called == ["early", "late"]
    workers.shutdown()


def test_a_task_that_exits_does_not_take_its_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that calls exit costs its own call, not the server's thread."""
    workers, answers = Workers(1), []

    def leave() -> None:
        raise SystemExit(3)

    workers.submit(leave)
    workers.submit(answers.append, "still here")
    wait_until(lambda: answers == ["still here"] and workers.in_flight == 0)
    assert "no error" in caplog.text
    workers.shutdown()


def test_shutdown_ends_the_threads_after_their_work() -> None:
    """What was taken is finished; then the threads are gone."""
    workers, gate, done = Workers(2), threading.Event(), []
    for number in range(4):
        workers.submit(lambda number: (gate.wait(5), done.append(number)), number)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("rpc-")]
    workers.shutdown()
    gate.set()
    wait_until(lambda: len(done) == 4)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
