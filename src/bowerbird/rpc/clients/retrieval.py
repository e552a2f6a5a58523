"""Retrieval: search, items, indexes and snapshots.

Legend: N queries, D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bowerbird.errors import Internal
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import ModelRef, read_info
from bowerbird.rpc.clients.connection import Client, Connection, Progress
from bowerbird.rpc.clients.records import (
    Deleted,
    FilterLike,
    Index,
    Item,
    SearchParams,
    SearchResult,
    Snapshot,
    Written,
    make_filter,
    make_item,
    make_model,
    read_hits,
    read_index,
    read_item,
    read_snapshot,
)
from bowerbird.v1 import retrieval_pb2, retrieval_pb2_grpc
from bowerbird.vectors import CodeArray, FloatArray

DEFAULT_INDEX = "default"
LONG_TIMEOUT_S = 3600.0  # of snapshots and restores, whose progress the caller sees


class RetrievalClient(Client):
    """Calls of the three services of retrieval; every method raises `BowerbirdError`.

    Attributes:
        stub: generated, of the read plane; `index_stub` of the write plane, `admin_stub` of the control plane.
    """

    service = "bowerbird.v1.RetrievalService"
    index_service = "bowerbird.v1.IndexService"
    admin_service = "bowerbird.v1.IndexAdminService"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.stub = retrieval_pb2_grpc.RetrievalServiceStub(connection.channel)
        self.index_stub = retrieval_pb2_grpc.IndexServiceStub(connection.channel)
        self.admin_stub = retrieval_pb2_grpc.IndexAdminServiceStub(connection.channel)

    # ---- read

    def search(
        self,
        embedding: FloatArray | None = None,
        *,
        code: CodeArray | None = None,
        item_id: str = "",
        index: str = DEFAULT_INDEX,
        params: SearchParams | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """The items nearest to a vector, or to an item of the index.

        Args:
            embedding: (D,) float; or
            item_id: "more like this"; the item itself is left out.
            code: (W,) uint8 of the embedding; without it the search is exact.
        """
        query = retrieval_pb2.Query(code=wire.pack_code(code) if code is not None else None)
        if embedding is not None:
            query.embedding.CopyFrom(wire.pack_vector(embedding))
        elif item_id:
            query.item_id = item_id
        request = retrieval_pb2.SearchRequest(index=index, query=query, params=(params or SearchParams()).to_wire())
        answer = self._call(self.stub.Search, request, timeout_s)
        return SearchResult(read_hits(answer.hits), answer.sequence, read_info(answer.info))

    def batch_search(
        self,
        embeddings: FloatArray,
        *,
        codes: CodeArray | None = None,
        index: str = DEFAULT_INDEX,
        params: SearchParams | None = None,
        timeout_s: float | None = None,
    ) -> list[SearchResult]:
        """One result a query, in order.

        Args:
            embeddings: (N, D) float.
            codes: (N, W) uint8, or None for an exact search.
        """
        request = retrieval_pb2.BatchSearchRequest(
            index=index,
            embeddings=wire.pack_vectors(embeddings),
            codes=wire.pack_codes(codes) if codes is not None else None,
            params=(params or SearchParams()).to_wire(),
        )
        answer = self._call(self.stub.BatchSearch, request, timeout_s)
        info = read_info(answer.info)
        return [SearchResult(read_hits(result.hits), answer.sequence, info) for result in answer.results]

    def get_item(
        self,
        item_id: str,
        *,
        index: str = DEFAULT_INDEX,
        include_vectors: bool = False,
        timeout_s: float | None = None,
    ) -> Item:
        """One item."""
        request = retrieval_pb2.GetItemRequest(index=index, item_id=item_id, include_vectors=include_vectors)
        return read_item(self._call(self.stub.GetItem, request, timeout_s).item)

    def list_items(
        self,
        *,
        index: str = DEFAULT_INDEX,
        filter: FilterLike | None = None,  # noqa: A002 (the word of the contract)
        page_size: int = 1000,
        timeout_s: float | None = None,
    ) -> Iterator[Item]:
        """All items that match, by id, without vectors; pages are fetched as needed.

        Args:
            timeout_s: of one page.
        """
        request = retrieval_pb2.ListItemsRequest(index=index, page_size=page_size, filter=make_filter(filter))
        while True:
            page = self._call(self.stub.ListItems, request, timeout_s)
            yield from map(read_item, page.items)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_index(self, name: str = DEFAULT_INDEX, *, timeout_s: float | None = None) -> Index:
        """One index."""
        request = retrieval_pb2.GetIndexRequest(name=name)
        return read_index(self._call(self.stub.GetIndex, request, timeout_s).index)

    def list_indexes(self, *, timeout_s: float | None = None) -> list[Index]:
        """All indexes."""
        answer = self._call(self.stub.ListIndexes, retrieval_pb2.ListIndexesRequest(), timeout_s)
        return [read_index(index) for index in answer.indexes]

    # ---- write

    def upsert(
        self,
        items: Sequence[Item],
        *,
        index: str = DEFAULT_INDEX,
        model: ModelRef | None = None,
        timeout_s: float | None = None,
    ) -> Written:
        """Write 1 to 1000 items; what is counted as written is on disk.

        Args:
            model: of the embeddings; must be the index's, which the first write sets.
        """
        request = retrieval_pb2.UpsertItemsRequest(
            index=index, items=[make_item(item) for item in items], model=make_model(model)
        )
        answer = self._call(self.index_stub.UpsertItems, request, timeout_s, self.index_service)
        errors = {error.index: wire.unpack_item_error(error) for error in answer.errors}
        return Written(answer.sequence, answer.written, errors)

    def delete(
        self,
        item_ids: Sequence[str] = (),
        *,
        index: str = DEFAULT_INDEX,
        filter: FilterLike | None = None,  # noqa: A002 (the word of the contract)
        timeout_s: float | None = None,
    ) -> Deleted:
        """Delete items by id, or all that match a filter."""
        request = retrieval_pb2.DeleteItemsRequest(index=index, item_ids=item_ids, filter=make_filter(filter))
        answer = self._call(self.index_stub.DeleteItems, request, timeout_s, self.index_service)
        return Deleted(answer.sequence, answer.deleted)

    # ---- control

    def create_index(
        self,
        name: str = DEFAULT_INDEX,
        *,
        dimension: int,
        code_bits: int,
        model: ModelRef | None = None,
        timeout_s: float | None = None,
    ) -> Index:
        """The new index, or the one that exists with the same shape."""
        request = retrieval_pb2.CreateIndexRequest(
            name=name, dimension=dimension, code_bits=code_bits, model=make_model(model)
        )
        return read_index(self._admin(self.admin_stub.CreateIndex, request, timeout_s).index)

    def delete_index(self, name: str, *, timeout_s: float | None = None) -> None:
        """Delete an index with all its items."""
        self._admin(self.admin_stub.DeleteIndex, retrieval_pb2.DeleteIndexRequest(name=name), timeout_s)

    def replace_index(self, name: str, by: str, *, sequence: int, timeout_s: float | None = None) -> Index:
        """The index `by` under the name of index `name`, which is deleted.

        Args:
            sequence: of `name` when `by` was made from it; if it was written to since, `IndexChanged` is raised.
        """
        request = retrieval_pb2.ReplaceIndexRequest(name=name, by=by, sequence=sequence)
        return read_index(self._admin(self.admin_stub.ReplaceIndex, request, timeout_s).index)

    def create_snapshot(
        self,
        index: str = DEFAULT_INDEX,
        *,
        on_progress: Progress | None = None,
        timeout_s: float = LONG_TIMEOUT_S,
    ) -> Snapshot:
        """A snapshot, complete on the server's disk.

        Args:
            on_progress: called with 0 to 1 as the work goes on.
        """
        request = retrieval_pb2.CreateSnapshotRequest(index=index)
        last = self._follow(self.admin_stub.CreateSnapshot, request, on_progress, timeout_s)
        return read_snapshot(last.snapshot)

    def list_snapshots(self, index: str = "", *, timeout_s: float | None = None) -> list[Snapshot]:
        """Snapshots, newest first; of all indexes if none is named."""
        request = retrieval_pb2.ListSnapshotsRequest(index=index)
        answer = self._admin(self.admin_stub.ListSnapshots, request, timeout_s)
        return [read_snapshot(snapshot) for snapshot in answer.snapshots]

    def delete_snapshot(self, snapshot_id: str, *, timeout_s: float | None = None) -> None:
        """Delete a snapshot file."""
        request = retrieval_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id)
        self._admin(self.admin_stub.DeleteSnapshot, request, timeout_s)

    def restore_snapshot(
        self,
        snapshot_id: str,
        target_index: str,
        *,
        on_progress: Progress | None = None,
        timeout_s: float = LONG_TIMEOUT_S,
    ) -> Index:
        """The index that the snapshot became; it must not have existed."""
        request = retrieval_pb2.RestoreSnapshotRequest(snapshot_id=snapshot_id, target_index=target_index)
        last = self._follow(self.admin_stub.RestoreSnapshot, request, on_progress, timeout_s)
        return read_index(last.index)

    def _admin(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        return self._call(method, request, timeout_s, self.admin_service)

    def _follow(self, method: Any, request: Any, on_progress: Progress | None, timeout_s: float) -> Any:
        """The last message of a stream of progress."""
        message = None
        responses = self.connection.stream(method, request, service=self.admin_service, timeout_s=timeout_s)
        for message in responses:
            if on_progress is not None:
                on_progress(message.progress)
        if message is None:
            raise Internal(f"{self.connection.target} ended a stream of progress without an answer")
        return message
