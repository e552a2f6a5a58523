"""Work that flows: windows of pictures in flight, retries while a server is busy, and Ctrl-C that finishes first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import FrameType, TracebackType
from typing import Self, TypeVar

from bowerbird.cli.sources import Picture
from bowerbird.errors import BowerbirdError, DeadlineExceeded, Overloaded, Unavailable

T = TypeVar("T")

RETRY_FOR_S = 30.0
RETRY_PAUSE_S = 0.5
TRANSIENT = (Overloaded, Unavailable, DeadlineExceeded)


class Interrupt:
    """While entered, the first Ctrl-C only sets `stop`, so that work in flight is finished; the second breaks off."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt
        self.stop.set()


def group(pictures: Iterable[Picture], *, max_pictures: int, max_bytes: int) -> Iterator[list[Picture]]:
    """Windows of neighbouring pictures, bounded in number and bytes; one picture is a window at any size."""
    window: list[Picture] = []
    size = 0
    for picture in pictures:
        if window and (len(window) == max_pictures or size + len(picture.data) > max_bytes):
            yield window
            window, size = [], 0
        window.append(picture)
        size += len(picture.data)
    if window:
        yield window


def run_in_flight(
    windows: Iterator[list[Picture]],
    work: Callable[[list[Picture]], None],
    *,
    in_flight: int,
    stop: threading.Event,
) -> None:
    """Do `work` on every window, several at a time, taking the next one only when there is room for it.

    Once `stop` is set, or a window fails, no new window is taken; those in flight are finished.

    Raises:
        Exception: the first one that `work` raised.
    """
    failed: list[BaseException] = []
    pending: set[Future[None]] = set()
    with ThreadPoolExecutor(in_flight, thread_name_prefix="window") as pool:
        while not stop.is_set() and not failed and (window := next(windows, None)) is not None:
            pending.add(pool.submit(work, window))
            if len(pending) >= in_flight:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                failed += [error for future in done if (error := future.exception())]
        done, _ = wait(pending)
        failed += [error for future in done if (error := future.exception())]
    if failed:
        raise failed[0]


def with_retries(
    call: Callable[[], T], *, retry_for_s: float = RETRY_FOR_S, sleep: Callable[[float], object] = time.sleep
) -> T:
    """What the call returns, tried again while the server is overloaded, restarting or late.

    Raises:
        BowerbirdError: any other fault at once, and these when the time is over.
    """
    end = time.monotonic() + retry_for_s
    while True:
        try:
            return call()
        except TRANSIENT as error:
            pause = error.retry_after_s or RETRY_PAUSE_S
            if time.monotonic() + pause > end:
                raise
            sleep(pause)


def is_transient(error: BowerbirdError) -> bool:
    """True if trying again makes sense."""
    return isinstance(error, TRANSIENT)
