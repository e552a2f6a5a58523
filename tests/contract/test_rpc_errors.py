"""Faults of a handler on the wire and in the log: every class, bugs, streams, and messages that quote too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from bowerbird import errors
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import status
from bowerbird.testing import run_server
from bowerbird.v1 import detector_pb2, retrieval_pb2, retrieval_pb2_grpc
from tests.contract.rpc_probe import (
    DETECTOR,
    Failed,
    answer,
    call,
    probe_service,
    stream_service,
)

KINDS = [kind for kind in status.walk() if issubclass(kind, tuple(status.CODES)) and kind.__module__ == errors.__name__]


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


def test_an_error_that_quotes_megabytes_arrives_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Characters of four bytes are cut to what trailers carry, and the log keeps the beginning only."""

    def detect(request: Any, _context: grpc.ServicerContext) -> Any:
        raise errors.ModelNotFound(f"no model {request.model!r}", field=request.model)

    caplog.set_level("INFO", "bowerbird.rpc")
    request = detector_pb2.DetectRequest(model="😀" * 1_000_000)
    with run_server([probe_service(detect)]) as (target, _), pytest.raises(Failed) as caught:
        call(target, request=request, metadata=(("x-request-id", "r" * 200),))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert caught.value.message.startswith("no model '😀😀")
    assert caught.value.message.endswith("…")
    (record,) = [record for record in caplog.records if record.name == "bowerbird.rpc"]
    assert len(record.getMessage()) < 1000


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, GeneratorExit])
def test_an_unexpected_exception_tells_the_log_and_not_the_caller(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is INTERNAL/BUG with the request id, at once; message and stack are in the log only."""

    def detect(_request: Any, _context: grpc.ServicerContext) -> Any:
        raise kind("secret path /srv/keys")

    with run_server([probe_service(detect)]) as (target, _), pytest.raises(Failed) as caught:
        call(target, metadata=(("x-request-id", "r-8"),))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INTERNAL, "BUG")
    assert "r-8" in caught.value.message
    assert "secret" not in str(caught.value.trailers)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "secret path" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is kind


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
