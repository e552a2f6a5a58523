"""The retrieval contract over gRPC: every call, every promise of the proto's comments, every refusal."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from bowerbird import errors
from bowerbird.rpc import clients, wire
from bowerbird.rpc.clients import Item, ModelRef, RetrievalClient, SearchParams
from bowerbird.testing import run_server
from bowerbird.v1 import retrieval_pb2 as pb
from bowerbird.v1 import types_pb2
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.server import build_services

D, BITS = 32, 64
MODEL = ModelRef("efficientnet-lite0", "0123456789ab")
rng = np.random.default_rng(7)
ROWS = rng.standard_normal((60, D)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
CODES = np.packbits(ROWS @ rng.standard_normal((D, BITS)).astype(np.float32) > 0, axis=1)
STYLES = ("noto", "fluent", "openmoji")


def item(number: int) -> Item:
    fields = {"style": STYLES[number % 3], "number": number, "weight": number / 2, "odd": number % 2 == 1}
    return Item(f"pic/{number:03d}", ROWS[number], CODES[number], fields)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrievalClient]:
    """A server with 60 items in the index `default`; tests that use it only read."""
    engine = RetrievalEngine(RetrievalConfig(data_dir=tmp_path_factory.mktemp("data")))
    with run_server(build_services(engine)) as (target, _), clients.connect(target) as connection:
        client = RetrievalClient(connection)
        client.create_index(dimension=D, code_bits=BITS)
        assert client.upsert([item(n) for n in range(60)], model=MODEL).written == 60
        yield client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RetrievalClient]:
    """A server with an empty index `default`."""
    engine = RetrievalEngine(RetrievalConfig(data_dir=tmp_path / "data"))
    with run_server(build_services(engine)) as (target, _), clients.connect(target) as connection:
        client = RetrievalClient(connection)
        client.create_index(dimension=D, code_bits=BITS)
        yield client


def exact(query: np.ndarray, keep: np.ndarray | None = None) -> list[str]:
    """Ids of all items by score with `query`, best first."""
    scores = ROWS.astype(np.float16).astype(np.float32) @ query
    order = np.argsort(-scores, kind="stable")
    return [f"pic/{n:03d}" for n in order if keep is None or keep[n]]


# ------------------------------------------------------------------------------------------------------------ search


def test_search_finds_the_nearest_first(shared: RetrievalClient) -> None:
    """Hits come best first with their inner product, timings and the model."""
    found = shared.search(ROWS[5], code=CODES[5], params=SearchParams(top_k=7))
    assert [hit.item_id for hit in found.hits] == exact(ROWS[5])[:7]
    assert found.hits[0].score == pytest.approx(1.0, abs=2e-3)  # float16 rows
    assert found.hits[0].fields == item(5).fields
    assert found.sequence == 1
    assert found.info.models == (MODEL,)
    assert {"filter", "rerank"} <= {stage for stage, _ in found.info.timings}


def test_search_without_code_or_with_exact_scores_every_row(shared: RetrievalClient) -> None:
    """Both ways give the exact order, also where the candidates would be few."""
    few = SearchParams(top_k=3, rerank=3)
    assert [hit.item_id for hit in shared.search(ROWS[9], params=few).hits] == exact(ROWS[9])[:3]
    always = dataclasses.replace(few, exact=True)
    assert [hit.item_id for hit in shared.search(ROWS[9], code=CODES[9], params=always).hits] == exact(ROWS[9])[:3]


def test_search_by_item_leaves_the_item_out(shared: RetrievalClient) -> None:
    """More like this: the neighbours of an item, without itself."""
    found = shared.search(item_id="pic/011", params=SearchParams(top_k=60))
    assert [hit.item_id for hit in found.hits] == exact(ROWS[11].astype(np.float16).astype(np.float32))[1:]


def test_search_applies_filters_before_ranking(shared: RetrievalClient) -> None:
    """A filter that few items match still fills the answer with those that do."""
    found = shared.search(ROWS[0], code=CODES[0], params=SearchParams(top_k=4, rerank=10, filter="number>=50"))
    assert [hit.item_id for hit in found.hits] == exact(ROWS[0], np.arange(60) >= 50)[:4]
    odd = shared.search(ROWS[0], code=CODES[0], params=SearchParams(top_k=60, filter="odd=true and style!=noto"))
    numbers = np.arange(60)
    assert [hit.item_id for hit in odd.hits] == exact(ROWS[0], (numbers % 2 == 1) & (numbers % 3 != 0))


def test_search_returns_the_fields_asked_for(shared: RetrievalClient) -> None:
    """None by default, all for `*`, else those named; a name that nothing has is left out."""

    def fields(*names: str) -> dict[str, object]:
        return shared.search(ROWS[1], params=SearchParams(top_k=1, return_fields=names)).hits[0].fields

    assert fields() == {}
    assert fields("*") == item(1).fields
    assert fields("style", "absent") == {"style": "fluent"}


def test_search_returns_fewer_when_fewer_exist(shared: RetrievalClient) -> None:
    """k beyond the number of items is no error."""
    assert len(shared.search(ROWS[0], code=CODES[0], params=SearchParams(top_k=1000)).hits) == 60


def test_equal_scores_come_by_item_id(client: RetrievalClient) -> None:
    """Ties are broken by id, at the cut too, whatever the order of writing."""
    names = [f"tie-{n:02d}" for n in range(20)]
    for name in reversed(names):
        client.upsert([Item(name, ROWS[0], CODES[0])])
    for params in (SearchParams(top_k=5), SearchParams(top_k=5, exact=True)):
        assert [hit.item_id for hit in client.search(ROWS[0], code=CODES[0], params=params).hits] == names[:5]


def test_search_of_an_empty_index_finds_nothing(client: RetrievalClient) -> None:
    """An index without items answers with no hits."""
    assert client.search(ROWS[0], code=CODES[0]).hits == ()
    assert client.search(ROWS[0]).hits == ()
    assert [result.hits for result in client.batch_search(ROWS[:3], codes=CODES[:3])] == [()] * 3


def test_batch_search_answers_each_query_in_order(shared: RetrievalClient) -> None:
    """A batch gives what its queries give one by one."""
    params = SearchParams(top_k=5, filter="style in noto, fluent")
    batch = shared.batch_search(ROWS[:8], codes=CODES[:8], params=params)
    for number, result in enumerate(batch):
        single = shared.search(ROWS[number], code=CODES[number], params=params)
        assert [hit.item_id for hit in result.hits] == [hit.item_id for hit in single.hits]


def vector(values: np.ndarray, **changes: object) -> types_pb2.Vector:
    message = wire.pack_vector(values)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


NAN = np.full(D, np.nan, np.float32)
GOOD = pb.Query(embedding=wire.pack_vector(ROWS[0]), code=wire.pack_code(CODES[0]))
TEN = pb.SearchParams(top_k=10)


def clause(**values: object) -> pb.Filter:
    return pb.Filter(all_of=[pb.Filter.Clause(**values)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (pb.SearchRequest(query=GOOD, params=TEN), errors.ArgumentInvalid, "index"),
        (pb.SearchRequest(index="absent", query=GOOD, params=TEN), errors.IndexNotFound, "index"),
        (pb.SearchRequest(index="default", params=TEN), errors.ArgumentInvalid, "query"),
        (pb.SearchRequest(index="default", query=GOOD), errors.ArgumentInvalid, "params.top_k"),
        (
            pb.SearchRequest(index="default", query=GOOD, params=pb.SearchParams(top_k=1001)),
            errors.ArgumentInvalid,
            "params.top_k",
        ),
        (
            pb.SearchRequest(index="default", query=GOOD, params=pb.SearchParams(top_k=1, rerank=10001)),
            errors.ArgumentInvalid,
            "params.rerank",
        ),
        (
            pb.SearchRequest(index="default", query=pb.Query(embedding=vector(NAN)), params=TEN),
            errors.VectorInvalid,
            "query.embedding",
        ),
        (
            pb.SearchRequest(index="default", query=pb.Query(embedding=vector(ROWS[0][:-1])), params=TEN),
            errors.VectorInvalid,
            "query.embedding",
        ),
        (
            pb.SearchRequest(index="default", query=pb.Query(embedding=vector(ROWS[0], dimension=D + 1)), params=TEN),
            errors.VectorInvalid,
            "query.embedding",
        ),
        (
            pb.SearchRequest(index="default", query=pb.Query(embedding=vector(ROWS[0], data_type=3)), params=TEN),
            errors.VectorInvalid,
            "query.embedding",
        ),
        (
            pb.SearchRequest(
                index="default", query=pb.Query(embedding=vector(ROWS[0]), code=vector(ROWS[0])), params=TEN
            ),
            errors.VectorInvalid,
            "query.code",
        ),
        (
            pb.SearchRequest(
                index="default",
                query=pb.Query(embedding=vector(ROWS[0]), code=wire.pack_code(np.zeros(16, np.uint8))),
                params=TEN,
            ),
            errors.VectorInvalid,
            "query.code",
        ),
        (
            pb.SearchRequest(
                index="default", query=pb.Query(item_id="pic/001", code=wire.pack_code(CODES[0])), params=TEN
            ),
            errors.ArgumentInvalid,
            "query.code",
        ),
        (
            pb.SearchRequest(index="default", query=pb.Query(item_id="absent"), params=TEN),
            errors.ItemNotFound,
            "query.item_id",
        ),
        (
            pb.SearchRequest(
                index="default",
                query=GOOD,
                params=pb.SearchParams(top_k=1, filter=clause(field="colour", op=pb.Filter.OP_EXISTS)),
            ),
            errors.FilterInvalid,
            "params.filter",
        ),
        (
            pb.SearchRequest(
                index="default", query=GOOD, params=pb.SearchParams(top_k=1, filter=clause(field="style"))
            ),
            errors.FilterInvalid,
            "params.filter.all_of[0].op",
        ),
        (
            pb.SearchRequest(
                index="default",
                query=GOOD,
                params=pb.SearchParams(
                    top_k=1, filter=clause(field="style", op=pb.Filter.OP_EQ, values=[types_pb2.Value()])
                ),
            ),
            errors.FilterInvalid,
            "params.filter.all_of[0].values",
        ),
    ],
)
def test_malformed_search_is_refused(
    shared: RetrievalClient, request_: pb.SearchRequest, error: type[errors.BowerbirdError], field: str
) -> None:
    """Each fault has its reason and names the field of the request."""
    with pytest.raises(error) as caught:
        shared.connection.call(shared.stub.Search, request_, service=shared.service)
    assert caught.value.field == field


def test_malformed_batch_search_is_refused(shared: RetrievalClient) -> None:
    """No queries, other numbers of codes and embeddings, and other shapes are errors of the call."""
    with pytest.raises(errors.ArgumentInvalid, match="expected 1 to 1024 queries, got 0"):
        shared.batch_search(ROWS[:0])
    with pytest.raises(errors.ArgumentInvalid, match="one a query"):
        shared.batch_search(ROWS[:3], codes=CODES[:2])
    with pytest.raises(errors.VectorInvalid):
        shared.batch_search(ROWS[:3, :8])


def test_read_your_writes_waits_for_the_sequence(client: RetrievalClient) -> None:
    """A search with min_sequence sees that write: it waits for it, and says so if it does not come in time."""
    assert client.upsert([item(0)]).sequence == 1
    assert client.search(ROWS[0], params=SearchParams(min_sequence=1)).sequence == 1
    started = time.monotonic()
    with pytest.raises(errors.SequenceNotReached, match="write 2 is not visible"):
        client.search(ROWS[0], params=SearchParams(min_sequence=2), timeout_s=0.3)
    assert time.monotonic() - started < 2
    writer = threading.Timer(0.2, client.upsert, ([item(1)],))
    writer.start()
    found = client.search(ROWS[1], params=SearchParams(min_sequence=2), timeout_s=10)
    writer.join()
    assert (found.sequence, found.hits[0].item_id) == (2, "pic/001")


# ------------------------------------------------------------------------------------------------------------- items


def test_item_comes_back_as_stored(shared: RetrievalClient) -> None:
    """Fields keep their types; vectors come on demand, the embedding as float16."""
    plain = shared.get_item("pic/004")
    assert (plain.embedding, plain.code) == (None, None)
    assert dict(plain.fields) == item(4).fields
    full = shared.get_item("pic/004", include_vectors=True)
    np.testing.assert_array_equal(full.embedding, ROWS[4].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(full.code, CODES[4])
    message = shared.stub.GetItem(pb.GetItemRequest(index="default", item_id="pic/004", include_vectors=True)).item
    assert message.embedding.data_type == types_pb2.DATA_TYPE_FLOAT16


def test_absent_item_is_not_found(shared: RetrievalClient) -> None:
    """An unknown id, and an unknown index, have their own reasons."""
    with pytest.raises(errors.ItemNotFound, match="'nothing'"):
        shared.get_item("nothing")
    with pytest.raises(errors.IndexNotFound, match="there is: default"):
        shared.get_item("pic/001", index="other")


def test_items_are_listed_by_id_in_pages(shared: RetrievalClient) -> None:
    """Pages of any size give every item once, in order; a filter selects."""
    assert [found.item_id for found in shared.list_items(page_size=7)] == [f"pic/{n:03d}" for n in range(60)]
    listed = list(shared.list_items(page_size=3, filter="style=openmoji"))
    assert [found.fields["number"] for found in listed] == list(range(2, 60, 3))
    assert listed[0].embedding is None


def test_page_size_is_coerced(client: RetrievalClient) -> None:
    """No page size means 100; more than 1000 means 1000."""
    for start in (0, 1000):
        client.upsert([Item(f"{start + n:05d}", ROWS[0], CODES[0]) for n in range(1000 if start == 0 else 5)])
    sizes = [
        len(client.stub.ListItems(pb.ListItemsRequest(index="default", page_size=size)).items) for size in (0, 5000)
    ]
    assert sizes == [100, 1000]


def test_pages_of_long_texts_fit_a_message(client: RetrievalClient) -> None:
    """A thousand items whose texts are larger than a message together come in several pages, each item once."""
    text = "x" * 30_000
    for start in range(0, 600, 200):
        items = [Item(f"{start + n:05d}", ROWS[0], CODES[0], {"text": text}) for n in range(200)]
        client.upsert(items)
    first = client.stub.ListItems(pb.ListItemsRequest(index="default", page_size=1000))
    assert first.next_page_token
    assert 4 * 2**20 < first.ByteSize() < 16 * 2**20
    assert [found.item_id for found in client.list_items(page_size=1000)] == [f"{n:05d}" for n in range(600)]


def test_page_token_fits_its_request_only(shared: RetrievalClient) -> None:
    """A token with another filter, a changed token, and noise are refused."""
    wanted = pb.Filter(all_of=[pb.Filter.Clause(field="style", op=pb.Filter.OP_EXISTS)])
    token = shared.stub.ListItems(pb.ListItemsRequest(index="default", page_size=5)).next_page_token
    assert token
    changed = ("A" if token[0] != "A" else "B") + token[1:]
    for request in (
        pb.ListItemsRequest(index="default", page_token=token, filter=wanted),
        pb.ListItemsRequest(index="default", page_token=changed),
        pb.ListItemsRequest(index="default", page_token="ünsinn"),
    ):
        with pytest.raises(errors.PageTokenInvalid):
            shared.connection.call(shared.stub.ListItems, request, service=shared.service)


def test_batch_answers_per_item(client: RetrievalClient) -> None:
    """Bad items are named with position and reason; the others are written."""
    client.upsert([Item("first", ROWS[0], CODES[0], {"number": 1})])
    huge = ROWS[0].copy()
    huge[0] = 1e6
    batch = [
        item(0),
        Item("nan", NAN, CODES[0]),
        Item("short", ROWS[0][:-1], CODES[0]),
        Item("no-code", ROWS[0]),
        Item("long-code", ROWS[0], np.zeros(16, np.uint8)),
        Item("no-vector", None, CODES[0]),
        Item("other-type", ROWS[0], CODES[0], {"number": "one"}),
        Item("x" * 513, ROWS[0], CODES[0]),
        Item("", ROWS[0], CODES[0]),
        Item("huge", huge, CODES[0]),
        Item("nan-field", ROWS[0], CODES[0], {"weight": float("nan")}),
        item(1),
    ]
    done = client.upsert(batch)
    assert (done.sequence, done.written) == (2, 2)
    assert {position: type(error) for position, error in done.errors.items()} == {
        1: errors.VectorInvalid,
        2: errors.VectorInvalid,
        3: errors.VectorInvalid,
        4: errors.VectorInvalid,
        5: errors.VectorInvalid,
        6: errors.FieldTypeMismatch,
        7: errors.ArgumentInvalid,
        8: errors.ArgumentInvalid,
        9: errors.VectorInvalid,
        10: errors.ArgumentInvalid,
    }
    assert [found.item_id for found in client.list_items()] == ["first", "pic/000", "pic/001"]


def test_batch_of_bad_items_writes_nothing(client: RetrievalClient) -> None:
    """When every item is at fault, the sequence stays."""
    done = client.upsert([Item("nan", NAN, CODES[0])])
    assert (done.sequence, done.written, len(done.errors)) == (0, 0, 1)


def test_last_of_equal_ids_is_stored(client: RetrievalClient) -> None:
    """Duplicates in a batch count once, and the last good one wins."""
    batch = [
        Item("same", ROWS[0], CODES[0], {"number": 1}),
        Item("same", ROWS[1], CODES[1], {"number": 2}),
        Item("same", NAN, CODES[0], {"number": 3}),
    ]
    done = client.upsert(batch)
    assert (done.written, list(done.errors)) == (1, [2])
    assert client.get_item("same").fields == {"number": 2}
    assert client.get_index().items == 1


def test_upsert_replaces_the_whole_item(client: RetrievalClient) -> None:
    """A second write of an id leaves nothing of the first, and repeating it changes nothing."""
    client.upsert([Item("a", ROWS[0], CODES[0], {"number": 1, "style": "noto"})])
    for _ in range(2):
        client.upsert([Item("a", ROWS[1], CODES[1], {"style": "fluent"})])
    assert client.get_item("a").fields == {"style": "fluent"}
    (hit,) = client.search(ROWS[1], code=CODES[1]).hits
    assert hit.score == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("count", [0, 1001])
def test_batch_size_is_limited(client: RetrievalClient, count: int) -> None:
    """A write has 1 to 1000 items."""
    with pytest.raises(errors.ArgumentInvalid, match=f"expected 1 to 1000, got {count}"):
        client.upsert([Item(f"{n}", ROWS[0], CODES[0]) for n in range(count)])


def test_item_without_value_in_a_field_is_named(client: RetrievalClient) -> None:
    """An empty Value is a fault of its item."""
    message = pb.Item(item_id="a", embedding=wire.pack_vector(ROWS[0]), code=wire.pack_code(CODES[0]))
    message.fields["empty"].CopyFrom(types_pb2.Value())
    answer = client.index_stub.UpsertItems(pb.UpsertItemsRequest(index="default", items=[message]))
    (error,) = answer.errors
    assert (error.index, error.reason, error.code) == (0, "ARGUMENT_INVALID", grpc.StatusCode.INVALID_ARGUMENT.value[0])


def test_first_write_binds_the_model(client: RetrievalClient) -> None:
    """Another model, or none, is then refused as a whole."""
    assert client.get_index().model.name == ""
    client.upsert([item(0)])
    client.upsert([item(1)], model=MODEL)
    assert client.get_index().model == MODEL
    for other in (ModelRef(MODEL.name, "ffffffffffff"), ModelRef("clip", MODEL.version), None):
        with pytest.raises(errors.ModelIndexMismatch, match="efficientnet-lite0@0123456789ab"):
            client.upsert([item(2)], model=other)
    assert client.get_index().items == 2


def test_delete_by_id_and_by_filter(client: RetrievalClient) -> None:
    """Deleted items are gone from every answer; absent ids are no error and no write."""
    client.upsert([item(n) for n in range(12)])
    done = client.delete(["pic/000", "pic/000", "absent"])
    assert (done.deleted, done.sequence) == (1, 2)
    done = client.delete(filter="style=noto or number>9")
    assert (done.deleted, done.sequence) == (5, 3)
    assert (client.delete(["absent"]).deleted, client.delete(["absent"]).sequence) == (0, 3)
    left = ["pic/001", "pic/002", "pic/004", "pic/005", "pic/007", "pic/008"]
    assert [found.item_id for found in client.list_items()] == left
    assert {hit.item_id for hit in client.search(ROWS[0], code=CODES[0]).hits} == set(left)
    assert client.get_index().items == 6
    with pytest.raises(errors.ItemNotFound):
        client.search(item_id="pic/000")


def test_delete_needs_ids_or_a_filter(client: RetrievalClient) -> None:
    """Neither, both, and a filter that would delete everything are refused."""
    client.upsert([item(0)])
    with pytest.raises(errors.ArgumentInvalid):
        client.delete()
    with pytest.raises(errors.ArgumentInvalid):
        client.delete(["pic/000"], filter="number=0")
    with pytest.raises(errors.ArgumentInvalid, match="matches every item"):
        client.delete(filter="")
    with pytest.raises(errors.FilterInvalid):
        client.delete(filter="colour=red")
    assert client.get_index().items == 1


# ----------------------------------------------------------------------------------------------------------- indexes


def test_index_is_described(shared: RetrievalClient) -> None:
    """Shape, model, counts, fields and the backend of the scan."""
    (found,) = shared.list_indexes()
    assert found == shared.get_index("default")
    assert (found.name, found.dimension, found.code_bits, found.model) == ("default", D, BITS, MODEL)
    assert (found.items, found.sequence, found.backend) == (60, 1, "native")
    assert found.fields == ("number", "odd", "style", "weight")
    assert abs(found.create_time.timestamp() - time.time()) < 600


def test_create_index_is_idempotent_for_the_same_shape(client: RetrievalClient) -> None:
    """The same again answers with the index; another shape or model is refused."""
    client.upsert([item(0)], model=MODEL)
    assert client.create_index(dimension=D, code_bits=BITS).items == 1
    assert client.create_index(dimension=D, code_bits=BITS, model=MODEL).items == 1
    for shape in ({"dimension": D + 1, "code_bits": BITS}, {"dimension": D, "code_bits": 128}):
        with pytest.raises(errors.IndexExists, match="dimension 32, 64 code bits"):
            client.create_index(**shape)
    with pytest.raises(errors.IndexExists):
        client.create_index(dimension=D, code_bits=BITS, model=ModelRef("clip", "1"))


@pytest.mark.parametrize(
    ("name", "dimension", "code_bits"),
    [
        ("", 8, 64),
        ("Upper", 8, 64),
        ("../up", 8, 64),
        ("a" * 64, 8, 64),
        ("ok", 0, 64),
        ("ok", 16385, 64),
        ("ok", 8, 63),
        ("ok", 8, 4160),
    ],
)
def test_index_that_cannot_be_is_refused(client: RetrievalClient, name: str, dimension: int, code_bits: int) -> None:
    """Names and shapes have limits."""
    with pytest.raises(errors.ArgumentInvalid):
        client.create_index(name, dimension=dimension, code_bits=code_bits)


def test_index_without_codes_searches_exactly(client: RetrievalClient) -> None:
    """With code_bits 0 items have no codes and every search scores every row."""
    client.create_index("plain", dimension=D, code_bits=0)
    client.upsert([Item(f"pic/{n:03d}", ROWS[n]) for n in range(60)], index="plain")
    found = client.search(ROWS[3], index="plain", params=SearchParams(top_k=5, rerank=5))
    assert [hit.item_id for hit in found.hits] == exact(ROWS[3])[:5]
    assert len(client.search(item_id="pic/000", index="plain").hits) == 10
    assert not client.get_item("pic/000", index="plain", include_vectors=True).code
    with pytest.raises(errors.VectorInvalid, match="no codes"):
        client.search(ROWS[3], code=CODES[3], index="plain")
    assert isinstance(client.upsert([item(0)], index="plain").errors[0], errors.VectorInvalid)


def test_deleted_index_is_gone(client: RetrievalClient) -> None:
    """Its items do not come back with a new index of the name."""
    client.upsert([item(0)], model=MODEL)
    client.delete_index("default")
    for call in (client.get_index, lambda: client.search(ROWS[0]), lambda: client.upsert([item(0)])):
        with pytest.raises(errors.IndexNotFound):
            call()
    with pytest.raises(errors.IndexNotFound):
        client.delete_index("default")
    fresh = client.create_index(dimension=8, code_bits=0)
    assert (fresh.items, fresh.sequence, fresh.model.name) == (0, 0, "")


# ------------------------------------------------------------------------------------------------------- replacement


def make_successor(client: RetrievalClient) -> tuple[clients.Index, clients.Index]:
    """The default index with 20 items, and `next` with 10 others of another model."""
    client.upsert([item(n) for n in range(20)], model=MODEL)
    client.create_index("next", dimension=16, code_bits=128)
    rows, codes = np.ascontiguousarray(ROWS[:, :16]), np.repeat(CODES, 2, axis=1)
    client.upsert([Item(f"new/{n}", rows[n], codes[n]) for n in range(10)], index="next", model=ModelRef("vit", "f00"))
    return client.get_index(), client.get_index("next")


def test_an_index_takes_the_place_of_another(client: RetrievalClient, tmp_path: Path) -> None:
    """Name, searches, writes, files and a restart go with the successor; its own name is free again."""
    old, successor = make_successor(client)

    replaced = client.replace_index("default", "next", sequence=old.sequence)

    assert (replaced.name, replaced.model, replaced.dimension, replaced.items) == ("default", successor.model, 16, 10)
    assert replaced.sequence > old.sequence
    assert [index.name for index in client.list_indexes()] == ["default"]
    assert [found.item_id for found in client.list_items()] == [f"new/{n}" for n in range(10)]
    params = SearchParams(top_k=1, min_sequence=old.sequence)  # the token of a write to the old index
    assert client.search(item_id="new/3", params=params).info.models == (successor.model,)
    with pytest.raises(errors.ModelIndexMismatch):
        client.upsert([Item("late", ROWS[0, :16], np.repeat(CODES[0], 2))], model=MODEL)
    written = client.upsert([Item("late", ROWS[0, :16], np.repeat(CODES[0], 2))], model=successor.model)
    assert written.sequence == replaced.sequence + 1
    assert [path.name for path in (tmp_path / "data" / "indexes").iterdir()] == ["default"]
    snapshot = client.create_snapshot()
    assert client.restore_snapshot(snapshot.snapshot_id, "next").items == 11


def test_a_replacement_never_loses_a_write(client: RetrievalClient) -> None:
    """If the index was written to since its successor was made from it, nothing is done; both go on."""
    old, _ = make_successor(client)
    client.upsert([item(30)], model=MODEL)

    with pytest.raises(errors.IndexChanged, match="newest write is 2, expected 1"):
        client.replace_index("default", "next", sequence=old.sequence)

    assert (client.get_index().items, client.get_index("next").items) == (21, 10)
    client.upsert([item(31)], model=MODEL)
    client.upsert([Item("more", ROWS[0, :16], np.repeat(CODES[0], 2))], index="next", model=ModelRef("vit", "f00"))


def test_a_replacement_needs_two_indexes(client: RetrievalClient) -> None:
    """Names that are missing, unknown or equal are refused, and nothing is deleted."""
    for name, by in [("default", "absent"), ("absent", "default")]:
        with pytest.raises(errors.IndexNotFound):
            client.replace_index(name, by, sequence=0)
    for name, by in [("default", "default"), ("", "default"), ("default", "")]:
        with pytest.raises(grpc.RpcError) as refused:
            client.admin_stub.ReplaceIndex(pb.ReplaceIndexRequest(name=name, by=by))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert client.upsert([item(0)]).written == 1


def test_searches_go_on_while_an_index_is_replaced(client: RetrievalClient) -> None:
    """No search falls between the two."""
    old, successor = make_successor(client)
    stop, seen = threading.Event(), set[ModelRef]()
    faults: list[BaseException] = []

    def search() -> None:
        while not stop.is_set():
            try:
                query = client.get_index()
                seen.update(client.search(np.eye(1, query.dimension, dtype=np.float32)[0]).info.models)
            except errors.VectorInvalid:
                continue  # the index changed between the two calls of this loop
            except BaseException as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    client.replace_index("default", "next", sequence=old.sequence)
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(10)

    assert not faults
    assert seen == {MODEL, successor.model}


# --------------------------------------------------------------------------------------------------------- snapshots


def test_snapshot_restores_beside_the_live_index(client: RetrievalClient) -> None:
    """What was there when the snapshot began comes back under another name; the live index goes on."""
    client.upsert([item(n) for n in range(20)], model=MODEL)
    seen: list[float] = []
    snapshot = client.create_snapshot(on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert (snapshot.index, snapshot.sequence, snapshot.items) == ("default", 1, 20)
    assert len(snapshot.sha256) == 64
    client.delete(filter="number<10")
    restored = client.restore_snapshot(snapshot.snapshot_id, "yesterday", on_progress=seen.append)
    assert (restored.name, restored.items, restored.model, restored.sequence) == ("yesterday", 20, MODEL, 1)
    found = client.search(ROWS[2], code=CODES[2], index="yesterday")
    assert found.hits[0].item_id == "pic/002"
    assert client.get_index().items == 10
    client.upsert([item(30)], index="yesterday", model=MODEL)
    assert client.get_index().items == 10


def test_snapshots_are_listed_and_deleted(client: RetrievalClient) -> None:
    """Newest first, of one index or all; they outlive their index."""
    client.create_index("other", dimension=8, code_bits=0)
    first, second = client.create_snapshot(), client.create_snapshot()
    third = client.create_snapshot("other")
    assert [found.snapshot_id for found in client.list_snapshots("default")] == [
        second.snapshot_id,
        first.snapshot_id,
    ]
    client.delete_index("other")
    assert {found.snapshot_id for found in client.list_snapshots()} == {
        first.snapshot_id,
        second.snapshot_id,
        third.snapshot_id,
    }
    client.delete_snapshot(first.snapshot_id)
    assert len(client.list_snapshots()) == 2
    with pytest.raises(errors.SnapshotNotFound):
        client.delete_snapshot(first.snapshot_id)


def test_snapshot_calls_refuse_what_is_not_there(client: RetrievalClient) -> None:
    """Unknown indexes and snapshots, taken names, and paths in place of ids."""
    snapshot = client.create_snapshot()
    with pytest.raises(errors.IndexNotFound):
        client.create_snapshot("absent")
    with pytest.raises(errors.IndexExists):
        client.restore_snapshot(snapshot.snapshot_id, "default")
    with pytest.raises(errors.ArgumentInvalid):
        client.restore_snapshot(snapshot.snapshot_id, "Not/A/Name")
    for name in ("absent", "../snapshots/" + snapshot.snapshot_id, "..", "."):
        with pytest.raises(errors.SnapshotNotFound):
            client.restore_snapshot(name, "copy")
        with pytest.raises(errors.SnapshotNotFound):
            client.delete_snapshot(name)
    assert [found.name for found in client.list_indexes()] == ["default"]


def test_damaged_snapshot_is_refused(client: RetrievalClient, tmp_path: Path) -> None:
    """A flipped byte, and a damaged description, are named; nothing is left behind."""
    client.upsert([item(n) for n in range(20)])
    snapshot = client.create_snapshot()
    directory = tmp_path / "data" / "snapshots" / snapshot.snapshot_id
    raw = (directory / "items.db").read_bytes()
    (directory / "items.db").write_bytes(raw[:9999] + bytes([raw[9999] ^ 1]) + raw[10000:])
    with pytest.raises(errors.SnapshotCorrupt, match=r"items\.db"):
        client.restore_snapshot(snapshot.snapshot_id, "copy")
    (directory / "items.db").write_bytes(raw)
    (directory / "snapshot.json").write_text("{")
    with pytest.raises(errors.SnapshotCorrupt, match=r"snapshot\.json"):
        client.restore_snapshot(snapshot.snapshot_id, "copy")
    assert [found.name for found in client.list_indexes()] == ["default"]
    assert [path.name for path in (tmp_path / "data" / "indexes").iterdir()] == ["default"]


def test_cancelled_snapshot_leaves_nothing(client: RetrievalClient, tmp_path: Path) -> None:
    """A caller who goes away ends the work, and no part of a snapshot stays."""
    for start in range(0, 8000, 1000):
        client.upsert([Item(f"{start + n}", ROWS[0], CODES[0], {"text": "x" * 8000}) for n in range(1000)])
    stream = client.admin_stub.CreateSnapshot(pb.CreateSnapshotRequest(index="default"))
    next(stream)
    stream.cancel()
    for _ in range(200):
        left = list((tmp_path / "data" / "snapshots").iterdir())
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    assert client.list_snapshots() == []
    assert client.create_snapshot().items == 8000


# --------------------------------------------------------------------------------------------------------- the wire


def test_life_of_an_index_at_the_wire(client: RetrievalClient) -> None:
    """Every call of the contract, message by message, as a client in another language makes it."""
    read, write, admin = client.stub, client.index_stub, client.admin_stub
    model = types_pb2.ModelRef(name="m", version="1")
    created = admin.CreateIndex(pb.CreateIndexRequest(name="wire", dimension=D, code_bits=BITS, model=model)).index
    assert (created.name, created.model, created.items, created.backend) == ("wire", model, 0, "native")
    items = [
        pb.Item(
            item_id=f"pic/{n:03d}",
            embedding=wire.pack_vector(ROWS[n].astype(np.float16) if n % 2 else ROWS[n]),
            code=wire.pack_code(CODES[n]),
            fields={"number": types_pb2.Value(int_value=n)},
        )
        for n in range(20)
    ]
    upserted = write.UpsertItems(pb.UpsertItemsRequest(index="wire", items=items, model=model))
    assert (upserted.sequence, upserted.written, len(upserted.errors)) == (1, 20, 0)
    found = read.Search(pb.SearchRequest(index="wire", query=GOOD, params=pb.SearchParams(top_k=2, min_sequence=1)))
    assert found.hits[0].item_id == "pic/000"
    assert (found.sequence, list(found.info.models)) == (1, [model])
    batch = pb.BatchSearchRequest(index="wire", embeddings=wire.pack_vectors(ROWS[:2]), params=pb.SearchParams(top_k=1))
    answers = read.BatchSearch(batch)
    assert [result.hits[0].item_id for result in answers.results] == ["pic/000", "pic/001"]
    stored = read.GetItem(pb.GetItemRequest(index="wire", item_id="pic/001", include_vectors=True)).item
    assert stored == items[1]
    page = read.ListItems(pb.ListItemsRequest(index="wire", page_size=15))
    rest = read.ListItems(pb.ListItemsRequest(index="wire", page_size=15, page_token=page.next_page_token))
    assert (len(page.items), len(rest.items), rest.next_page_token) == (15, 5, "")
    *steps, last = admin.CreateSnapshot(pb.CreateSnapshotRequest(index="wire"))
    assert all(not step.HasField("snapshot") and 0 <= step.progress <= 1 for step in steps)
    assert (last.progress, last.snapshot.items, last.snapshot.index) == (1.0, 20, "wire")
    deleted = write.DeleteItems(pb.DeleteItemsRequest(index="wire", item_ids=["pic/000"]))
    assert (deleted.sequence, deleted.deleted) == (2, 1)
    assert read.GetIndex(pb.GetIndexRequest(name="wire")).index.items == 19
    assert [index.name for index in read.ListIndexes(pb.ListIndexesRequest()).indexes] == ["default", "wire"]
    listed = admin.ListSnapshots(pb.ListSnapshotsRequest(index="wire")).snapshots
    assert list(listed) == [last.snapshot]
    request = pb.RestoreSnapshotRequest(snapshot_id=last.snapshot.snapshot_id, target_index="again")
    *steps, restored = admin.RestoreSnapshot(request)
    assert all(not step.HasField("index") for step in steps)
    assert (restored.progress, restored.index.items, restored.index.sequence) == (1.0, 20, 1)
    admin.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=last.snapshot.snapshot_id))
    admin.DeleteIndex(pb.DeleteIndexRequest(name="again"))
    assert [index.name for index in read.ListIndexes(pb.ListIndexesRequest()).indexes] == ["default", "wire"]
