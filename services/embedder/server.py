"""The embedder on the wire: messages <-> domain, and nothing else."""

from __future__ import annotations

import grpc
import numpy as np

from bowerbird.errors import ArgumentInvalid, BowerbirdError
from bowerbird.rpc import context, wire
from bowerbird.rpc.server import Method, Service
from bowerbird.v1 import embedder_pb2, embedder_pb2_grpc, types_pb2
from bowerbird.vectors import FloatArray, HalfArray

from .engine import EmbedderEngine, EmbedInput
from .heads import EmbedOptions, Labels

FULL_NAME = "bowerbird.v1.EmbedderService"
METHODS = {
    "Embed": Method(default_deadline_s=5, max_deadline_s=60, role="read"),
    "BatchEmbed": Method(default_deadline_s=60, max_deadline_s=600, role="read"),
    "GetModel": Method(default_deadline_s=5, max_deadline_s=60, role="read"),
}


def build_services(engine: EmbedderEngine) -> list[Service]:
    """The one gRPC service of this package."""
    service = Service(
        full_name=FULL_NAME,
        servicer=EmbedderServicer(engine),
        register=embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
        methods=METHODS,
        warm_up=engine.warm_up,
        close=engine.close,
        is_alive=engine.is_alive,
    )
    return [service]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Answers the calls of `bowerbird.v1.EmbedderService`."""

    def __init__(self, engine: EmbedderEngine) -> None:
        self._engine = engine

    def Embed(  # noqa: N802
        self, request: embedder_pb2.EmbedRequest, _: grpc.ServicerContext
    ) -> embedder_pb2.EmbedResponse:
        """The vector and code of one picture or region, and what its heads say."""
        call = context.current()
        self._engine.require_model(request.model)
        half = _wants_half(request.data_type)
        wanted = self._engine.check_options(_read_options(request.options))
        entry = _read_input(request.input, "input")
        result = self._engine.embed(
            entry.data, entry.region, wanted=wanted, deadline=call.deadline, is_cancelled=call.is_cancelled
        )
        return embedder_pb2.EmbedResponse(
            info=wire.response_info(call.timings, self._models),
            embedding=wire.pack_vector(_cast(result.embedding, half=half)) if wanted.embedding else None,
            code=wire.pack_code(result.code) if wanted.code else None,
            heads=_make_heads(result.labels),
        )

    def BatchEmbed(  # noqa: N802
        self, request: embedder_pb2.BatchEmbedRequest, _: grpc.ServicerContext
    ) -> embedder_pb2.BatchEmbedResponse:
        """The vectors and codes of many pictures or regions, what their heads say, and errors of single inputs."""
        call = context.current()
        self._engine.require_model(request.model)
        half = _wants_half(request.data_type)
        wanted = self._engine.check_options(_read_options(request.options))
        result = self._engine.embed_batch(
            [_try_read_input(entry, f"inputs[{index}]") for index, entry in enumerate(request.inputs)],
            wanted=wanted,
            deadline=call.deadline,
            is_cancelled=call.is_cancelled,
        )
        return embedder_pb2.BatchEmbedResponse(
            info=wire.response_info(call.timings, self._models),
            embeddings=wire.pack_vectors(_cast(result.embeddings, half=half)) if wanted.embedding else None,
            codes=wire.pack_codes(result.codes) if wanted.code else None,
            errors=[wire.pack_item_error(index, error) for index, error in result.errors.items()],
            labels=[
                embedder_pb2.BatchEmbedResponse.Labels(heads=_make_heads(result.labels.get(index, {})))
                for index in range(len(request.inputs) if wanted.heads else 0)
            ],
        )

    def GetModel(  # noqa: N802
        self, request: embedder_pb2.EmbedderServiceGetModelRequest, _: grpc.ServicerContext
    ) -> embedder_pb2.EmbedderServiceGetModelResponse:
        """What is served."""
        self._engine.require_model(request.name)
        info = self._engine.info
        return embedder_pb2.EmbedderServiceGetModelResponse(
            model={"name": info.name, "version": info.version},
            dimension=info.dimension,
            code_bits=info.code_bits,
            input_width=info.input_width,
            input_height=info.input_height,
            max_batch_size=info.max_batch_size,
            backend=info.backend,
            heads=[
                embedder_pb2.Head(
                    name=head.name,
                    exclusive=head.kind == "classes",
                    labels=len(head.labels),
                    default_min_score=head.min_score,
                )
                for head in info.heads
            ],
        )

    @property
    def _models(self) -> list[tuple[str, str]]:
        return [(self._engine.info.name, self._engine.info.version)]


def _read_input(message: embedder_pb2.EmbedInput, field: str) -> EmbedInput:
    region = wire.unpack_region(message.region, f"{field}.region") if message.HasField("region") else None
    return EmbedInput(message.image.data, region)


def _try_read_input(message: embedder_pb2.EmbedInput, field: str) -> EmbedInput | BowerbirdError:
    try:
        return _read_input(message, field)
    except BowerbirdError as error:
        return error


def _read_options(message: embedder_pb2.EmbedOptions) -> EmbedOptions:
    min_score = message.min_score if message.HasField("min_score") else None
    return EmbedOptions(tuple(message.return_fields), message.top_labels, min_score)


def _make_heads(labels: Labels) -> list[embedder_pb2.HeadLabels]:
    return [
        embedder_pb2.HeadLabels(
            head=head, labels=[embedder_pb2.LabelScore(label=entry.label, score=entry.score) for entry in found]
        )
        for head, found in labels.items()
    ]


def _wants_half(data_type: int) -> bool:
    """Whether the caller asked for float16.

    Raises:
        ArgumentInvalid: for anything but float16 or float32.
    """
    if data_type in (types_pb2.DATA_TYPE_UNSPECIFIED, types_pb2.DATA_TYPE_FLOAT32, types_pb2.DATA_TYPE_FLOAT16):
        return data_type == types_pb2.DATA_TYPE_FLOAT16
    raise ArgumentInvalid(
        f"expected data_type FLOAT32 or FLOAT16, got {data_type}; the binary code comes with either", field="data_type"
    )


def _cast(values: FloatArray, *, half: bool) -> FloatArray | HalfArray:
    return values.astype(np.float16) if half else values
