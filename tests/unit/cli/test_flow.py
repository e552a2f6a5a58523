"""Windows in flight, retries and Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from bowerbird.cli.flow import Interrupt, group, run_in_flight, with_retries
from bowerbird.cli.sources import Picture
from bowerbird.errors import ImageDecodeFailed, QueueFull


def picture(number: int, size: int = 10) -> Picture:
    return Picture(f"{number}.png", b"x" * size, {})


def test_windows_are_bounded_in_number_and_bytes() -> None:
    """Order is kept, nothing is lost, and one large picture still travels."""
    pictures = [picture(number, size) for number, size in enumerate([1, 1, 1, 90, 500, 50, 50])]
    windows = [[len(one.data) for one in window] for window in group(iter(pictures), max_pictures=2, max_bytes=100)]
    assert windows == [[1, 1], [1, 90], [500], [50, 50]]


def test_only_so_many_windows_are_in_flight() -> None:
    """The source is read no faster than windows finish."""
    running, most, taken = 0, 0, 0
    lock = threading.Lock()

    def windows() -> Iterator[list[Picture]]:
        nonlocal taken
        for number in range(12):
            taken += 1
            yield [picture(number)]

    def work(_window: list[Picture]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    run_in_flight(windows(), work, in_flight=3, stop=threading.Event())
    assert taken == 12
    assert most == 3


def test_failure_stops_the_reading_and_is_raised() -> None:
    """After a failed window no new one is taken, and its error is what the caller sees."""
    done = []

    def work(window: list[Picture]) -> None:
        if window[0].item_id == "2.png":
            raise QueueFull("full")
        done.append(window[0].item_id)

    with pytest.raises(QueueFull):
        run_in_flight(([picture(n)] for n in range(100)), work, in_flight=1, stop=threading.Event())
    assert done == ["0.png", "1.png"]


def test_interrupt_finishes_what_is_in_flight() -> None:
    """One Ctrl-C takes no further window, but those taken are completed."""
    done = []

    def work(window: list[Picture]) -> None:
        if window[0].item_id == "1.png":
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        done.append(window[0].item_id)

    with Interrupt() as interrupt:
        run_in_flight(([picture(n)] for n in range(100)), work, in_flight=2, stop=interrupt.stop)
    assert interrupt.stop.is_set()
    assert {"0.png", "1.png"} <= set(done)
    assert len(done) < 10


def test_second_interrupt_breaks_off() -> None:
    """Whoever presses Ctrl-C twice does not wait."""
    with pytest.raises(KeyboardInterrupt), Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_overload_is_retried_after_the_time_the_server_asks_for() -> None:
    """The pause is the server's, and the answer of the first success counts."""
    pauses: list[float] = []
    answers = iter([QueueFull("full", retry_after_s=0.25), QueueFull("full"), None])

    def call() -> str:
        error = next(answers)
        if error:
            raise error
        return "done"

    assert with_retries(call, sleep=pauses.append) == "done"
    assert pauses == [0.25, 0.5]


def test_bad_input_is_not_retried() -> None:
    """What will fail again fails at once."""
    calls = []

    def call() -> None:
        calls.append(1)
        raise ImageDecodeFailed("broken")

    with pytest.raises(ImageDecodeFailed):
        with_retries(call)
    assert len(calls) == 1


def test_retries_end_when_the_time_is_over() -> None:
    """A server that stays overloaded is given up on."""

    def call() -> None:
        raise QueueFull("full", retry_after_s=60)

    with pytest.raises(QueueFull):
        with_retries(call, retry_for_s=1)
