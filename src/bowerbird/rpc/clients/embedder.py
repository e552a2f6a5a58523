"""The embedder: pictures or regions in, vectors, binary codes and labels out.

Legend: N inputs, D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid, BowerbirdError
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import Info, ModelRef, read_info, read_model
from bowerbird.rpc.clients.connection import Client, Connection
from bowerbird.v1 import embedder_pb2, embedder_pb2_grpc, types_pb2
from bowerbird.vectors import CodeArray, FloatArray


class LabelScore(NamedTuple):
    """A label and how likely it holds, in [0, 1]."""

    label: str
    score: float


Labels = dict[str, list[LabelScore]]  # by head, best first


@dataclass(frozen=True)
class Embedding:
    """One picture as a vector; what was not asked for is empty.

    Attributes:
        embedding: (D,) float32, unit length.
        code: (W,) uint8.
        labels: what the heads say that were asked for.
    """

    embedding: FloatArray
    code: CodeArray
    info: Info
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Embeddings:
    """A batch of pictures as vectors; what was not asked for is empty.

    Attributes:
        embeddings: (N, D) float32, unit length; zeros where the input failed.
        codes: (N, W) uint8.
        errors: of the inputs that failed, by position.
        labels: of each picture, what the heads say that were asked for.
    """

    embeddings: FloatArray
    codes: CodeArray
    errors: dict[int, BowerbirdError]
    info: Info
    labels: list[Labels] = field(default_factory=list)


@dataclass(frozen=True)
class Head:
    """A head of a model: whether its labels exclude each other, how many it knows, and its default `min_score`."""

    name: str
    exclusive: bool
    labels: int
    default_min_score: float


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
    heads: tuple[Head, ...] = ()


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
        self,
        data: bytes,
        region: Region | None = None,
        *,
        return_fields: Sequence[str] = (),
        top_labels: int = 0,
        min_score: float | None = None,
        model: str = "",
        timeout_s: float | None = None,
    ) -> Embedding:
        """The vector of one picture, or of a region of it, and what the model's heads say.

        Args:
            data: bytes of a picture file.
            region: None: the whole picture.
            return_fields: `embedding`, `code`, names of heads (`get_model` lists them), `attributes` (every head but
                `category` and `annotations`) or `*` (everything); empty: embedding and code.
            top_labels: of each head, at most; 0: the server's default.
            min_score: labels below are left out; None: the default of each head.
            model: empty: the served default.
        """
        request = embedder_pb2.EmbedRequest(
            input=_make_input(data, region),
            model=model,
            options=_make_options(return_fields, top_labels, min_score),
        )
        answer = self._call(self.stub.Embed, request, timeout_s)
        return Embedding(
            embedding=wire.unpack_vector(answer.embedding) if answer.HasField("embedding") else np.zeros(0, np.float32),
            code=wire.unpack_code(answer.code) if answer.HasField("code") else np.zeros(0, np.uint8),
            info=read_info(answer.info),
            labels=_read_labels(answer.heads),
        )

    def batch_embed(
        self,
        pictures: Sequence[bytes | tuple[bytes, Region | None]],
        *,
        return_fields: Sequence[str] = (),
        top_labels: int = 0,
        min_score: float | None = None,
        model: str = "",
        half: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """The vectors of 1 to 256 pictures, and what the model's heads say.

        Args:
            pictures: bytes of picture files, each alone or with a region.
            return_fields, top_labels, min_score: as for `embed`.
            half: let float16 travel, half the bytes; indexes store float16 anyway.
        """
        inputs = [_make_input(*(p if isinstance(p, tuple) else (p, None))) for p in pictures]
        data_type = types_pb2.DATA_TYPE_FLOAT16 if half else types_pb2.DATA_TYPE_FLOAT32
        options = _make_options(return_fields, top_labels, min_score)
        request = embedder_pb2.BatchEmbedRequest(inputs=inputs, model=model, data_type=data_type, options=options)
        answer = self._call(self.stub.BatchEmbed, request, timeout_s)
        nothing = (len(pictures), 0)
        has_vectors, has_codes = answer.HasField("embeddings"), answer.HasField("codes")
        return Embeddings(
            embeddings=wire.unpack_vectors(answer.embeddings) if has_vectors else np.zeros(nothing, np.float32),
            codes=wire.unpack_codes(answer.codes) if has_codes else np.zeros(nothing, np.uint8),
            errors={error.index: wire.unpack_item_error(error) for error in answer.errors},
            info=read_info(answer.info),
            labels=[_read_labels(each.heads) for each in answer.labels] or [{} for _ in pictures],
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
            heads=tuple(Head(h.name, h.exclusive, h.labels, h.default_min_score) for h in answer.heads),
        )


def _make_input(data: bytes, region: Region | None) -> embedder_pb2.EmbedInput:
    wire_region = wire.pack_region(region) if region is not None else None
    return embedder_pb2.EmbedInput(image=types_pb2.Image(data=data), region=wire_region)


def _make_options(
    return_fields: Sequence[str], top_labels: int, min_score: float | None
) -> embedder_pb2.EmbedOptions | None:
    """None where nothing is asked beyond the defaults."""
    if not return_fields and not top_labels and min_score is None:
        return None
    if not 0 <= top_labels < 2**32:
        raise ArgumentInvalid(f"top_labels: expected 0 or more, got {top_labels}", field="options.top_labels")
    return embedder_pb2.EmbedOptions(return_fields=return_fields, top_labels=top_labels, min_score=min_score)


def _read_labels(messages: Iterable[embedder_pb2.HeadLabels]) -> Labels:
    return {message.head: [LabelScore(entry.label, entry.score) for entry in message.labels] for message in messages}
