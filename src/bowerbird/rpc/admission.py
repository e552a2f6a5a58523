"""Who gets in: the one interceptor, and the thread pool whose fill it looks at.

Calls are refused when they arrive, not when a thread gets to them, and the refusals run on a small pool of their own:
a full server still answers at once that it is full, and its health probes too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import grpc

from bowerbird.errors import ConcurrencyLimit, Draining, NotReady
from bowerbird.rpc.context import PROCESS_HEADER, PROCESS_ID
from bowerbird.rpc.handlers import BoundMethod, refuse

_RETRY_AFTER_S = 0.1

if TYPE_CHECKING:  # generic for the checker only
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor


class Gate(Enum):
    """Which calls may come in; those that handlers of this process make always may."""

    STARTING = auto()
    OPEN = auto()
    DRAINING = auto()


class Workers(futures.ThreadPoolExecutor):
    """The threads that answer calls; knows how many calls it has taken and not finished."""

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="rpc")
        self._lock = threading.Lock()
        self.in_flight = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """As the base class."""
        with self._lock:
            self.in_flight += 1
        try:
            future = super().submit(fn, *args, **kwargs)
        except RuntimeError:  # shut down
            self._release()
            raise
        future.add_done_callback(self._release)
        return future

    def _release(self, _future: object = None) -> None:
        with self._lock:
            self.in_flight -= 1


class Admission(Interceptor):
    """Lets a call through while the gate is open and the pool has room; otherwise hands it to a refusing handler."""

    def __init__(self, workers: Workers, max_concurrent: int, refusal_pool: futures.ThreadPoolExecutor) -> None:
        self.gate = Gate.STARTING
        self._workers = workers
        self._max_concurrent = max_concurrent
        self._pool = refusal_pool
        self._refusals: dict[str, dict[str, Handler]] = {}

    def guard(self, path: str, handler: Handler, bound: BoundMethod) -> None:
        """Refuse calls of this method when there is a reason to; methods without a guard always pass."""
        limit = self._max_concurrent
        self._refusals[path] = {
            "starting": refuse(
                handler, bound, lambda: NotReady("the server is still starting; try again soon"), self._pool
            ),
            "draining": refuse(
                handler, bound, lambda: Draining("the server is shutting down; call another one"), self._pool
            ),
            "full": refuse(
                handler,
                bound,
                lambda: ConcurrencyLimit(
                    f"this server takes {limit} calls at once and has them; try again after the delay",
                    retry_after_s=_RETRY_AFTER_S,
                ),
                self._pool,
            ),
        }

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler for this call."""
        if self.gate is Gate.OPEN and self._workers.in_flight < self._max_concurrent:
            return continuation(handler_call_details)
        return self._refuse(handler_call_details) or continuation(handler_call_details)

    def _refuse(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """The refusing handler, or None where the call passes all the same."""
        refusals = self._refusals.get(details.method)
        if refusals is None:
            return None
        if self._workers.in_flight >= self._max_concurrent:
            return refusals["full"]
        if dict(details.invocation_metadata).get(PROCESS_HEADER) == PROCESS_ID:
            return None
        return {Gate.STARTING: refusals["starting"], Gate.DRAINING: refusals["draining"]}.get(self.gate)
