"""The call being answered: its id, its deadline, and whether anybody still waits for the answer.

Threads started by a handler do not see it by themselves: start them with `contextvars.copy_context().run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from bowerbird import telemetry
from bowerbird.errors import Cancelled, DeadlineExceeded

REQUEST_ID_HEADER = "x-request-id"


class RequestContext(telemetry.RequestScope):
    """One call.

    Attributes:
        request_id: of the caller's `x-request-id`, or made here.
        timings: (stage, seconds) so far.
        method: full name, `/bowerbird.v1.DetectorService/Detect`.
        started: of `time.monotonic()`.
        deadline: of `time.monotonic()`; the caller's, the method's default if there was none, at most its maximum.
        arrival_remaining_s: what the caller allowed when the call came; None: it set no deadline.
    """

    __slots__ = ("_servicer_context", "arrival_remaining_s", "deadline", "method", "started")

    def __init__(
        self,
        request_id: str,
        method: str,
        started: float,
        deadline: float,
        arrival_remaining_s: float | None,
        servicer_context: grpc.ServicerContext,
    ) -> None:
        self.request_id = request_id
        self.timings = []
        self.method = method
        self.started = started
        self.deadline = deadline
        self.arrival_remaining_s = arrival_remaining_s
        self._servicer_context = servicer_context

    def remaining_s(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - time.monotonic())

    def is_cancelled(self) -> bool:
        """Whether the caller is gone: cancelled, disconnected, or its deadline passed."""
        return not self._servicer_context.is_active()

    def raise_if_over(self) -> None:
        """Do nothing while the answer is still wanted.

        Raises:
            DeadlineExceeded: the deadline has passed.
            Cancelled: the caller is gone.
        """
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded(f"the deadline of {self.method} has passed; allow more time")
        if self.is_cancelled():
            raise Cancelled(f"the caller of {self.method} is gone")

    def nested(self, method: str, started: float, deadline: float) -> RequestContext:
        """A call that this one makes within the process: timings of its own, the same id, caller and fate."""
        return RequestContext(self.request_id, method, started, deadline, deadline - started, self._servicer_context)

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called once when the call ends in any way; False if it has ended already.

        It runs on the transport's only thread, so it must not wait for anything.
        """
        return bool(self._servicer_context.add_callback(callback))


def current_or_none() -> RequestContext | None:
    """The call being answered, or None outside a handler."""
    scope = telemetry.SCOPE.get()
    return scope if isinstance(scope, RequestContext) else None


def current() -> RequestContext:
    """The call being answered.

    Raises:
        LookupError: not in a handler, nor in a thread that was given a copy of its context.
    """
    context = current_or_none()
    if context is None:
        raise LookupError("no call is being answered in this thread; pass the context with contextvars.copy_context()")
    return context
