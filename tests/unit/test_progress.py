"""The progress line."""

import io

import pytest

from bowerbird.progress import Progress, format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7, "0:07"), (201, "3:21"), (3723, "1:02:03")])
def test_duration_reads_like_a_clock(seconds: float, text: str) -> None:
    """Hours appear only when there are any."""
    assert format_duration(seconds) == text


def test_line_shows_share_rate_and_remaining_time() -> None:
    """The remaining time is what is left at the present rate."""
    clock = Clock()
    progress = Progress(1000, "pictures", stream=io.StringIO(), clock=clock)
    clock.now += 2
    progress.advance(100)
    assert progress.line() == "100 of 1,000 pictures  10 %  50/s  0:18 left"


def test_rate_forgets_what_is_long_ago() -> None:
    """A fast start does not promise a fast end."""
    clock = Clock()
    progress = Progress(0, "pictures", stream=io.StringIO(), clock=clock)
    progress.advance(10_000)
    for _ in range(40):
        clock.now += 1
        progress.advance(5)
    assert progress.rate == pytest.approx(5)
    assert progress.line().startswith("10,200 pictures")


def test_terminal_gets_one_moving_line() -> None:
    """On a terminal each state overwrites the last, and the end leaves a whole line."""
    clock, stream = Clock(), Terminal()
    progress = Progress(10, "pictures", stream=stream, clock=clock)
    for _ in range(10):
        clock.now += 1
        progress.advance()
    progress.finish()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.count("\r") == 11
    assert "█" * 24 in text


def test_file_gets_plain_lines_now_and_then() -> None:
    """Without a terminal there is no control character, and one line in ten seconds."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, "pictures", stream=stream, clock=clock)
    for _ in range(35):
        clock.now += 1
        progress.advance()
    progress.finish()
    assert len(stream.getvalue().splitlines()) == 3
    assert "\r" not in stream.getvalue()


def test_line_goes_on_from_what_was_done_before_and_carries_a_note() -> None:
    """Earlier work counts for the share, not for the rate."""
    clock = Clock()
    progress = Progress(1000, "pictures", done=500, stream=io.StringIO(), clock=clock)
    clock.now += 2
    progress.note = "loss 1.5"
    progress.advance(100)
    assert progress.line() == "600 of 1,000 pictures  60 %  50/s  0:08 left  loss 1.5"
