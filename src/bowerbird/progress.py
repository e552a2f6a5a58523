"""Progress on standard error: one moving line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

BAR_CELLS = 24
REDRAW_S = 0.1
PLAIN_LINE_S = 10.0
RATE_WINDOW_S = 15.0


def format_duration(seconds: float) -> str:
    """`0:07`, `3:21` or `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class Progress:
    """Counts what is done of a total and shows rate and remaining time.

    The rate is that of the last 15 seconds, so that a slow start (or a fast one over pictures that are already there)
    does not spoil the remaining time.

    Attributes:
        note: text at the end of the line, such as how good it is so far.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            total: how many there will be; 0 if unknown.
            unit: plural noun.
            done: of them, before this start.
            stream: None: standard error.
            clock: seconds.
        """
        self.total, self.unit, self.done, self.note = total, unit, done, ""
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._moving = self._stream.isatty()
        self._started = clock()
        self._shown = self._started
        self._history = [(self._started, done)]

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done, and redraw when it is time."""
        self.done += count
        now = self._clock()
        self._history.append((now, self.done))
        while len(self._history) > 2 and self._history[0][0] < now - RATE_WINDOW_S:
            self._history.pop(0)
        if now - self._shown >= (REDRAW_S if self._moving else PLAIN_LINE_S):
            self._shown = now
            self._draw()

    def finish(self) -> None:
        """Leave the last state on the terminal."""
        if self._moving and self._shown > self._started:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()

    def say(self, text: str) -> None:
        """Write lines that stay, above the moving one."""
        self._stream.write(("\r\x1b[2K" if self._moving else "") + text + "\n")
        self._stream.flush()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def rate(self) -> float:
        """Done a second, over the last seconds; 0.0 before anything is known."""
        (then, before), (now, after) = self._history[0], self._history[-1]
        return (after - before) / (now - then) if now > then else 0.0

    def line(self) -> str:
        """`4,096 of 12,345 pictures  33 %  142/s  0:58 left`."""
        parts = [f"{self.done:,} {self.unit}" if not self.total else f"{self.done:,} of {self.total:,} {self.unit}"]
        if self.total:
            parts.append(f"{100 * self.done // self.total} %")
        if self.rate:
            parts.append(f"{self.rate:,.0f}/s")
            if self.total:
                parts.append(f"{format_duration(max(self.total - self.done, 0) / self.rate)} left")
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)

    def _draw(self) -> None:
        if not self._moving:
            self._stream.write(self.line() + "\n")
            self._stream.flush()
            return
        filled = min(BAR_CELLS * self.done // self.total, BAR_CELLS) if self.total else 0
        text = f"{'█' * filled}{'░' * (BAR_CELLS - filled)} {self.line()}" if self.total else self.line()
        self._stream.write("\r\x1b[2K" + text[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
