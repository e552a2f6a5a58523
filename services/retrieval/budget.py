"""How long a caller waits, and whether it still does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from bowerbird.errors import Cancelled, DeadlineExceeded, SequenceNotReached

_POLL_S = 0.05
"""Between two looks at cancellation while waiting."""
_REPLY_S = 0.05
"""Kept back from the deadline, so that the reason is there before the caller stops listening."""


@dataclass(frozen=True)
class Budget:
    """Deadline (of `time.monotonic`, None: none) and cancellation of one call."""

    deadline: float | None = None
    is_cancelled: Callable[[], bool] | None = None

    UNLIMITED: ClassVar[Budget]

    def check(self) -> None:
        """Raises Cancelled or DeadlineExceeded once nobody waits for the answer any more."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise Cancelled("the client cancelled the call")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded("the deadline passed before the work was done; allow more time or ask for less")

    def wait_until(self, condition: threading.Condition, reached: Callable[[], bool], what: str) -> None:
        """Return once `reached`, holding `condition` while asking.

        Raises:
            SequenceNotReached: the deadline came first, or there is none to wait for.
            Cancelled: the caller gave up.
        """
        with condition:
            while not reached():
                if self.is_cancelled is not None and self.is_cancelled():
                    raise Cancelled("the client cancelled the call")
                left_s = 0.0 if self.deadline is None else self.deadline - time.monotonic() - _REPLY_S
                if left_s <= 0:
                    raise SequenceNotReached(f"{what}; read it from the process that wrote it, or allow more time")
                condition.wait(min(left_s, _POLL_S))


Budget.UNLIMITED = Budget()
