"""Who gets in: the one interceptor, and the thread pool whose fill it looks at.

Calls are refused when they arrive, not when a thread gets to them, and the refusals run on a small pool of their own:
a full server still answers at once that it is full, and its health probes too. Who has no token takes no worker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent import futures
from enum import Enum, auto
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, ConcurrencyLimit, Draining, NotReady
from bowerbird.rpc.handlers import BoundMethod, refuse

_RETRY_AFTER_S = 0.1
_log = telemetry.get_logger("bowerbird.rpc")

if TYPE_CHECKING:  # generic for the checker only
    Handler = grpc.RpcMethodHandler[Any, Any]
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor


class Gate(Enum):
    """Whether calls may come in."""

    STARTING = auto()
    OPEN = auto()
    DRAINING = auto()


_UNGUARDED: tuple[None, dict[Gate, Handler]] = (None, {})


class _Task:
    """A call on its way through the pool; the part of a future that the transport uses."""

    __slots__ = ("_callbacks", "_done", "run")

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self._done = False
        self._callbacks: deque[Callable[[Any], object]] = deque()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)
        if self._done:
            self.notify()

    def notify(self) -> None:
        """Call each callback once, whichever of the two threads gets to it first."""
        self._done = True
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:
                return
            callback(self)


class Workers:
    """The threads that answer calls; knows how many calls it has taken and not finished.

    What the transport needs of a `ThreadPoolExecutor`, but lighter: those futures cost some microseconds a call. And
    these threads do not keep a process alive that has given up on a call.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.in_flight = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The task, which soon runs on one of the threads."""
        task = _Task(partial(fn, *args, **kwargs))
        with self._lock:
            self.in_flight += 1
            if self.in_flight > len(self._threads) < self._max_workers:
                self._start_thread()
        self._queue.put(task)
        return task

    def shutdown(self) -> None:
        """Let each thread end after what is queued."""
        with self._lock:
            count = len(self._threads)
        for _ in range(count):
            self._queue.put(None)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"rpc-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        take = self._queue.get
        while (task := take()) is not None:
            try:
                task.run()
            except BaseException:  # a handler called exit: the call fails, the thread goes on
                _log.exception("a handler ended in a way that is no error")
            with self._lock:
                self.in_flight -= 1
            task.notify()
            del task  # holds the request until the next call otherwise


class Admission(Interceptor):
    """Lets a call through while the gate is open, the pool has room and its token allows it.

    The others go to a handler that refuses them.
    """

    def __init__(self, workers: Workers, max_concurrent: int, refusal_pool: futures.ThreadPoolExecutor) -> None:
        self.gate = Gate.STARTING
        self._workers = workers
        self._max_concurrent = max_concurrent
        self._pool = refusal_pool
        self._guarded: dict[str, tuple[BoundMethod | None, dict[Gate, Handler]]] = {}
        self._asks_tokens = False

    def guard(self, path: str, handler: Handler, bound: BoundMethod) -> None:
        """Refuse calls of this method when there is a reason to; methods without a guard always pass."""
        refusals = {gate: refuse(handler, bound, partial(self._reason, gate), self._pool) for gate in Gate}
        self._guarded[path] = bound, refusals
        self._asks_tokens = self._asks_tokens or bound.asks_token

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler for this call."""
        gate = self.gate
        may_enter = gate is Gate.OPEN and self._workers.in_flight < self._max_concurrent
        if not may_enter or self._asks_tokens:
            bound, refusals = self._guarded.get(handler_call_details.method, _UNGUARDED)
            if bound and not (may_enter and bound.is_allowed(handler_call_details.invocation_metadata)):
                return refusals[gate]
        return continuation(handler_call_details)

    def _reason(self, gate: Gate) -> BowerbirdError:
        """Why a call with a good token is refused while the gate is so; an open gate: when the server is full."""
        if gate is Gate.STARTING:
            return NotReady("the server is still starting; try again soon")
        if gate is Gate.DRAINING:
            return Draining("the server is shutting down; call another one")
        return ConcurrencyLimit(
            f"this server takes {self._max_concurrent} calls at once and has them; try again after the delay",
            retry_after_s=_RETRY_AFTER_S,
        )
