"""The detector: pictures in, objects out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bowerbird.errors import BowerbirdError
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import Detection, Info, ModelRef, read_detection, read_info, read_model
from bowerbird.rpc.clients.connection import Client, Connection
from bowerbird.v1 import detector_pb2, detector_pb2_grpc, types_pb2


@dataclass(frozen=True)
class Detections:
    """The objects of one picture, best score first; its upright size in pixels."""

    detections: tuple[Detection, ...]
    width: int
    height: int
    info: Info


@dataclass(frozen=True)
class DetectorModel:
    """What a detector runs and takes."""

    model: ModelRef
    labels: tuple[str, ...]
    input_width: int
    input_height: int
    max_batch_size: int
    default_min_score: float
    backend: str


class DetectorClient(Client):
    """Calls of `bowerbird.v1.DetectorService`; every method raises `BowerbirdError`.

    Attributes:
        stub: the generated one, for raw access.
    """

    service = "bowerbird.v1.DetectorService"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.stub = detector_pb2_grpc.DetectorServiceStub(connection.channel)

    def detect(
        self,
        data: bytes,
        *,
        max_detections: int = 0,
        min_score: float | None = None,
        labels: Sequence[str] = (),
        model: str = "",
        timeout_s: float | None = None,
    ) -> Detections:
        """The objects of one picture.

        Args:
            data: bytes of a picture file.
            max_detections: 0: the server's default.
            min_score: None: the model's default.
            labels: only these; empty: all.
            model: empty: the served default.
        """
        options = make_options(max_detections, min_score, labels)
        request = detector_pb2.DetectRequest(image=types_pb2.Image(data=data), options=options, model=model)
        return _read_detections(self._call(self.stub.Detect, request, timeout_s))

    def batch_detect(
        self,
        pictures: Sequence[bytes],
        *,
        max_detections: int = 0,
        min_score: float | None = None,
        labels: Sequence[str] = (),
        model: str = "",
        timeout_s: float | None = None,
    ) -> list[Detections | BowerbirdError]:
        """One answer or error a picture, in their order."""
        request = detector_pb2.BatchDetectRequest(
            images=[types_pb2.Image(data=data) for data in pictures],
            options=make_options(max_detections, min_score, labels),
            model=model,
        )
        response = self._call(self.stub.BatchDetect, request, timeout_s)
        return [
            wire.unpack_item_error(result.error) if result.HasField("error") else _read_detections(result.response)
            for result in response.results
        ]

    def get_model(self, name: str = "", *, timeout_s: float | None = None) -> DetectorModel:
        """What the server runs; empty name: its default model."""
        request = detector_pb2.DetectorServiceGetModelRequest(name=name)
        answer = self._call(self.stub.GetModel, request, timeout_s)
        return DetectorModel(
            model=read_model(answer.model),
            labels=tuple(answer.labels),
            input_width=answer.input_width,
            input_height=answer.input_height,
            max_batch_size=answer.max_batch_size,
            default_min_score=answer.default_min_score,
            backend=answer.backend,
        )


def make_options(max_detections: int, min_score: float | None, labels: Sequence[str]) -> detector_pb2.DetectOptions:
    """The message of the options of a detection."""
    return detector_pb2.DetectOptions(max_detections=max_detections, min_score=min_score, labels=labels)


def _read_detections(message: detector_pb2.DetectResponse) -> Detections:
    return Detections(
        detections=tuple(read_detection(detection) for detection in message.detections),
        width=message.image_width,
        height=message.image_height,
        info=read_info(message.info),
    )
