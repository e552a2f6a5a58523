"""Long work as a stream: progress while it goes on, its result at the end, and an end to it when nobody listens."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bowerbird.errors import Cancelled

from .budget import Budget

T = TypeVar("T")

_STEP = 0.01
"""Progress smaller than this is not worth a message."""


class Finished(Generic[T]):
    """The end of a stream: what the work returned."""

    def __init__(self, value: T) -> None:
        self.value = value


def stream(work: Callable[[Callable[[float], None]], T], budget: Budget) -> Iterator[float | Finished[T]]:
    """Progress from 0 to 1, then the result of `work`, which runs in a thread meanwhile.

    When the budget ends or the iterator is closed, the next report of progress raises inside `work`, and the iterator
    ends only after `work` has cleaned up.
    """
    events: queue.SimpleQueue[float | Finished[T] | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()
    shown = -1.0

    def report(done: float) -> None:
        nonlocal shown
        if stopped.is_set():
            raise Cancelled("the client cancelled the call")
        budget.check()
        if done - shown >= _STEP:
            shown = done
            events.put(done)

    def run() -> None:
        try:
            events.put(Finished(work(report)))
        except BaseException as error:
            events.put(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="long-work")
    thread.start()
    try:
        while True:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Finished):
                return
    finally:
        stopped.set()
        thread.join()
