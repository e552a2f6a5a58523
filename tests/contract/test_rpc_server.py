"""What every service promises because the runtime promises it."""

from __future__ import annotations

import dataclasses
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bowerbird import errors, telemetry
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import context, status
from bowerbird.rpc.handlers import BoundMethod
from bowerbird.rpc.server import Server, ServerConfig
from bowerbird.testing import run_server
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc, types_pb2
from tests.contract.rpc_probe import DETECTOR, Failed, answer, call, probe_service, stream_service

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
KINDS = [kind for kind in status.walk() if issubclass(kind, tuple(status.CODES)) and kind.__module__ == errors.__name__]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


@pytest.fixture
def channel_to() -> Iterator[Callable[[str], grpc.Channel]]:
    channels = []

    def connect(target: str) -> grpc.Channel:
        channels.append(grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]))
        return channels[-1]

    yield connect
    for channel in channels:
        channel.close()


def check(channel: grpc.Channel, name: str) -> int:
    return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)


# ---------------------------------------------------------------------------------------------------------- health


@pytest.mark.parametrize("name", ["", DETECTOR, "startup", "liveness"])
def test_health_is_serving_under_every_name(name: str, channel_to: Callable[[str], grpc.Channel]) -> None:
    """A ready server says so for itself, for each service, for startup and for liveness."""
    with run_server([probe_service()]) as (target, _):
        assert check(channel_to(target), name) == SERVING


def test_health_of_an_unknown_name_is_not_found(channel_to: Callable[[str], grpc.Channel]) -> None:
    """A probe with a misspelt name fails instead of passing."""
    with run_server([probe_service()]) as (target, _), pytest.raises(grpc.RpcError) as caught:
        check(channel_to(target), "bowerbird.v1.NoService")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_warming_up_is_alive_but_not_ready(channel_to: Callable[[str], grpc.Channel]) -> None:
    """While models warm up, liveness holds, readiness and startup do not, and calls are told to wait."""
    warm = threading.Event()
    service = probe_service(warm_up=lambda: warm.wait(5) and None)
    server = Server(ServerConfig(port=0, admin_port=-1), [service])
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        wait_until(lambda: server.port > 0)
        channel = channel_to(server.target)
        assert check(channel, "liveness") == SERVING
        assert [check(channel, name) for name in ("", DETECTOR, "startup")] == [NOT_SERVING] * 3
        with pytest.raises(Failed) as caught:
            call(server.target)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
        assert caught.value.details["RetryInfo"].retry_delay.ToSeconds() == 1
        warm.set()
        starter.join()
        assert [check(channel, name) for name in ("", DETECTOR, "startup")] == [SERVING] * 3
        call(server.target)
    finally:
        warm.set()
        starter.join()
        server.stop()


def test_watch_reports_changes_and_holds_no_thread(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Many watchers see ready turn to not ready when the server drains, while the one worker stays free."""
    config = {"max_workers": 1, "drain_delay_s": 0.2}
    with run_server([probe_service()], **config) as (target, server):
        watches = [
            health_pb2_grpc.HealthStub(channel_to(target)).Watch(health_pb2.HealthCheckRequest(service=name))
            for name in ("", DETECTOR, "", "")
        ]
        assert [next(watch).status for watch in watches] == [SERVING] * 4
        call(target)
        drainer = threading.Thread(target=server.drain)
        drainer.start()
        assert [next(watch).status for watch in watches] == [NOT_SERVING] * 4
        drainer.join()


def test_liveness_and_startup_hold_while_draining(channel_to: Callable[[str], grpc.Channel]) -> None:
    """A draining server is not ready, but must not be killed: it is alive, and it still answers calls."""
    with run_server([probe_service()], drain_delay_s=0.5) as (target, server):
        channel = channel_to(target)
        drainer = threading.Thread(target=server.drain)
        drainer.start()
        wait_until(lambda: check(channel, "") == NOT_SERVING)
        assert [check(channel, name) for name in (DETECTOR, "startup", "liveness")] == [NOT_SERVING, SERVING, SERVING]
        call(target)
        drainer.join()


@pytest.mark.parametrize("stuck", [lambda: False, lambda: 1 / 0], ids=["no heartbeat", "broken heartbeat"])
def test_liveness_follows_the_heartbeats(stuck: Callable[[], bool], channel_to: Callable[[str], grpc.Channel]) -> None:
    """A service whose heartbeat stops turns liveness off; when it comes back, liveness does too."""
    state = {"alive": stuck}
    with run_server([probe_service(is_alive=lambda: state["alive"]())]) as (target, _):
        channel = channel_to(target)
        wait_until(lambda: check(channel, "liveness") == NOT_SERVING)
        assert check(channel, "") == SERVING
        state["alive"] = lambda: True
        wait_until(lambda: check(channel, "liveness") == SERVING)


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


@pytest.mark.parametrize("timeout", [0.0, -1.0, -1e9])
def test_a_deadline_in_the_past_never_reaches_the_handler(timeout: float) -> None:
    """Zero and negative timeouts fail at once and cost no work."""
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
    """The caller's id is the call's id; one is made where there is none, and both come back."""
    seen = []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        seen.append(context.current().request_id)
        return answer(request, servicer_context)

    with run_server([probe_service(detect)]) as (target, _):
        _, trailers = call(target, metadata=(("x-request-id", "mine-1"),))
        _, others = call(target)
        _, third = call(target, metadata=(("x-request-id", "x" * 5000),))
    assert seen[0] == trailers["x-request-id"] == "mine-1"
    assert seen[1] == others["x-request-id"] != ""
    assert seen[2] == third["x-request-id"] == "x" * 128
    assert len(set(seen)) == 3


def test_outside_a_call_there_is_no_context() -> None:
    """Asking for the current call where there is none is an error that says what to do."""
    with pytest.raises(LookupError, match="copy_context"):
        context.current()


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_class_reaches_the_caller(kind: type[BowerbirdError]) -> None:
    """Status code, reason, request id and field of every class arrive as the table says."""

    def detect(_request: Any, _context: grpc.ServicerContext) -> Any:
        raise kind("expected a, got b; do c", field="image.data")

    with run_server([probe_service(detect)]) as (target, _), pytest.raises(Failed) as caught:
        call(target, metadata=(("x-request-id", "r-7"),))
    failed = caught.value
    assert (failed.code, failed.reason) == (status.code_of(kind), status.reason_of(kind))
    assert failed.message == "expected a, got b; do c"
    assert failed.details["ErrorInfo"].metadata["request_id"] == "r-7" == failed.trailers["x-request-id"]
    assert failed.details["BadRequest"].field_violations[0].field == "image.data"
    assert ("RetryInfo" in failed.details) == issubclass(kind, errors.Overloaded | errors.Unavailable)


def test_an_unexpected_exception_tells_the_log_and_not_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is INTERNAL/BUG with the request id; message and stack are in the log only."""

    def detect(_request: Any, _context: grpc.ServicerContext) -> Any:
        raise ZeroDivisionError("secret path /srv/keys")

    with run_server([probe_service(detect)]) as (target, _), pytest.raises(Failed) as caught:
        call(target, metadata=(("x-request-id", "r-8"),))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INTERNAL, "BUG")
    assert "r-8" in caught.value.message
    assert "secret" not in str(caught.value.trailers)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "secret path" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_status_that_a_handler_sets_itself_is_kept() -> None:
    """A handler that uses the library's own abort is not overridden."""

    def detect(_request: Any, servicer_context: grpc.ServicerContext) -> Any:
        servicer_context.abort(grpc.StatusCode.OUT_OF_RANGE, "own words")

    with run_server([probe_service(detect)]) as (target, _), pytest.raises(Failed) as caught:
        call(target)
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode.OUT_OF_RANGE, "own words")


def test_a_stream_that_fails_midway_keeps_what_it_sent(channel_to: Callable[[str], grpc.Channel]) -> None:
    """The messages before the fault arrive, then the status with its reason."""

    def create_snapshot(_request: Any, _context: grpc.ServicerContext) -> Iterator[Any]:
        yield retrieval_pb2.CreateSnapshotResponse(progress=0.25)
        raise errors.StorageFull("the disk is full")

    with run_server([stream_service(create_snapshot)]) as (target, _):
        stub = retrieval_pb2_grpc.IndexAdminServiceStub(channel_to(target))
        responses = stub.CreateSnapshot(retrieval_pb2.CreateSnapshotRequest(), timeout=5)
        assert next(responses).progress == 0.25
        with pytest.raises(grpc.RpcError) as caught:
            next(responses)
    failed = Failed(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")


@pytest.mark.parametrize(("access_log", "lines"), [("errors", 1), ("all", 2), ("off", 0)])
def test_the_access_log_is_as_talkative_as_it_is_set(
    access_log: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By default only failed calls are logged; all or none on request."""

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        if request.model:
            raise errors.ModelNotFound("no model x")
        return answer(request, servicer_context)

    caplog.set_level("INFO", "bowerbird.rpc")
    with run_server([probe_service(detect)], access_log=access_log) as (target, _):
        call(target)
        with pytest.raises(Failed):
            call(target, request=detector_pb2.DetectRequest(model="x"))
    records = [record for record in caplog.records if record.name == "bowerbird.rpc"]
    assert len(records) == lines
    assert all(record.method == f"/{DETECTOR}/Detect" for record in records)  # type: ignore[attr-defined]


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


# ------------------------------------------------------------------------------------------------- start and stop


def test_a_failing_warm_up_leaves_nothing_listening() -> None:
    """A service that cannot warm up ends the start with its error; the port is free again."""

    def warm_up() -> None:
        raise errors.ModelFileCorrupt("the file is damaged")

    closed = threading.Event()
    server = Server(ServerConfig(port=0, admin_port=0), [probe_service(warm_up=warm_up, close=closed.set)])
    with pytest.raises(errors.ModelFileCorrupt):
        server.start()
    assert closed.is_set()
    with pytest.raises(Failed, match="UNAVAILABLE"):
        call(server.target, timeout=1)
    again = Server(ServerConfig(port=server.port, admin_port=server.admin_port), [probe_service()])
    again.start()
    again.stop()


def test_taken_ports_are_named() -> None:
    """A second server on the same gRPC or admin port fails at once and says which setting to change."""
    with run_server([probe_service()], admin_port=0) as (_, server):
        with pytest.raises(errors.ConfigInvalid, match=rf"\[server\] port: .*:{server.port} .*BOWERBIRD_SERVER_PORT"):
            Server(ServerConfig(port=server.port, admin_port=-1), [probe_service()]).start()
        with pytest.raises(errors.ConfigInvalid, match=rf"\[server\] admin_port: .*:{server.admin_port} "):
            Server(ServerConfig(port=0, admin_port=server.admin_port), [probe_service()]).start()


def test_drain_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    """A call that runs when the drain begins gets its answer; one that comes after the delay is sent elsewhere."""
    began, release, answers = threading.Event(), threading.Event(), []

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        began.set()
        release.wait(10)
        return answer(request, servicer_context)

    closed = threading.Event()
    with run_server([probe_service(detect, close=closed.set)], drain_delay_s=0.05) as (target, server):
        caller = threading.Thread(target=lambda: answers.append(call(target)[0]))
        caller.start()
        assert began.wait(5)
        outcome: list[bool] = []
        drainer = threading.Thread(target=lambda: outcome.append(server.drain()))
        drainer.start()
        time.sleep(0.2)
        with pytest.raises(Failed) as caught:
            call(target)
        assert not closed.is_set()
        release.set()
        caller.join()
        drainer.join()
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert answers[0].image_width == 1
    assert outcome == [True]
    assert closed.is_set()


def test_drain_gives_up_after_the_grace_period(caplog: pytest.LogCaptureFixture) -> None:
    """A call that does not end is cut off, and the drain is not clean."""
    release = threading.Event()

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        release.wait(10)
        return answer(request, servicer_context)

    with run_server([probe_service(detect)], drain_delay_s=0.0, grace_s=0.1) as (target, server):
        failures: list[str] = []

        def caller() -> None:
            try:
                call(target)
            except Failed as failed:
                failures.append(failed.code.name)

        thread = threading.Thread(target=caller)
        thread.start()
        wait_until(lambda: server.in_flight == 1)
        assert server.drain() is False
        thread.join()
        release.set()
    assert failures in (["CANCELLED"], ["UNAVAILABLE"])
    assert "grace period" in caplog.text


def test_a_service_that_fails_to_close_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Every service is closed, the fault is logged, and the stop is not clean."""
    closed = threading.Event()

    def fail() -> None:
        raise OSError("disk gone")

    with run_server([probe_service(close=closed.set), stream_service(lambda r, c: iter(()))]) as (_, server):
        server._services[1] = dataclasses.replace(server._services[1], close=fail)
        assert server.stop() is False
    assert closed.is_set()
    assert "disk gone" in caplog.text


# ------------------------------------------------------------------------------------------------------ admin port


def fetch(server: Server, path: str, accept: str = "") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.admin_port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode(), response.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), ""


def test_metrics_are_served_in_both_formats() -> None:
    """A scrape shows the calls that were answered, as Prometheus text or as OpenMetrics."""
    with run_server([probe_service()], admin_port=0) as (target, server):
        call(target)
        code, text, kind = fetch(server, "/metrics")
        assert code == 200
        assert kind.startswith("text/plain")
        assert f'grpc_server_handled_total{{grpc_code="OK",grpc_method="Detect",grpc_service="{DETECTOR}"' in text
        assert f'bowerbird_alive{{service="{DETECTOR}"}} 1.0' in text
        assert 'bowerbird_build_info{version="' in text
        _, text, kind = fetch(server, "/metrics", "application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")


def test_plain_health_over_http() -> None:
    """Probes that speak no gRPC get 200 or 503; other paths say what there is."""
    state = {"alive": True}
    with run_server([probe_service(is_alive=lambda: state["alive"])], admin_port=0) as (_, server):
        assert [fetch(server, path)[0] for path in ("/readyz", "/livez", "/startupz")] == [200] * 3
        state["alive"] = False
        wait_until(lambda: fetch(server, "/livez")[0] == 503)
        code, text, _ = fetch(server, "/nothing")
        assert code == 404
        assert "/metrics" in text


def test_a_loaded_server_stays_within_the_series_budget() -> None:
    """One service with every method called keeps far below the 3,000 series that a pod may have."""
    with run_server([probe_service()], admin_port=0) as (target, server):
        call(target)
        series = [line for line in fetch(server, "/metrics")[1].splitlines() if line and not line.startswith("#")]
    own = [line for line in series if DETECTOR in line]
    assert 50 < len(own) < 300
