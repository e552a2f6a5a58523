"""The embedder: pictures or regions in, vectors and binary codes out.

Legend: N inputs, D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bowerbird.boxes import Region
from bowerbird.errors import BowerbirdError
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import Info, ModelRef, read_info, read_model
from bowerbird.rpc.clients.connection import Client, Connection
from bowerbird.v1 import embedder_pb2, embedder_pb2_grpc, types_pb2
from bowerbird.vectors import CodeArray, FloatArray


@dataclass(frozen=True)
class Embedding:
    """One picture as a vector.

    Attributes:
        embedding: (D,) float32, unit length.
        code: (W,) uint8.
    """

    embedding: FloatArray
    code: CodeArray
    info: Info


@dataclass(frozen=True)
class Embeddings:
    """A batch of pictures as vectors.

    Attributes:
        embeddings: (N, D) float32, unit length; zeros where the input failed.
        codes: (N, W) uint8.
        errors: of the inputs that failed, by position.
    """

    embeddings: FloatArray
    codes: CodeArray
    errors: dict[int, BowerbirdError]
    info: Info


@dataclass(frozen=True)
class EmbedderModel:
    """What an embedder runs and takes."""

    model: ModelRef
    dimension: int
    code_bits: int
    input_width: int
    input_height: int
    max_batch_size: int
    backend: str


class EmbedderClient(Client):
    """Calls of `bowerbird.v1.EmbedderService`; every method raises `BowerbirdError`.

    Attributes:
        stub: the generated one, for raw access.
    """

    service = "bowerbird.v1.EmbedderService"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.stub = embedder_pb2_grpc.EmbedderServiceStub(connection.channel)

    def embed(
        self, data: bytes, region: Region | None = None, *, model: str = "", timeout_s: float | None = None
    ) -> Embedding:
        """The vector of one picture, or of a region of it.

        Args:
            data: bytes of a picture file.
            region: None: the whole picture.
            model: empty: the served default.
        """
        request = embedder_pb2.EmbedRequest(input=_make_input(data, region), model=model)
        answer = self._call(self.stub.Embed, request, timeout_s)
        return Embedding(wire.unpack_vector(answer.embedding), wire.unpack_code(answer.code), read_info(answer.info))

    def batch_embed(
        self,
        pictures: Sequence[bytes | tuple[bytes, Region | None]],
        *,
        model: str = "",
        half: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """The vectors of 1 to 256 pictures.

        Args:
            pictures: bytes of picture files, each alone or with a region.
            half: let float16 travel, half the bytes; indexes store float16 anyway.
        """
        inputs = [_make_input(*(p if isinstance(p, tuple) else (p, None))) for p in pictures]
        data_type = types_pb2.DATA_TYPE_FLOAT16 if half else types_pb2.DATA_TYPE_FLOAT32
        request = embedder_pb2.BatchEmbedRequest(inputs=inputs, model=model, data_type=data_type)
        answer = self._call(self.stub.BatchEmbed, request, timeout_s)
        return Embeddings(
            embeddings=wire.unpack_vectors(answer.embeddings),
            codes=wire.unpack_codes(answer.codes),
            errors={error.index: wire.unpack_item_error(error) for error in answer.errors},
            info=read_info(answer.info),
        )

    def get_model(self, name: str = "", *, timeout_s: float | None = None) -> EmbedderModel:
        """What the server runs; empty name: its default model."""
        request = embedder_pb2.EmbedderServiceGetModelRequest(name=name)
        answer = self._call(self.stub.GetModel, request, timeout_s)
        return EmbedderModel(
            model=read_model(answer.model),
            dimension=answer.dimension,
            code_bits=answer.code_bits,
            input_width=answer.input_width,
            input_height=answer.input_height,
            max_batch_size=answer.max_batch_size,
            backend=answer.backend,
        )


def _make_input(data: bytes, region: Region | None) -> embedder_pb2.EmbedInput:
    wire_region = wire.pack_region(region) if region is not None else None
    return embedder_pb2.EmbedInput(image=types_pb2.Image(data=data), region=wire_region)
