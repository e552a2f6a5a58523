"""What every service promises because the runtime promises it."""

from __future__ import annotations

import contextvars
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bowerbird import errors, telemetry
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import context, status
from bowerbird.rpc.handlers import BoundMethod
from bowerbird.rpc.server import Server, ServerConfig
from bowerbird.testing import run_server
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc, types_pb2
from tests.contract.rpc_probe import (
    DETECTOR,
    SERVING,
    Failed,
    answer,
    call,
    check,
    open_calls,
    probe_service,
    stream_service,
    wait_until,
)

# ------------------------------------------------------------------------------------------------------ reflection


def ask_reflection(channel: grpc.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    return {service.name for service in reply.list_services_response.service}


def test_reflection_lists_the_services(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Tools can discover the contract from a running server."""
    with run_server([probe_service()]) as (target, _):
        assert {DETECTOR, "grpc.health.v1.Health"} <= ask_reflection(channel_to(target))


def test_reflection_can_be_off(channel_to: Callable[[str], grpc.Channel]) -> None:
    """With reflection off, the method does not exist."""
    with run_server([probe_service()], reflection=False) as (target, _), pytest.raises(grpc.RpcError) as caught:
        ask_reflection(channel_to(target))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_open_reflection_takes_no_worker_and_holds_up_no_drain(channel_to: Callable[[str], grpc.Channel]) -> None:
    """A tool that keeps its stream open costs the calls nothing, and the server drains as if it were not there."""
    leave = threading.Event()

    def ask() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        leave.wait(30)

    with run_server([probe_service()], max_workers=1) as (target, server):
        streams = [reflection_pb2_grpc.ServerReflectionStub(channel_to(target)).ServerReflectionInfo(ask())]
        next(iter(streams[0]))
        call(target)
        assert server.drain()
        leave.set()


# ------------------------------------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize(
    ("timeout", "expected_s"),
    [(None, 3.0), (1.0, 1.0), (8.0, 8.0), (60.0, 10.0), (365 * 86400.0, 10.0)],
    ids=["none: default", "short: kept", "longer than default: kept", "long: capped", "a year: capped"],
)
def test_a_handler_sees_a_sensible_deadline(timeout: float | None, expected_s: float) -> None:
    """The caller's deadline counts up to the maximum; without one the default does."""
    seen = []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        seen.append(context.current().remaining_s())
        return answer(request, servicer_context)

    with run_server([probe_service(detect, default_s=3.0, max_s=10.0)]) as (target, _):
        call(target, timeout=timeout)
    assert seen[0] == pytest.approx(expected_s, abs=0.5)


@pytest.mark.parametrize("timeout", [-0.001, -1.0, -1e9])
def test_a_deadline_in_the_past_never_reaches_the_handler(timeout: float) -> None:
    """Negative timeouts fail at once and cost no work."""
    calls = []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        calls.append(request)
        return answer(request, servicer_context)

    with run_server([probe_service(detect)]) as (target, _):
        with pytest.raises(Failed) as caught:
            call(target, timeout=timeout)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        call(target)
    assert len(calls) == 1


def test_a_call_that_arrives_too_late_is_refused() -> None:
    """A call whose deadline passed on the way is answered with the reason, not computed."""

    class Late:
        def time_remaining(self) -> float:
            return 0.0

        def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
            return ()

        def set_trailing_metadata(self, metadata: object) -> None: ...

    bound = BoundMethod("s", "m", "unary", probe_service().methods["Detect"], None, "errors")
    late: Any = Late()
    call_context = bound.begin(late)
    try:
        with pytest.raises(errors.DeadlineExceeded, match="had passed when the call came"):
            bound.admit(call_context, late)
    finally:
        bound.metrics.calls.discard(call_context)
        telemetry.SCOPE.set(None)


def test_a_handler_that_waits_past_its_deadline_is_told() -> None:
    """raise_if_over ends work whose deadline has passed, also when it is our own maximum."""
    reasons = []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        call_context = context.current()
        call_context.raise_if_over()
        time.sleep(call_context.remaining_s() + 0.01)
        try:
            call_context.raise_if_over()
        except BowerbirdError as error:
            reasons.append(status.reason_of(type(error)))
            raise
        return answer(request, servicer_context)

    with run_server([probe_service(detect, max_s=0.05)]) as (target, _), pytest.raises(Failed) as caught:
        call(target, timeout=5)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert reasons == ["DEADLINE_EXCEEDED"]


# ---------------------------------------------------------------------------------------------------- cancellation


def test_a_handler_sees_that_its_caller_is_gone(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Cancelling a call shows in is_cancelled, calls on_end, and ends in CANCELLED."""
    began, ended, raised = threading.Event(), threading.Event(), []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        call_context = context.current()
        assert not call_context.is_cancelled()
        assert call_context.on_end(ended.set)
        began.set()
        wait_until(call_context.is_cancelled)
        try:
            call_context.raise_if_over()
        except errors.Cancelled as error:
            raised.append(error)
            raise

    with run_server([probe_service(detect)]) as (target, server):
        stub = detector_pb2_grpc.DetectorServiceStub(channel_to(target))
        future = stub.Detect.future(detector_pb2.DetectRequest(), timeout=5)
        assert began.wait(5)
        future.cancel()
        assert ended.wait(5)
        wait_until(lambda: server.in_flight == 0)
    assert len(raised) == 1


def test_cancelling_a_stream_closes_the_handler(channel_to: Callable[[str], grpc.Channel]) -> None:
    """A handler that streams is closed when its caller leaves: its `finally` cleans up."""
    closed = threading.Event()

    def create_snapshot(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            while True:
                yield retrieval_pb2.CreateSnapshotResponse(progress=0.5)
                time.sleep(0.005)
        finally:
            closed.set()

    with run_server([stream_service(create_snapshot)]) as (target, server):
        stub = retrieval_pb2_grpc.IndexAdminServiceStub(channel_to(target))
        responses = stub.CreateSnapshot(retrieval_pb2.CreateSnapshotRequest(), timeout=5)
        assert next(responses).progress == 0.5
        responses.cancel()
        assert closed.wait(5)
        wait_until(lambda: server.in_flight == 0)


# ----------------------------------------------------------------------------------------------------- request ids


def test_a_request_id_is_passed_back_and_seen_by_the_handler() -> None:
    """The caller's id is the call's id and comes back; where there is none, one is made, for failures."""
    seen = []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        seen.append(context.current().request_id)
        return answer(request, servicer_context)

    with run_server([probe_service(detect)]) as (target, _):
        _, trailers = call(target, metadata=(("x-request-id", "mine-1"),))
        _, others = call(target)
        _, third = call(target, metadata=(("x-request-id", "x" * 5000),))
    assert seen[0] == trailers["x-request-id"] == "mine-1"
    assert seen[1]
    assert "x-request-id" not in others
    assert seen[2] == third["x-request-id"] == "x" * 128
    assert len(set(seen)) == 3


@pytest.mark.parametrize("sent", ["", "caf\u00e9", "a\nb", "a\x1b[2J"])
def test_an_id_that_cannot_be_passed_back_is_replaced(sent: str) -> None:
    """Other transports let through what no header may carry; such a call gets an id of ours."""

    class Transport:
        def time_remaining(self) -> float:
            return 1.0

        def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
            return (("x-request-id", sent),)

        def set_trailing_metadata(self, trailers: tuple[tuple[str, str], ...]) -> None:
            self.trailers = dict(trailers)

    transport = Transport()
    bound = BoundMethod(DETECTOR, "Detect", "unary", probe_service().methods["Detect"], None, "errors")
    made = contextvars.copy_context().run(bound.begin, transport)  # type: ignore[arg-type]
    bound.abandon(made)
    assert made.request_id == transport.trailers["x-request-id"]
    assert made.request_id not in ("", sent)
    assert made.request_id.isascii()


def test_outside_a_call_there_is_no_context() -> None:
    """Asking for the current call where there is none is an error that says what to do."""
    with pytest.raises(LookupError, match="copy_context"):
        context.current()


# ---------------------------------------------------------------------------------------------------------- limits


def test_a_message_over_the_limit_is_refused_by_the_transport() -> None:
    """A request larger than max_message_bytes is RESOURCE_EXHAUSTED before it is parsed; smaller ones pass."""
    with run_server([probe_service()], max_message_bytes=10_000) as (target, _):
        fitting = detector_pb2.DetectRequest(image=types_pb2.Image(data=bytes(9_000)))
        call(target, request=fitting)
        with pytest.raises(Failed) as caught:
            call(target, request=detector_pb2.DetectRequest(image=types_pb2.Image(data=bytes(11_000))))
        call(target, request=fitting)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.message


def test_a_server_that_starts_refuses_before_the_request_has_come(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Refusing needs no request: pictures are not parsed for it, and callers that send none hold no thread."""
    warm = threading.Event()
    server = Server(ServerConfig(port=0, admin_port=-1), [probe_service(warm_up=lambda: warm.wait(10) and None)])
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        wait_until(lambda: server.port > 0)
        with open_calls(channel_to(server.target), f"/{DETECTOR}/Detect", 40) as calls:
            wait_until(lambda: all(call.done() for call in calls))
            assert {call.code() for call in calls} == {grpc.StatusCode.UNAVAILABLE}
    finally:
        warm.set()
        starter.join()
        server.stop()


def test_a_full_server_says_so_at_once_and_stays_probeable(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Above the limit calls are shed with a delay to retry after, while health still answers."""
    release, running = threading.Event(), threading.Semaphore(0)

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        running.release()
        release.wait(10)
        return answer(request, servicer_context)

    with run_server([probe_service(detect)], max_workers=2, max_concurrent_rpcs=3) as (target, server):
        callers = [threading.Thread(target=call, args=(target,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for _ in range(2):
            assert running.acquire(timeout=5)
        wait_until(lambda: server.in_flight == 3)
        start = time.monotonic()
        with pytest.raises(Failed) as caught:
            call(target)
        assert time.monotonic() - start < 2
        assert check(channel_to(target), "") == SERVING
        release.set()
        for caller in callers:
            caller.join()
        call(target)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMIT")
    assert caught.value.details["RetryInfo"].retry_delay.ToMilliseconds() == 100
    assert caught.value.trailers["grpc-retry-pushback-ms"] == "100"


def test_a_method_without_rules_is_refused_at_start() -> None:
    """A contract that grew a method which no rule covers does not start."""
    service = probe_service()
    methods = {name: rules for name, rules in service.methods.items() if name != "GetModel"}
    with pytest.raises(ValueError, match="expected rules for the methods"):
        Server(ServerConfig(port=0, admin_port=-1), [dataclasses.replace(service, methods=methods)])
