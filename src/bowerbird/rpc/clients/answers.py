"""Values that more than one typed client answers with."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird.boxes import Region
from bowerbird.rpc import wire
from bowerbird.v1 import detector_pb2, types_pb2


@dataclass(frozen=True)
class ModelRef:
    """A model: its name, and the first hex digits of its file's sha256."""

    name: str
    version: str


@dataclass(frozen=True)
class Info:
    """How an answer came about.

    Attributes:
        timings: (stage, seconds) in the order they were spent.
        models: that produced the answer.
    """

    timings: tuple[tuple[str, float], ...] = ()
    models: tuple[ModelRef, ...] = ()


@dataclass(frozen=True)
class Detection:
    """An object in a picture; `score` in [0, 1]."""

    region: Region
    label: str
    score: float


def read_model(message: types_pb2.ModelRef) -> ModelRef:
    """The model that a message names."""
    return ModelRef(message.name, message.version)


def read_info(message: types_pb2.ResponseInfo) -> Info:
    """Timings and models of an answer."""
    timings = tuple((timing.stage, timing.duration.ToNanoseconds() / 1e9) for timing in message.timings)
    return Info(timings, tuple(read_model(model) for model in message.models))


def read_detection(message: detector_pb2.Detection) -> Detection:
    """One found object."""
    return Detection(wire.unpack_region(message.region), message.label, message.score)
