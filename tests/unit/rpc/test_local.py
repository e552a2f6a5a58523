"""Calls within a process: the same as over the wire, as far as client and servicer can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bowerbird import errors, telemetry
from bowerbird.rpc.clients import Connection, DetectorClient, RetrievalClient, connect
from bowerbird.rpc.context import RequestContext, current
from bowerbird.rpc.local import LocalConnection
from bowerbird.rpc.metrics import RPC_METRICS
from bowerbird.rpc.server import Method, Service
from bowerbird.testing import run_server
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, embedder_pb2, embedder_pb2_grpc

NAME = "bowerbird.v1.DetectorService"
RULES = Method(5.0, 10.0, "read")


class Inner(detector_pb2_grpc.DetectorServiceServicer):
    """Remembers the calls it was asked in, and fails when told to."""

    def __init__(self) -> None:
        self.seen: list[RequestContext] = []
        self.threads: list[threading.Thread] = []
        self.failure: Exception | None = None

    def Detect(self, request: detector_pb2.DetectRequest, _: object) -> detector_pb2.DetectResponse:  # noqa: N802
        self.seen.append(current())
        self.threads.append(threading.current_thread())
        telemetry.record_stage("inner", "infer", 0.25)
        if self.failure is not None:
            raise self.failure
        response = detector_pb2.DetectResponse(image_width=len(request.image.data))
        response.info.timings.add(stage=current().timings[0][0])
        return response


class Outer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Runs what a test wants to run while a call is being answered."""

    def __init__(self) -> None:
        self.work: Callable[[], None] = lambda: None

    def GetModel(  # noqa: N802
        self, _request: object, _: object
    ) -> embedder_pb2.EmbedderServiceGetModelResponse:
        self.work()
        return embedder_pb2.EmbedderServiceGetModelResponse()


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def local(inner: Inner) -> LocalConnection:
    methods = dict.fromkeys(("Detect", "BatchDetect", "GetModel"), RULES)
    register = detector_pb2_grpc.add_DetectorServiceServicer_to_server
    return LocalConnection([Service(NAME, inner, register, methods)])


@pytest.fixture
def answering() -> Iterator[Callable[..., None]]:
    """Runs a function inside a handler of a real server; what it raises comes back to the test."""
    outer = Outer()
    methods = dict.fromkeys(("Embed", "BatchEmbed", "GetModel"), RULES)
    register = embedder_pb2_grpc.add_EmbedderServiceServicer_to_server
    service = Service("bowerbird.v1.EmbedderService", outer, register, methods)
    with run_server([service]) as (target, _), connect(target) as connection:

        def run(work: Callable[[], None], timeout_s: float = 5.0) -> None:
            raised: list[BaseException] = []

            def guarded() -> None:
                try:
                    work()
                except BaseException as error:
                    raised.append(error)

            outer.work = guarded
            ask(connection, timeout_s)
            if raised:
                raise raised[0]

        yield run


def ask(connection: Connection, timeout_s: float) -> None:
    stub = embedder_pb2_grpc.EmbedderServiceStub(connection.channel)
    stub.GetModel(
        embedder_pb2.EmbedderServiceGetModelRequest(), timeout=timeout_s, metadata=(("x-request-id", "the-caller"),)
    )


def test_a_call_is_answered_on_the_callers_thread(
    local: LocalConnection, inner: Inner, answering: Callable[..., None]
) -> None:
    """The servicer runs in the thread of the call that it belongs to, under its id and within its deadline."""

    def work() -> None:
        found = DetectorClient(local).detect(b"12345")
        assert found.width == 5
        assert found.info.timings == (("infer", 0.0),)
        assert inner.threads == [threading.current_thread()]
        [call] = inner.seen
        assert call.request_id == current().request_id == "the-caller"
        assert call.deadline == current().deadline
        assert call.method == f"/{NAME}/Detect"
        assert not call.is_cancelled()

    answering(work)


def test_its_stages_are_its_own(local: LocalConnection, answering: Callable[..., None]) -> None:
    """Stages of the inner call are in its answer and not in the timings of the outer one."""

    def work() -> None:
        DetectorClient(local).detect(b"1")
        assert current().timings == []

    answering(work)


@pytest.mark.parametrize("error", [errors.QueueFull("full", retry_after_s=0.5), errors.ImageDecodeFailed("bad")])
def test_errors_arrive_as_they_were_raised(
    local: LocalConnection, inner: Inner, answering: Callable[..., None], error: errors.BowerbirdError
) -> None:
    """The very error reaches the caller, and the outer call goes on in its own scope."""
    inner.failure = error

    def work() -> None:
        with pytest.raises(type(error)) as caught:
            DetectorClient(local).detect(b"1")
        assert caught.value is error
        assert current().method.endswith("GetModel")

    answering(work)


def test_a_bug_is_not_hidden(local: LocalConnection, inner: Inner, answering: Callable[..., None]) -> None:
    """An exception that is not ours goes up to the outer call, which logs and maps it."""
    inner.failure = KeyError("oops")

    def work() -> None:
        with pytest.raises(KeyError):
            DetectorClient(local).detect(b"1")

    answering(work)


def test_own_timeouts_shorten_the_deadline(
    local: LocalConnection, inner: Inner, answering: Callable[..., None]
) -> None:
    """A timeout of the call counts where it is shorter than what is left."""

    def work() -> None:
        DetectorClient(local).detect(b"1", timeout_s=0.5)
        assert inner.seen[0].remaining_s() <= 0.5
        with pytest.raises(errors.DeadlineExceeded):
            DetectorClient(local).detect(b"1", timeout_s=0.0)

    answering(work)


def test_calls_are_counted_like_any_other(local: LocalConnection, inner: Inner, answering: Callable[..., None]) -> None:
    """Handled calls and reasons of failure show in the metrics of the inner method."""
    metrics = RPC_METRICS.method(NAME, "Detect", "unary")
    metrics.add_up()
    handled, reasons = dict(metrics.handled), dict(metrics.reasons)
    seconds, remaining = metrics.seconds.sum, metrics.remaining.sum

    def work() -> None:
        DetectorClient(local).detect(b"1")
        inner.failure = errors.QueueFull("full")
        with pytest.raises(errors.QueueFull):
            DetectorClient(local).detect(b"1")

    answering(work)
    metrics.add_up()
    assert sum(metrics.handled.values()) == sum(handled.values()) + 2
    assert metrics.reasons["QUEUE_FULL"] == reasons.get("QUEUE_FULL", 0) + 1
    assert metrics.calls == set()
    assert 0.0 < metrics.seconds.sum - seconds < 5.0
    assert 5.0 < metrics.remaining.sum - remaining <= 10.0  # two calls, each with what is left of five seconds


def test_services_that_are_not_here_are_refused(local: LocalConnection, answering: Callable[..., None]) -> None:
    """A call of another service says that it is not served in this process."""

    def work() -> None:
        with pytest.raises(errors.FailedPrecondition, match="RetrievalService/GetIndex"):
            RetrievalClient(local).get_index()

    answering(work)


def test_nothing_is_called_outside_a_call(local: LocalConnection) -> None:
    """Without a call being answered there is no deadline and nobody to answer."""
    with pytest.raises(LookupError):
        DetectorClient(local).detect(b"1")


def test_a_full_server_cannot_lock_itself_up(local: LocalConnection, inner: Inner) -> None:
    """With every thread answering calls that call inside, all are answered."""

    def work() -> None:
        time.sleep(0.02)
        DetectorClient(local).detect(b"1")

    outer = Outer()
    outer.work = work
    methods = dict.fromkeys(("Embed", "BatchEmbed", "GetModel"), RULES)
    register = embedder_pb2_grpc.add_EmbedderServiceServicer_to_server
    service = Service("bowerbird.v1.EmbedderService", outer, register, methods)
    with run_server([service], max_workers=2) as (target, _), connect(target) as connection:
        threads = [threading.Thread(target=ask, args=(connection, 5.0)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(inner.seen) == 8
