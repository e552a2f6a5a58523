"""`grpc.health.v1`: the state of the process and of each service, under names that probes understand.

    ""               ready: warmed up and not draining; what load balancers and clients look at
    <full name>      the same for one service
    startup          serving once the first start is complete, and from then on
    liveness         serving while every heartbeat is young; if not, the process should be replaced

`Watch` holds no thread. The library's own graceful shutdown is not used: it would turn `liveness` off too, and a
draining server would be killed in the middle of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bowerbird.rpc.handlers import Registrar, add_handlers, run_on

STARTUP, LIVENESS = "startup", "liveness"
_State = health_pb2.HealthCheckResponse


class Health:
    """The health service of one server; states change by name."""

    def __init__(self, service_names: Sequence[str], pool: futures.ThreadPoolExecutor) -> None:
        self._servicer = health.HealthServicer()
        self._pool = pool
        self._ready_names = ("", *service_names)
        self._states: dict[str, bool] = {}
        for name in (*self._ready_names, STARTUP):
            self._set(name, serving=False)
        self._set(LIVENESS, serving=True)

    def register(self, server: grpc.Server) -> None:
        """Serve it, on a pool of its own: probes get an answer when all workers are busy."""
        registrar = Registrar()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, registrar)
        handlers = registrar.handlers[health.SERVICE_NAME]
        check, watch = handlers["Check"], handlers["Watch"]
        own = {
            "Check": grpc.unary_unary_rpc_method_handler(
                run_on(self._pool, _unbound(self._servicer.Check)),
                check.request_deserializer,
                check.response_serializer,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                run_on(self._pool, _without_thread(self._servicer.Watch)),
                watch.request_deserializer,
                watch.response_serializer,
            ),
        }
        add_handlers(server, health.SERVICE_NAME, own)

    def set_ready(self, *, ready: bool) -> None:
        """All services at once; the first time also completes the start."""
        for name in self._ready_names:
            self._set(name, serving=ready)
        if ready:
            self._set(STARTUP, serving=True)

    def set_alive(self, *, alive: bool) -> None:
        """Whether the process makes progress."""
        self._set(LIVENESS, serving=alive)

    def is_serving(self, name: str) -> bool:
        """The state of a name; False for an unknown one."""
        return self._states.get(name, False)

    def _set(self, name: str, *, serving: bool) -> None:
        if self._states.get(name) is not serving:
            self._states[name] = serving
            self._servicer.set(name, _State.SERVING if serving else _State.NOT_SERVING)


def _unbound(method: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function: attributes of a bound method would be shared by all servers of the process."""
    return lambda request, context: method(request, context)


def _without_thread(method: Callable[..., Any]) -> Callable[..., Any]:
    def watch(request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        method(request, context, send)

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]
    return watch
