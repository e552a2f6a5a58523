"""Health and the admin port: what probes and scrapers see."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bowerbird.rpc.server import Server, ServerConfig
from bowerbird.testing import run_server
from tests.contract.rpc_probe import (
    DETECTOR,
    NOT_SERVING,
    SERVING,
    Failed,
    call,
    check,
    open_calls,
    probe_service,
    wait_until,
)

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


def test_watchers_that_leave_while_states_change_block_nothing(channel_to: Callable[[str], grpc.Channel]) -> None:
    """Connections that end in the moment of a change must not stop the server: nothing waits for them."""
    with run_server([probe_service()]) as (target, server):
        flipping = threading.Event()

        def flip() -> None:
            while not flipping.is_set():
                server._health.set_ready(ready=False)
                server._health.set_ready(ready=True)

        flipper = threading.Thread(target=flip, daemon=True)
        flipper.start()
        for _ in range(60):
            channel = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
            watches = [
                health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=5) for _ in range(4)
            ]
            next(watches[0])
            channel.close()
        flipping.set()
        flipper.join()
        channel = channel_to(target)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=5)
        assert next(status.status for status in watch if status.status == SERVING) == SERVING
        wait_until(lambda: len(server._health._watchers) == 1)


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


def test_probes_that_send_no_request_do_not_keep_others_waiting(channel_to: Callable[[str], grpc.Channel]) -> None:
    """They are ended after a moment, however many they are, and a server with no other work answers meanwhile."""
    with run_server([probe_service()]) as (target, _):
        check(channel_to(target), "")
        with open_calls(channel_to(target), "/grpc.health.v1.Health/Check", 20) as calls:
            started = time.monotonic()
            assert check(channel_to(target), "liveness") == SERVING
            assert time.monotonic() - started < 4
            wait_until(lambda: all(call.done() for call in calls))
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}


def test_a_probe_without_a_request_is_refused(channel_to: Callable[[str], grpc.Channel]) -> None:
    """A stream that closes before its first message is the caller's fault."""
    with run_server([probe_service()]) as (target, _), pytest.raises(grpc.RpcError) as caught:
        channel_to(target).stream_unary("/grpc.health.v1.Health/Check")(iter(()), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_admin_port_listens_where_grpc_does(host: str, channel_to: Callable[[str], grpc.Channel]) -> None:
    """IPv4, IPv6 and names are served by both ports."""
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"no {host} on this machine")
    with run_server([probe_service()], host=host, admin_port=0) as (target, server):
        assert check(channel_to(target), "") == SERVING
        url = f"http://{server.config.address(server.admin_port)}/readyz"
        with urllib.request.urlopen(url, timeout=5) as response:
            assert response.status == 200


def test_the_metrics_say_whether_the_server_is_ready() -> None:
    """bowerbird_ready is 1 from the end of warm-up to the start of the drain."""

    def ready(server: Server) -> str:
        return next(line for line in fetch(server, "/metrics")[1].splitlines() if line.startswith("bowerbird_ready "))

    warm = threading.Event()
    server = Server(
        ServerConfig(port=0, admin_port=0, drain_delay_s=0.5), [probe_service(warm_up=lambda: warm.wait(10) and None)]
    )
    starter = threading.Thread(target=server.start)
    starter.start()
    wait_until(lambda: server.admin_port > 0)
    assert ready(server) == "bowerbird_ready 0.0"
    warm.set()
    wait_until(lambda: ready(server) == "bowerbird_ready 1.0")
    starter.join()
    drainer = threading.Thread(target=server.drain)
    drainer.start()
    wait_until(lambda: ready(server) == "bowerbird_ready 0.0")
    drainer.join()


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
    own = [line for line in series if f'grpc_service="{DETECTOR}"' in line]
    assert 50 < len(own) < 300
