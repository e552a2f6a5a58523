"""`grpc.health.v1`: the state of the process and of each service, under names that probes understand.

    ""               ready: warmed up and not draining; what load balancers and clients look at
    <full name>      the same for one service
    startup          serving once the first start is complete, and from then on
    liveness         serving while every heartbeat is young; if not, the process should be replaced

`Watch` holds no thread: one notifier sends to all watchers. A call whose request does not come is ended, so that open
calls cannot keep probes from being answered. The library's own servicer is not used, for two reasons.
It sends while it holds a lock that the transport's thread wants when a watcher leaves, and then the whole server
stands still (`tests/contract/test_rpc_health.py` has the case); and its graceful shutdown turns `liveness` off too,
so that a draining server would be killed in the middle of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from bowerbird import telemetry
from bowerbird.rpc.handlers import add_handlers, run_on

SERVICE_NAME = "grpc.health.v1.Health"
STARTUP, LIVENESS = "startup", "liveness"
_REQUEST_WITHIN_S = 1.0  # after the call; a probe sends both at once

_State = health_pb2.HealthCheckResponse
_Send = Callable[[Any], None]
_log = telemetry.get_logger("bowerbird.rpc.health")


class Health:
    """The health service of one server; states change by name."""

    def __init__(self, service_names: Sequence[str], pool: futures.ThreadPoolExecutor) -> None:
        """
        Args:
            pool: answers probes; never the server's own, so that they get through when all workers are busy.
        """
        self._pool = pool
        self._ready_names = ("", *service_names)
        self._lock = threading.Lock()  # never held while something is sent
        self._states = dict.fromkeys((*self._ready_names, STARTUP), False) | {LIVENESS: True}
        self._watchers: set[_Watcher] = set()
        self._changed, self._closing = threading.Event(), False
        self._notifier = threading.Thread(target=self._notify, name="health", daemon=True)
        self._notifier.start()

    def register(self, server: grpc.Server) -> None:
        """Serve it."""
        check, watch = (
            run_on(self._pool, _reading_within(self._check)),
            run_on(self._pool, _reading_within(self._watch)),
        )
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # it is handed a function to send with
        parse, serialize = health_pb2.HealthCheckRequest.FromString, _State.SerializeToString
        handlers = {
            "Check": grpc.stream_unary_rpc_method_handler(check, parse, serialize),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, parse, serialize),
        }
        add_handlers(server, SERVICE_NAME, handlers)

    def set_ready(self, *, ready: bool) -> None:
        """All services at once; the first time also completes the start."""
        for name in self._ready_names:
            self._set(name, serving=ready)
        telemetry.READY.set(ready)
        if ready:
            self._set(STARTUP, serving=True)

    def set_alive(self, *, alive: bool) -> None:
        """Whether the process makes progress."""
        self._set(LIVENESS, serving=alive)

    def is_serving(self, name: str) -> bool:
        """The state of a name; False for an unknown one."""
        return self._states.get(name, False)

    def close(self) -> None:
        """Tell the watchers what is still to be told, and end."""
        self._closing = True
        self._changed.set()
        self._notifier.join(timeout=1)

    def _check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:
        with self._lock:
            status = self._status(request.service)
        if status == _State.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return _State(status=status)

    def _watch(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send: _Send) -> None:
        watcher = _Watcher(request.service, send)

        def forget() -> None:
            with self._lock:
                self._watchers.discard(watcher)

        with self._lock:
            self._watchers.add(watcher)
        if not context.add_callback(forget):
            forget()
        self._changed.set()

    def _set(self, name: str, *, serving: bool) -> None:
        with self._lock:
            self._states[name] = serving
        self._changed.set()

    def _status(self, name: str) -> int:
        if name not in self._states:
            return int(_State.SERVICE_UNKNOWN)
        return int(_State.SERVING if self._states[name] else _State.NOT_SERVING)

    def _notify(self) -> None:
        """Send its state to each watcher that was told another; states that come and go meanwhile are left out."""
        while not self._closing:
            self._changed.wait()
            self._changed.clear()
            with self._lock:
                news = [watcher for watcher in self._watchers if watcher.told != self._status(watcher.name)]
                for watcher in news:
                    watcher.told = self._status(watcher.name)
            for watcher in news:
                try:
                    watcher.send(_State(status=watcher.told))  # returns when the transport has taken it
                except Exception:
                    _log.exception("a health watcher could not be told")


def _reading_within(behavior: Callable[..., Any], seconds: float = _REQUEST_WITHIN_S) -> Callable[..., Any]:
    """`behavior` for a stream of requests, of which it gets the first; a call that sends none in time is cancelled."""

    def read_and_handle(requests: Iterator[Any], context: grpc.ServicerContext, *send: _Send) -> Any:
        timer = threading.Timer(seconds, context.cancel)
        timer.start()
        try:
            request = next(requests, None)
        finally:
            timer.cancel()
        if request is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "expected one request, got none")
        return behavior(request, context, *send)

    return read_and_handle


class _Watcher:
    """A call of Watch: the name, the way to answer, and the state it knows."""

    def __init__(self, name: str, send: _Send) -> None:
        self.name, self.send = name, send
        self.told: Any = None
