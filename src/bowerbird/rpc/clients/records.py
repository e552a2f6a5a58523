"""What retrieval takes, keeps and answers, as values, and their messages.

Legend: D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from bowerbird.errors import BowerbirdError
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import Info, ModelRef, read_model
from bowerbird.rpc.clients.filters import parse_filter
from bowerbird.rpc.wire import Scalar
from bowerbird.v1 import retrieval_pb2, types_pb2
from bowerbird.vectors import CodeArray, FloatArray, HalfArray

FilterLike = str | retrieval_pb2.Filter


@dataclass(frozen=True)
class SearchParams:
    """What to look for and how.

    Attributes:
        top_k: 1 to 1000.
        filter: conditions on fields, as text (`parse_filter`) or message; None: all items.
        return_fields: names of fields to answer with; `*`: all.
        exact: score every row instead of binary scan and re-rank.
        rerank: candidates scored exactly; 0: the index default.
        min_sequence: see at least this write: read your writes.
    """

    top_k: int = 10
    filter: FilterLike | None = None
    return_fields: tuple[str, ...] = ("*",)
    exact: bool = False
    rerank: int = 0
    min_sequence: int = 0

    def to_wire(self) -> retrieval_pb2.SearchParams:
        """The message.

        Raises:
            FilterInvalid: the filter text is malformed.
        """
        return retrieval_pb2.SearchParams(
            top_k=self.top_k,
            filter=make_filter(self.filter),
            return_fields=self.return_fields,
            exact=self.exact,
            rerank=self.rerank,
            min_sequence=self.min_sequence,
        )


@dataclass(frozen=True)
class Hit:
    """A found item; `score` is the inner product of unit vectors, larger is better."""

    item_id: str
    score: float
    fields: dict[str, Scalar]


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first; `sequence` is the newest write that the search saw."""

    hits: tuple[Hit, ...]
    sequence: int
    info: Info


@dataclass(frozen=True)
class Item:
    """What an index keeps of one picture.

    Attributes:
        embedding: (D,) float32 or float16, unit length; None in listings.
        code: (W,) uint8, or None.
        fields: a field keeps the type it was first written with.
    """

    item_id: str
    embedding: FloatArray | HalfArray | None = None
    code: CodeArray | None = None
    fields: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """Outcome of an upsert: items on disk, errors of the others by position."""

    sequence: int
    written: int
    errors: dict[int, BowerbirdError]


@dataclass(frozen=True)
class Deleted:
    """Outcome of a delete; absent ids do not count."""

    sequence: int
    deleted: int


@dataclass(frozen=True)
class Index:
    """One index; `backend` names its code scan."""

    name: str
    dimension: int
    code_bits: int
    model: ModelRef
    items: int
    sequence: int
    create_time: datetime
    backend: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """One snapshot file of an index."""

    snapshot_id: str
    index: str
    sequence: int
    items: int
    size_bytes: int
    sha256: str
    create_time: datetime


def make_filter(condition: FilterLike | None) -> retrieval_pb2.Filter | None:
    """The message of a filter given as text or message."""
    return parse_filter(condition) if isinstance(condition, str) else condition


def read_hits(messages: Sequence[retrieval_pb2.Hit]) -> tuple[Hit, ...]:
    """Hits, best first."""
    return tuple(Hit(hit.item_id, hit.score, wire.unpack_fields(hit.fields)) for hit in messages)


def make_model(model: ModelRef | None) -> types_pb2.ModelRef | None:
    """The message of a model."""
    return types_pb2.ModelRef(name=model.name, version=model.version) if model is not None else None


def make_item(item: Item) -> retrieval_pb2.Item:
    """The message of an item."""
    return retrieval_pb2.Item(
        item_id=item.item_id,
        embedding=wire.pack_vector(item.embedding) if item.embedding is not None else None,
        code=wire.pack_code(item.code) if item.code is not None else None,
        fields=wire.pack_fields(item.fields),
    )


def read_item(message: retrieval_pb2.Item) -> Item:
    """The item of a message."""
    return Item(
        item_id=message.item_id,
        embedding=wire.unpack_vector(message.embedding) if message.HasField("embedding") else None,
        code=wire.unpack_code(message.code) if message.HasField("code") else None,
        fields=wire.unpack_fields(message.fields),
    )


def _read_time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def read_index(message: retrieval_pb2.Index) -> Index:
    """The index of a message."""
    return Index(
        name=message.name,
        dimension=message.dimension,
        code_bits=message.code_bits,
        model=read_model(message.model),
        items=message.items,
        sequence=message.sequence,
        create_time=_read_time(message.create_time),
        backend=message.backend,
        fields=tuple(message.fields),
    )


def read_snapshot(message: retrieval_pb2.Snapshot) -> Snapshot:
    """The snapshot of a message."""
    return Snapshot(
        snapshot_id=message.snapshot_id,
        index=message.index,
        sequence=message.sequence,
        items=message.items,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        create_time=_read_time(message.create_time),
    )
