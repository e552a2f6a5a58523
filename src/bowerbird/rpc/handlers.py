"""Everything that happens around a handler, bound once a method and wrapped once around each.

A call costs some ten microseconds here: handlers are wrapped when they are registered (no lookup a call), metrics are
bound (`bowerbird.rpc.metrics`), and what is rare (refusing, failing, logging) is off the straight path.
"""

from __future__ import annotations

import functools
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NoReturn, cast

import grpc

from bowerbird import telemetry
from bowerbird.errors import BowerbirdError, Cancelled, DeadlineExceeded, Internal
from bowerbird.rpc import status
from bowerbird.rpc.auth import HEADER, Authoriser
from bowerbird.rpc.context import REQUEST_ID_HEADER, RequestContext
from bowerbird.rpc.metrics import RPC_METRICS
from bowerbird.rpc.service import Method

Behavior = Callable[[Any, grpc.ServicerContext], Any]

_log = telemetry.get_logger("bowerbird.rpc")
_NO_DEADLINE_S = 1e9  # the transport reports a missing deadline as one that is farther away than this
_MAX_REQUEST_ID_CHARACTERS = 128
_WORTH_COUNTING_S = 0.01  # below, an unwanted answer costs less than asking whether it was wanted
_OK = grpc.StatusCode.OK
_CALLERS_FAULTS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.CANCELLED,
    }
)
_OUR_FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNKNOWN})

set_scope = telemetry.SCOPE.set
_process_prefix = secrets.token_hex(6)
_call_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other process or call has."""
    return f"{_process_prefix}-{next(_call_numbers)}"


def method_kind(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """unary, client_stream, server_stream or bidi_stream: the label values that public dashboards know."""
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


class BoundMethod:
    """One method of one service with everything that its calls need."""

    def __init__(
        self, service: str, name: str, kind: str, rules: Method, authoriser: Authoriser | None, access_log: str
    ) -> None:
        self.service = service
        self.path = f"/{service}/{name}"
        self.metrics = RPC_METRICS.method(service, name, kind)
        self._default_s, self._max_s, self._role = rules.default_deadline_s, rules.max_deadline_s, rules.role
        self._authoriser = authoriser
        self._logs_failures, self._logs_all = access_log != "off", access_log == "all"
        self._wasted = telemetry.WASTED_COMPUTE_SECONDS_TOTAL.labels(service)

    def begin(self, servicer_context: grpc.ServicerContext) -> RequestContext:
        """The context of a call that has just come, already counted."""
        started = monotonic()
        remaining_s: float | None = servicer_context.time_remaining()
        sent: str | None = None
        for key, value in servicer_context.invocation_metadata():
            if key == REQUEST_ID_HEADER:
                sent = str(value)[:_MAX_REQUEST_ID_CHARACTERS]
        # What could not be sent back, or would garble a log, is no id.
        request_id = sent if sent and sent.isascii() and sent.isprintable() else new_request_id()
        if sent is not None:  # ours is of use when a call fails, and a trailer costs 4 % of a small call
            servicer_context.set_trailing_metadata(((REQUEST_ID_HEADER, request_id),))
        if remaining_s is None or remaining_s > _NO_DEADLINE_S:
            remaining_s, allowed_s = None, self._default_s
        else:
            allowed_s = remaining_s if remaining_s < self._max_s else self._max_s
        call = RequestContext(request_id, self.path, started, started + allowed_s, remaining_s, servicer_context)
        set_scope(call)  # the transport runs every call in a context of its own
        self.metrics.calls.add(call)
        return call

    def admit(self, call: RequestContext, servicer_context: grpc.ServicerContext) -> None:
        """Nothing, if the call may go on.

        Raises:
            DeadlineExceeded: it came too late.
            Unauthenticated, PermissionDenied: its token does not allow it.
        """
        if call.deadline <= call.started:
            raise DeadlineExceeded(f"the deadline of {self.path} had passed when the call came; allow more time")
        if self._authoriser is not None:
            self._authorise(servicer_context.invocation_metadata())

    @property
    def asks_token(self) -> bool:
        """Whether calls need a token."""
        return self._authoriser is not None

    def is_allowed(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether a call with this metadata carries a token that allows it; `admit` says why not."""
        try:
            if self._authoriser is not None:
                self._authorise(metadata or ())
        except BowerbirdError:
            return False
        return True

    def _authorise(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        if self._authoriser is not None:
            self._authoriser.check(str(dict(metadata).get(HEADER, "")), self._role, self.path)

    def succeed(self, call: RequestContext, servicer_context: grpc.ServicerContext) -> None:
        """Count an answered call."""
        seconds = monotonic() - call.started
        self.metrics.finish(call, _OK, seconds, call.arrival_remaining_s, "")
        if seconds > _WORTH_COUNTING_S and not servicer_context.is_active():
            self._wasted.inc(seconds)
        if self._logs_all:
            _log.info("call answered", extra={"method": self.path, "code": "OK", "seconds": round(seconds, 6)})

    def abandon(self, call: RequestContext) -> None:
        """Count a call whose caller went away before the last answer."""
        seconds = monotonic() - call.started
        code = grpc.StatusCode.CANCELLED
        self.metrics.finish(call, code, seconds, call.arrival_remaining_s, Cancelled.reason)

    def fail(self, call: RequestContext, error: BaseException, servicer_context: grpc.ServicerContext) -> NoReturn:
        """End the call with the status of `error`; never returns."""
        seconds = monotonic() - call.started
        own_code = servicer_context.code()  # type: ignore[attr-defined]
        if own_code is not None and not isinstance(error, BowerbirdError):  # the handler has aborted by itself
            self.metrics.finish(call, own_code, seconds, call.arrival_remaining_s, "")
            raise error
        if isinstance(error, BowerbirdError):
            known = error
        elif isinstance(error, grpc.RpcError) and not servicer_context.is_active():
            known = Cancelled(f"the caller of {self.path} is gone")  # the transport says so when a stream is read
        else:
            known = Internal(f"internal error; the server's log has it under request id {call.request_id}")
        code, reason = status.code_of(type(known)), status.reason_of(type(known))
        self.metrics.finish(call, code, seconds, call.arrival_remaining_s, reason)
        self._log_failure(code, reason, error, seconds, servicer_context.peer())
        rich = status.to_status(known, call.request_id)
        servicer_context.set_trailing_metadata(((REQUEST_ID_HEADER, call.request_id), *status.trailers(known, rich)))
        servicer_context.abort(code, rich.message)
        raise AssertionError("abort returned")

    def _log_failure(self, code: grpc.StatusCode, reason: str, error: BaseException, seconds: float, peer: str) -> None:
        facts = {"method": self.path, "code": code.name, "reason": reason, "seconds": round(seconds, 6), "peer": peer}
        if code in _OUR_FAULTS:  # always, whatever the access log says
            _log.error("call failed: %s", error, exc_info=error, extra=facts)
        elif self._logs_failures:
            message = status.cut(str(error))  # it may quote megabytes of the request
            _log.log(20 if code in _CALLERS_FAULTS else 30, "call failed: %s", message, extra=facts)


def wrap(
    handler: grpc.RpcMethodHandler[Any, Any], bound: BoundMethod, pool: object | None = None
) -> grpc.RpcMethodHandler[Any, Any]:
    """The same handler with the runtime around it; with a pool, answered there and not by the server's workers."""
    behavior = _behavior_of(handler)
    wrapped = _wrap_streaming(behavior, bound) if handler.response_streaming else _wrap_single(behavior, bound)
    return _replace(handler, bound, wrapped if pool is None else run_on(pool, wrapped))


def refuse(
    handler: grpc.RpcMethodHandler[Any, Any], bound: BoundMethod, error: Callable[[], BowerbirdError], pool: object
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that fails every call with `error`, on `pool`, without waiting for the request or parsing it.

    On the wire a stream of requests looks like one request, and a stream is read only when the handler asks.
    """

    def fail(_requests: object, _context: grpc.ServicerContext) -> NoReturn:
        raise error()

    parse, serialize = handler.request_deserializer, handler.response_serializer
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(run_on(pool, _wrap_streaming(fail, bound)), parse, serialize)
    return grpc.stream_unary_rpc_method_handler(run_on(pool, _wrap_single(fail, bound)), parse, serialize)


def run_on(pool: object, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """`behavior`, marked for the transport to run it on `pool` instead of the server's."""
    marked = functools.partial(behavior)  # attributes of a bound method would be shared by all servers
    marked.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return marked


def _wrap_single(behavior: Behavior, bound: BoundMethod) -> Behavior:
    begin, admit, succeed = bound.begin, bound.admit, bound.succeed

    def handle(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        call = begin(servicer_context)
        try:
            admit(call, servicer_context)
            response = behavior(request, servicer_context)
        except BaseException as error:  # the transport answers nothing else: the caller would wait for its deadline
            bound.fail(call, error, servicer_context)
        succeed(call, servicer_context)
        return response

    return handle


def _wrap_streaming(behavior: Behavior, bound: BoundMethod) -> Behavior:
    def handle(request: Any, servicer_context: grpc.ServicerContext) -> Iterator[Any]:
        call = bound.begin(servicer_context)
        try:
            bound.admit(call, servicer_context)
            yield from behavior(request, servicer_context)
        except GeneratorExit:  # the caller is gone; `yield from` has closed the handler's generator
            bound.abandon(call)
            raise
        except BaseException as error:  # the transport answers nothing else: the caller would wait for its deadline
            bound.fail(call, error, servicer_context)
        bound.succeed(call, servicer_context)

    return handle


def _behavior_of(handler: grpc.RpcMethodHandler[Any, Any]) -> Behavior:
    behaviors = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return next(behavior for behavior in behaviors if behavior is not None)


def _replace(
    handler: grpc.RpcMethodHandler[Any, Any], bound: BoundMethod, behavior: Behavior
) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler with another behaviour, and with the sizes of its messages counted."""
    parse = cast(Callable[[bytes], Any], handler.request_deserializer)
    serialize = cast(Callable[[Any], bytes], handler.response_serializer)
    receive, send = bound.metrics.received_bytes.append, bound.metrics.sent_bytes.append

    def deserialize_request(data: bytes) -> Any:
        receive(len(data))
        return parse(data)

    def serialize_response(message: Any) -> bytes:
        data = serialize(message)
        send(len(data))
        return data

    make = {
        "unary": grpc.unary_unary_rpc_method_handler,
        "server_stream": grpc.unary_stream_rpc_method_handler,
        "client_stream": grpc.stream_unary_rpc_method_handler,
        "bidi_stream": grpc.stream_stream_rpc_method_handler,
    }[method_kind(handler)]
    made: grpc.RpcMethodHandler[Any, Any] = make(behavior, deserialize_request, serialize_response)
    return made


class Registrar:
    """Stands in for the server when generated code registers a servicer; keeps the handlers instead."""

    def __init__(self) -> None:
        self.handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_generic_rpc_handlers(self, _handlers: Sequence[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Ignored: generated code registers the same handlers by name too."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keep the handlers of one service."""
        self.handlers[service] = dict(handlers)


def add_handlers(server: grpc.Server, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    """Serve these methods; as generated code does it, by name and, for older transports, by pattern."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
    server.add_registered_method_handlers(service, dict(handlers))  # type: ignore[attr-defined]
