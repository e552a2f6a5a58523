"""Long work as a stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bowerbird.errors import Cancelled, DeadlineExceeded, StorageFull
from services.retrieval.budget import Budget
from services.retrieval.progress import Finished, stream


def test_progress_then_the_result() -> None:
    """Steps too small to show are left out; the result comes last."""

    def work(report: Callable[[float], None]) -> str:
        for done in (0.0, 0.001, 0.5, 1.0):
            report(done)
        return "result"

    *steps, end = stream(work, Budget.UNLIMITED)
    assert steps == [0.0, 0.5, 1.0]
    assert isinstance(end, Finished)
    assert end.value == "result"


def test_error_of_the_work_comes_out() -> None:
    """What the work raises, the iterator raises."""

    def work(_report: Callable[[float], None]) -> None:
        raise StorageFull("no space")

    with pytest.raises(StorageFull):
        list(stream(work, Budget.UNLIMITED))


def test_closed_stream_ends_the_work_first() -> None:
    """When the caller goes, the work is told, cleans up, and only then the stream is over."""
    cleaned = threading.Event()

    def work(report: Callable[[float], None]) -> None:
        try:
            for step in range(1000):
                report(step / 1000)
                time.sleep(0.01)
        except Cancelled:
            cleaned.set()
            raise

    events = stream(work, Budget.UNLIMITED)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert cleaned.is_set()


def test_deadline_ends_the_work() -> None:
    """The next report after the deadline raises inside the work."""

    def work(report: Callable[[float], None]) -> None:
        while True:
            report(0.5)

    with pytest.raises(DeadlineExceeded):
        list(stream(work, Budget(time.monotonic() + 0.05)))
