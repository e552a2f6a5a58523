"""Group commit: writers that arrive while one is syncing share the next sync."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from bowerbird.errors import BowerbirdError, Internal


class Write(Protocol):
    """One call's change, waiting for its commit."""

    done: bool
    error: BowerbirdError | None
    shares: bool
    """Whether it may be committed together with others."""


W = TypeVar("W", bound=Write)


class CommitQueue(Generic[W]):
    """Hands writes to `commit` in the order they came, as many at once as may share one transaction.

    Whoever holds the turn commits for all who wait; they find their write done when their turn comes.
    """

    def __init__(self, commit: Callable[[Sequence[W]], None], *, max_group: int = 64) -> None:
        """
        Args:
            commit: sets `done`, and `error` where one is at fault, on each write it is given: one that does not share,
                or several that do. If it raises, the writes that are not done fail with that.
        """
        self._commit = commit
        self._max_group = max_group
        self._arrivals = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[W] = []

    def submit(self, write: W) -> None:
        """Return when `write` was committed, by this thread or another; raise its error if it has one."""
        with self._arrivals:
            self._waiting.append(write)
        with self._turn:
            while not write.done:
                group = self._take_group()
                try:
                    self._commit(group)
                except BowerbirdError as error:
                    _fail(group, error)
                except BaseException as error:
                    _fail(group, Internal(f"the commit that this write was part of failed: {error}"))
                    raise
        if write.error is not None:
            raise write.error

    def exclusive(self) -> threading.Lock:
        """The lock that keeps all writes out while it is held."""
        return self._turn

    def _take_group(self) -> list[W]:
        with self._arrivals:
            end = 1
            if self._waiting[0].shares:
                while end < min(len(self._waiting), self._max_group) and self._waiting[end].shares:
                    end += 1
            group, self._waiting = self._waiting[:end], self._waiting[end:]
            return group


def _fail(group: Sequence[Write], error: BowerbirdError) -> None:
    for write in group:
        if not write.done:
            write.error = type(error)(error.message, field=error.field, retry_after_s=error.retry_after_s)
            write.done = True
