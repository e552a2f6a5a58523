"""Calls between services of one process: typed clients without a transport.

A call is answered in the thread that makes it. Nothing is serialised, no thread waits for another, so a full server
cannot lock itself up, and no second port is open. Deadline, request id, errors, timings and metrics are as over the
wire; limits and tokens are not asked for again, as the call that this one belongs to has passed them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import grpc

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, DeadlineExceeded, FailedPrecondition, Internal
from bowerbird.rpc import status
from bowerbird.rpc.clients.connection import DEFAULT_TIMEOUT_S, Connection
from bowerbird.rpc.context import current
from bowerbird.rpc.handlers import Registrar
from bowerbird.rpc.metrics import RPC_METRICS, MethodMetrics
from bowerbird.rpc.service import Service

TARGET = "this process"


class LocalConnection(Connection):
    """For typed clients of services of this process; unary calls only, and only while a call is being answered."""

    def __init__(self, services: Sequence[Service]) -> None:
        super().__init__(TARGET, cast(grpc.Channel, _Methods(services)), token=None, timeout_s=DEFAULT_TIMEOUT_S)

    def call(self, method: Any, request: Any, *, service: str, timeout_s: float | None = None) -> Any:
        """The response of a unary call; as `Connection.call`, on this thread.

        Raises:
            BowerbirdError: the service's own.
            LookupError: no call is being answered in this thread.
        """
        outer, local = current(), cast(_Method, method)
        started = time.monotonic()
        deadline = min(outer.deadline, started + (self.timeout_s if timeout_s is None else timeout_s))
        if deadline <= started:
            raise DeadlineExceeded(f"no time was left to call {local.path}; allow more time")
        call = outer.nested(local.path, started, deadline)
        token = telemetry.SCOPE.set(call)
        local.metrics.calls.add(call)
        code, reason = grpc.StatusCode.OK, ""
        try:
            return local.answer(request, None)
        except Exception as error:
            kind = type(error) if isinstance(error, BowerbirdError) else Internal
            code, reason = status.code_of(kind), status.reason_of(kind)
            raise
        finally:
            telemetry.SCOPE.reset(token)
            local.metrics.finish(call, code, time.monotonic() - started, deadline - started, reason)
            self._observe(service, code, started)


class _Method:
    """Stands where generated stubs keep a method of a channel."""

    def __init__(self, path: str, answer: Callable[[Any, Any], Any], metrics: MethodMetrics) -> None:
        self.path = path
        self.answer = answer
        self.metrics = metrics


class _Methods:
    """Stands in for the channel when generated stubs look their methods up."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._methods: dict[str, _Method] = {}
        for service in services:
            registrar = Registrar()
            service.register(service.servicer, cast(grpc.Server, registrar))
            for name, handler in registrar.handlers[service.full_name].items():
                if handler.unary_unary is not None:
                    path, metrics = f"/{service.full_name}/{name}", RPC_METRICS.method(service.full_name, name, "unary")
                    self._methods[path] = _Method(path, handler.unary_unary, metrics)

    def unary_unary(self, path: str, *_: object, **__: object) -> _Method:
        """The method, or one that says that it is not served here."""
        return self._methods.get(path) or _refusing(path)

    unary_stream = stream_unary = stream_stream = unary_unary

    def close(self) -> None:
        """Nothing is open."""


def _refusing(path: str) -> _Method:
    def answer(_request: object, _context: object) -> NoReturn:
        raise FailedPrecondition(f"{path} is not served to calls within this process; connect to its port")

    return _Method(path, answer, MethodMetrics("", path, "unary"))
