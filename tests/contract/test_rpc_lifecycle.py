"""How a server starts, drains and stops."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import grpc
import pytest

from bowerbird import errors
from bowerbird.rpc.server import Server, ServerConfig
from bowerbird.testing import run_server
from tests.contract.rpc_probe import (
    Failed,
    answer,
    call,
    probe_service,
    stream_service,
    wait_until,
)


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
