"""Messages of the retrieval contract <-> the engine's types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from bowerbird.errors import ArgumentInvalid, BowerbirdError, FilterInvalid
from bowerbird.rpc import wire
from bowerbird.v1 import retrieval_pb2 as pb
from bowerbird.v1 import types_pb2

from .filters import Clause, Filter, Op
from .items import Hit, IndexInfo, Item, ModelRef, SearchParams, SnapshotInfo

_OPS = {
    pb.Filter.OP_EQ: Op.EQ,
    pb.Filter.OP_IN: Op.IN,
    pb.Filter.OP_LT: Op.LT,
    pb.Filter.OP_LE: Op.LE,
    pb.Filter.OP_GT: Op.GT,
    pb.Filter.OP_GE: Op.GE,
    pb.Filter.OP_EXISTS: Op.EXISTS,
}


def read_filter(message: pb.Filter, field: str) -> Filter:
    """The filter of a request.

    Raises:
        FilterInvalid: an operation or a value is missing.
    """
    return Filter(
        all_of=tuple(_read_clause(clause, f"{field}.all_of[{i}]") for i, clause in enumerate(message.all_of)),
        any_of=tuple(_read_clause(clause, f"{field}.any_of[{i}]") for i, clause in enumerate(message.any_of)),
    )


def _read_clause(message: pb.Filter.Clause, field: str) -> Clause:
    op = _OPS.get(message.op)
    if op is None:
        raise FilterInvalid(f"expected one of the operations of Filter.Op, got {message.op}", field=f"{field}.op")
    try:
        values = tuple(wire.unpack_value(value, f"{field}.values") for value in message.values)
    except ArgumentInvalid as error:
        raise FilterInvalid(error.message, field=error.field) from error
    return Clause(message.field, op, values, message.negate)


def read_params(message: pb.SearchParams) -> SearchParams:
    """The parameters of a search.

    Raises:
        ArgumentInvalid: a number is out of range.
        FilterInvalid: the filter is malformed.
    """
    return SearchParams(
        top_k=message.top_k,
        filter=read_filter(message.filter, "params.filter") if message.HasField("filter") else None,
        return_fields=tuple(message.return_fields),
        exact=message.exact,
        rerank=message.rerank,
        min_sequence=message.min_sequence,
    )


def read_model(message: types_pb2.ModelRef) -> ModelRef | None:
    """The model that a message names, None if it names none."""
    return ModelRef(message.name, message.version) if message.name else None


def read_items(messages: Iterable[pb.Item]) -> tuple[dict[int, Item], dict[int, BowerbirdError]]:
    """The items of a batch that can be read, and the faults of the others, by position."""
    items: dict[int, Item] = {}
    faults: dict[int, BowerbirdError] = {}
    for position, message in enumerate(messages):
        try:
            items[position] = Item(
                item_id=message.item_id,
                embedding=wire.unpack_vector(message.embedding, "embedding") if message.HasField("embedding") else None,
                code=wire.unpack_code(message.code, "code") if message.HasField("code") else None,
                fields=wire.unpack_fields(message.fields),
            )
        except BowerbirdError as error:
            faults[position] = error
    return items, faults


def make_faults(faults: Mapping[int, BowerbirdError]) -> list[types_pb2.ItemError]:
    """The messages of the items that failed, by position."""
    return [wire.pack_item_error(position, error) for position, error in sorted(faults.items())]


def make_item(item: Item) -> pb.Item:
    """The message of an item, with the vectors that it has."""
    return pb.Item(
        item_id=item.item_id,
        embedding=None if item.embedding is None else wire.pack_vector(item.embedding),
        code=None if item.code is None else wire.pack_code(item.code),
        fields=wire.pack_fields(item.fields),
    )


def make_hits(hits: Iterable[Hit]) -> list[pb.Hit]:
    """The messages of hits, in order."""
    return [pb.Hit(item_id=hit.item_id, score=hit.score, fields=wire.pack_fields(hit.fields)) for hit in hits]


def make_index(info: IndexInfo) -> pb.Index:
    """The message of an index."""
    return pb.Index(
        name=info.name,
        dimension=info.dimension,
        code_bits=info.code_bits,
        model=None if info.model is None else types_pb2.ModelRef(name=info.model.name, version=info.model.version),
        items=info.items,
        sequence=info.sequence,
        create_time=_make_time(info.create_time_s),
        backend=info.backend,
        fields=info.fields,
    )


def make_snapshot(info: SnapshotInfo) -> pb.Snapshot:
    """The message of a snapshot."""
    return pb.Snapshot(
        snapshot_id=info.snapshot_id,
        index=info.index,
        sequence=info.sequence,
        items=info.items,
        size_bytes=info.size_bytes,
        sha256=info.sha256,
        create_time=_make_time(info.create_time_s),
    )


def _make_time(seconds: float) -> Timestamp:
    time = Timestamp()
    time.FromNanoseconds(int(seconds * 1e9))
    return time
