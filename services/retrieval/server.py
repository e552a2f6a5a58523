"""The three gRPC services of retrieval: read, write and control plane over one engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from bowerbird import telemetry
from bowerbird.errors import ArgumentInvalid, BowerbirdError
from bowerbird.rpc import context, wire
from bowerbird.rpc.server import Method, Role, Service
from bowerbird.v1 import retrieval_pb2 as pb
from bowerbird.v1 import retrieval_pb2_grpc as pb_grpc
from bowerbird.v1 import types_pb2

from . import messages, progress
from .budget import Budget
from .engine import RetrievalEngine
from .items import SearchResult


def build_services(engine: RetrievalEngine) -> list[Service]:
    """The services of `engine`, which they load before they are ready and close at the end."""
    return [
        Service(
            "bowerbird.v1.RetrievalService",
            RetrievalServicer(engine),
            pb_grpc.add_RetrievalServiceServicer_to_server,
            _methods("read", Search=(1, 10), BatchSearch=(10, 60), GetItem=(1, 10), ListItems=(5, 30))
            | _methods("read", GetIndex=(1, 10), ListIndexes=(1, 10)),
            warm_up=engine.load,
            close=engine.close,
        ),
        Service(
            "bowerbird.v1.IndexService",
            IndexServicer(engine),
            pb_grpc.add_IndexServiceServicer_to_server,
            _methods("write", UpsertItems=(10, 60), DeleteItems=(30, 300)),
        ),
        Service(
            "bowerbird.v1.IndexAdminService",
            IndexAdminServicer(engine),
            pb_grpc.add_IndexAdminServiceServicer_to_server,
            _methods("admin", CreateIndex=(10, 60), DeleteIndex=(30, 300), ReplaceIndex=(30, 300))
            | _methods("admin", CreateSnapshot=(600, 3600))
            | _methods("admin", ListSnapshots=(10, 60), DeleteSnapshot=(30, 300), RestoreSnapshot=(600, 3600)),
        ),
    ]


def _methods(role: Role, **deadlines_s: tuple[float, float]) -> dict[str, Method]:
    """Rules of methods: default and maximal deadline."""
    return {name: Method(default, longest, role) for name, (default, longest) in deadlines_s.items()}


def _budget() -> Budget:
    """Deadline and cancellation of the call being answered."""
    call = context.current()
    return Budget(call.deadline, call.is_cancelled)


def _require_index(name: str) -> str:
    if not name:
        raise ArgumentInvalid("expected the name of an index, got none", field="index")
    return name


@contextmanager
def _paths(**paths: str) -> Iterator[None]:
    """Errors of the engine with the path that their field has in this request."""
    try:
        yield
    except BowerbirdError as error:
        error.field = paths.get(error.field, error.field)
        raise


_SEARCH_PATHS = {
    "embedding": "query.embedding",
    "code": "query.code",
    "item_id": "query.item_id",
    "filter": "params.filter",
    "min_sequence": "params.min_sequence",
}
_BATCH_PATHS = {**_SEARCH_PATHS, "embedding": "embeddings", "code": "codes"}


def _info(timings: list[tuple[str, float]], found: SearchResult) -> types_pb2.ResponseInfo:
    models = [] if found.model is None else [(found.model.name, found.model.version)]
    return wire.response_info(timings, models)


class RetrievalServicer(pb_grpc.RetrievalServiceServicer):
    """Read plane."""

    def __init__(self, engine: RetrievalEngine) -> None:
        self._engine = engine

    def Search(self, request: pb.SearchRequest, _context: grpc.ServicerContext) -> pb.SearchResponse:  # noqa: N802
        """The items nearest to a vector, or to an item."""
        params, query = messages.read_params(request.params), request.query
        index, source = _require_index(request.index), query.WhichOneof("source")
        if source is None:
            raise ArgumentInvalid("expected query.embedding or query.item_id, got neither", field="query")
        with telemetry.collect_timings() as timings, _paths(**_SEARCH_PATHS):
            if source == "item_id":
                if query.HasField("code"):
                    raise ArgumentInvalid("expected no code beside item_id: the item has its own", field="query.code")
                found = self._engine.search_item(index, query.item_id, params, budget=_budget())
            else:
                embedding = wire.unpack_vector(query.embedding, "query.embedding")
                code = wire.unpack_code(query.code, "query.code")[None] if query.HasField("code") else None
                found = self._engine.search(index, embedding[None], code, params, budget=_budget())
        return pb.SearchResponse(
            info=_info(timings, found), hits=messages.make_hits(found.hits[0]), sequence=found.sequence
        )

    def BatchSearch(  # noqa: N802
        self, request: pb.BatchSearchRequest, _context: grpc.ServicerContext
    ) -> pb.BatchSearchResponse:
        """One result a query, in order."""
        params, index = messages.read_params(request.params), _require_index(request.index)
        embeddings = wire.unpack_vectors(request.embeddings, "embeddings")
        codes = wire.unpack_codes(request.codes, "codes") if request.HasField("codes") else None
        with telemetry.collect_timings() as timings, _paths(**_BATCH_PATHS):
            found = self._engine.search(index, embeddings, codes, params, budget=_budget())
        results = [pb.BatchSearchResponse.Result(hits=messages.make_hits(hits)) for hits in found.hits]
        return pb.BatchSearchResponse(info=_info(timings, found), results=results, sequence=found.sequence)

    def GetItem(self, request: pb.GetItemRequest, _context: grpc.ServicerContext) -> pb.GetItemResponse:  # noqa: N802
        """One item, with vectors if asked for."""
        item = self._engine.get_item(
            _require_index(request.index), request.item_id, include_vectors=request.include_vectors
        )
        return pb.GetItemResponse(item=messages.make_item(item))

    def ListItems(  # noqa: N802
        self, request: pb.ListItemsRequest, _context: grpc.ServicerContext
    ) -> pb.ListItemsResponse:
        """A page of items by id."""
        wanted = messages.read_filter(request.filter, "filter") if request.HasField("filter") else None
        items, token = self._engine.list_items(
            _require_index(request.index),
            page_size=request.page_size,
            page_token=request.page_token,
            filter=wanted,
            budget=_budget(),
        )
        return pb.ListItemsResponse(items=[messages.make_item(item) for item in items], next_page_token=token)

    def GetIndex(  # noqa: N802
        self, request: pb.GetIndexRequest, _context: grpc.ServicerContext
    ) -> pb.GetIndexResponse:
        """One index."""
        return pb.GetIndexResponse(index=messages.make_index(self._engine.get_index(_require_index(request.name))))

    def ListIndexes(  # noqa: N802
        self, _request: pb.ListIndexesRequest, _context: grpc.ServicerContext
    ) -> pb.ListIndexesResponse:
        """All indexes by name."""
        return pb.ListIndexesResponse(indexes=[messages.make_index(info) for info in self._engine.list_indexes()])


class IndexServicer(pb_grpc.IndexServiceServicer):
    """Write plane."""

    def __init__(self, engine: RetrievalEngine) -> None:
        self._engine = engine

    def UpsertItems(  # noqa: N802
        self, request: pb.UpsertItemsRequest, _context: grpc.ServicerContext
    ) -> pb.UpsertItemsResponse:
        """Items inserted or replaced, on disk; those at fault by position."""
        items, faults = messages.read_items(request.items)
        written = self._engine.upsert_items(
            _require_index(request.index), items, messages.read_model(request.model), faults=faults, budget=_budget()
        )
        return pb.UpsertItemsResponse(
            sequence=written.sequence, written=written.written, errors=messages.make_faults(written.faults)
        )

    def DeleteItems(  # noqa: N802
        self, request: pb.DeleteItemsRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteItemsResponse:
        """Items deleted, by id or by filter."""
        deleted = self._engine.delete_items(
            _require_index(request.index),
            item_ids=list(request.item_ids),
            filter=messages.read_filter(request.filter, "filter") if request.HasField("filter") else None,
            budget=_budget(),
        )
        return pb.DeleteItemsResponse(sequence=deleted.sequence, deleted=deleted.deleted)


class IndexAdminServicer(pb_grpc.IndexAdminServiceServicer):
    """Control plane."""

    def __init__(self, engine: RetrievalEngine) -> None:
        self._engine = engine

    def CreateIndex(  # noqa: N802
        self, request: pb.CreateIndexRequest, _context: grpc.ServicerContext
    ) -> pb.CreateIndexResponse:
        """A new index, or the same one again."""
        info = self._engine.create_index(
            request.name,
            dimension=request.dimension,
            code_bits=request.code_bits,
            model=messages.read_model(request.model),
        )
        return pb.CreateIndexResponse(index=messages.make_index(info))

    def DeleteIndex(  # noqa: N802
        self, request: pb.DeleteIndexRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteIndexResponse:
        """An index removed with its files."""
        self._engine.delete_index(_require_index(request.name))
        return pb.DeleteIndexResponse()

    def ReplaceIndex(  # noqa: N802
        self, request: pb.ReplaceIndexRequest, _context: grpc.ServicerContext
    ) -> pb.ReplaceIndexResponse:
        """An index in the place of another."""
        name, by = _require_index(request.name), _require_index(request.by)
        return pb.ReplaceIndexResponse(
            index=messages.make_index(self._engine.replace_index(name, by, sequence=request.sequence))
        )

    def CreateSnapshot(  # noqa: N802
        self, request: pb.CreateSnapshotRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.CreateSnapshotResponse]:
        """Progress, then the snapshot."""
        index = _require_index(request.index)
        for event in progress.stream(lambda report: self._engine.create_snapshot(index, report), _budget()):
            if isinstance(event, float):
                yield pb.CreateSnapshotResponse(progress=event)
            else:
                yield pb.CreateSnapshotResponse(progress=1.0, snapshot=messages.make_snapshot(event.value))

    def ListSnapshots(  # noqa: N802
        self, request: pb.ListSnapshotsRequest, _context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        """Snapshots, newest first."""
        found = self._engine.list_snapshots(request.index)
        return pb.ListSnapshotsResponse(snapshots=[messages.make_snapshot(info) for info in found])

    def DeleteSnapshot(  # noqa: N802
        self, request: pb.DeleteSnapshotRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        """A snapshot removed."""
        self._engine.delete_snapshot(request.snapshot_id)
        return pb.DeleteSnapshotResponse()

    def RestoreSnapshot(  # noqa: N802
        self, request: pb.RestoreSnapshotRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.RestoreSnapshotResponse]:
        """Progress, then the new index."""
        snapshot_id, target = request.snapshot_id, request.target_index
        for event in progress.stream(
            lambda report: self._engine.restore_snapshot(snapshot_id, target, report), _budget()
        ):
            if isinstance(event, float):
                yield pb.RestoreSnapshotResponse(progress=event)
            else:
                yield pb.RestoreSnapshotResponse(progress=1.0, index=messages.make_index(event.value))
