"""A service whose handlers a test supplies, and raw calls that show the whole status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bowerbird.rpc.server import Method, Role, Service
from bowerbird.rpc.status import DETAILS_HEADER
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc

DETECTOR = "bowerbird.v1.DetectorService"
ADMIN = "bowerbird.v1.IndexAdminService"

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Unary = Callable[[Any, grpc.ServicerContext], Any]
Streaming = Callable[[Any, grpc.ServicerContext], Iterator[Any]]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


@contextmanager
def open_calls(channel: grpc.Channel, method: str, count: int) -> Iterator[list[Any]]:
    """Calls that send their headers and never their request."""
    leave = threading.Event()

    def send_nothing() -> Iterator[bytes]:
        leave.wait(30)
        yield from ()

    calls = [channel.stream_unary(method).future(send_nothing(), timeout=20) for _ in range(count)]
    try:
        yield calls
    finally:
        for under_way in calls:
            under_way.cancel()
        leave.set()


def check(channel: grpc.Channel, name: str) -> int:
    return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)


def answer(_request: Any, _context: grpc.ServicerContext) -> detector_pb2.DetectResponse:
    return detector_pb2.DetectResponse(image_width=1)


def probe_service(
    detect: Unary = answer,
    *,
    default_s: float = 5.0,
    max_s: float = 20.0,
    role: Role = "read",
    **steps: Any,
) -> Service:
    """The detector's contract; `detect` answers Detect, the other methods answer with nothing."""
    handlers = {
        "Detect": lambda _, request, context: detect(request, context),
        "BatchDetect": lambda _, request, context: detector_pb2.BatchDetectResponse(),
        "GetModel": lambda _, request, context: detector_pb2.DetectorServiceGetModelResponse(),
    }
    servicer = type("Servicer", (detector_pb2_grpc.DetectorServiceServicer,), handlers)()
    rules = Method(default_deadline_s=default_s, max_deadline_s=max_s, role=role)
    return Service(
        full_name=DETECTOR,
        servicer=servicer,
        register=detector_pb2_grpc.add_DetectorServiceServicer_to_server,
        methods=dict.fromkeys(handlers, rules),
        **steps,
    )


def stream_service(create_snapshot: Streaming) -> Service:
    """The control plane's contract; `create_snapshot` answers CreateSnapshot, a stream."""
    names = [method.name for method in retrieval_pb2.DESCRIPTOR.services_by_name["IndexAdminService"].methods]
    handlers = {"CreateSnapshot": lambda _, request, context: create_snapshot(request, context)}
    servicer = type("Servicer", (retrieval_pb2_grpc.IndexAdminServiceServicer,), handlers)()
    rules = Method(default_deadline_s=5.0, max_deadline_s=20.0, role="admin")
    return Service(
        full_name=ADMIN,
        servicer=servicer,
        register=retrieval_pb2_grpc.add_IndexAdminServiceServicer_to_server,
        methods=dict.fromkeys(names, rules),
    )


class Failed(Exception):  # noqa: N818 (it is what came, not a fault of the test)
    """A failed call, taken apart."""

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(f"{error.code()}: {error.details()}")
        self.code, self.message = error.code(), error.details()
        self.trailers = dict(error.trailing_metadata() or ())
        self.details: dict[str, Any] = {}
        status = status_pb2.Status.FromString(self.trailers.get(DETAILS_HEADER, b""))
        for detail in status.details:
            kind = getattr(error_details_pb2, detail.type_url.rpartition(".")[2])
            message = kind()
            detail.Unpack(message)
            self.details[kind.__name__] = message

    @property
    def reason(self) -> str:
        info = self.details["ErrorInfo"]
        assert info.domain == "bowerbird"
        return str(info.reason)


def call(
    target: str,
    *,
    timeout: float | None = 5.0,
    metadata: tuple[tuple[str, str], ...] = (),
    request: Any = None,
    channel: grpc.Channel | None = None,
) -> tuple[Any, dict[str, Any]]:
    """(response, trailing metadata) of one Detect, without our client.

    Raises:
        Failed: the call failed.
    """
    own = channel or grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
    try:
        stub = detector_pb2_grpc.DetectorServiceStub(own)
        request = request or detector_pb2.DetectRequest()
        response, made = stub.Detect.with_call(request, timeout=timeout, metadata=metadata)
        return response, dict(made.trailing_metadata())
    except grpc.RpcError as error:
        raise Failed(error) from None
    finally:
        if channel is None:
            own.close()
