"""The detector on the wire: messages <-> domain, and nothing else."""

from __future__ import annotations

import grpc

from bowerbird.errors import BowerbirdError
from bowerbird.rpc import context, wire
from bowerbird.rpc.server import Method, Service
from bowerbird.v1 import detector_pb2, detector_pb2_grpc

from .engine import Detections, DetectOptions, DetectorEngine

FULL_NAME = "bowerbird.v1.DetectorService"
METHODS = {
    "Detect": Method(default_deadline_s=5, max_deadline_s=60, role="read"),
    "BatchDetect": Method(default_deadline_s=30, max_deadline_s=300, role="read"),
    "GetModel": Method(default_deadline_s=5, max_deadline_s=60, role="read"),
}


def build_services(engine: DetectorEngine) -> list[Service]:
    """The one gRPC service of this package."""
    service = Service(
        full_name=FULL_NAME,
        servicer=DetectorServicer(engine),
        register=detector_pb2_grpc.add_DetectorServiceServicer_to_server,
        methods=METHODS,
        warm_up=engine.warm_up,
        close=engine.close,
        is_alive=engine.is_alive,
    )
    return [service]


class DetectorServicer(detector_pb2_grpc.DetectorServiceServicer):
    """Answers the calls of `bowerbird.v1.DetectorService`."""

    def __init__(self, engine: DetectorEngine) -> None:
        self._engine = engine

    def Detect(  # noqa: N802
        self, request: detector_pb2.DetectRequest, _: grpc.ServicerContext
    ) -> detector_pb2.DetectResponse:
        """The objects of one picture."""
        call = context.current()
        self._engine.require_model(request.model)
        found = self._engine.detect(
            request.image.data, _read_options(request.options), deadline=call.deadline, is_cancelled=call.is_cancelled
        )
        response = _write_detections(found)
        response.info.CopyFrom(wire.response_info(call.timings, self._models))
        return response

    def BatchDetect(  # noqa: N802
        self, request: detector_pb2.BatchDetectRequest, _: grpc.ServicerContext
    ) -> detector_pb2.BatchDetectResponse:
        """The objects of each picture, or its error."""
        call = context.current()
        self._engine.require_model(request.model)
        outcomes = self._engine.detect_batch(
            [image.data for image in request.images],
            _read_options(request.options),
            deadline=call.deadline,
            is_cancelled=call.is_cancelled,
        )
        return detector_pb2.BatchDetectResponse(
            info=wire.response_info(call.timings, self._models),
            results=[_write_outcome(index, outcome) for index, outcome in enumerate(outcomes)],
        )

    def GetModel(  # noqa: N802
        self, request: detector_pb2.DetectorServiceGetModelRequest, _: grpc.ServicerContext
    ) -> detector_pb2.DetectorServiceGetModelResponse:
        """What is served."""
        self._engine.require_model(request.name)
        info = self._engine.info
        return detector_pb2.DetectorServiceGetModelResponse(
            model={"name": info.name, "version": info.version},
            labels=info.labels,
            input_width=info.input_width,
            input_height=info.input_height,
            max_batch_size=info.max_batch_size,
            default_min_score=info.default_min_score,
            backend=info.backend,
        )

    @property
    def _models(self) -> list[tuple[str, str]]:
        return [(self._engine.info.name, self._engine.info.version)]


def _read_options(message: detector_pb2.DetectOptions) -> DetectOptions:
    return DetectOptions(
        max_detections=message.max_detections,
        min_score=message.min_score if message.HasField("min_score") else None,
        labels=tuple(message.labels),
    )


def _write_detections(found: Detections) -> detector_pb2.DetectResponse:
    return detector_pb2.DetectResponse(
        detections=[
            detector_pb2.Detection(region=wire.pack_region(entry.region), label=entry.label, score=entry.score)
            for entry in found.detections
        ],
        image_width=found.width,
        image_height=found.height,
    )


def _write_outcome(index: int, outcome: Detections | BowerbirdError) -> detector_pb2.BatchDetectResponse.Result:
    if isinstance(outcome, BowerbirdError):
        return detector_pb2.BatchDetectResponse.Result(error=wire.pack_item_error(index, outcome))
    return detector_pb2.BatchDetectResponse.Result(response=_write_detections(outcome))
