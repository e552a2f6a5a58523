"""Typed clients: values in and out, errors rebuilt, deadlines and ids passed on, servers that come and go."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import grpc
import numpy as np
import pytest

from bowerbird import errors, telemetry
from bowerbird.boxes import Region
from bowerbird.rpc import clients, context, wire
from bowerbird.rpc.clients import DetectorClient, ModelRef, RetrievalClient, SearchParams, connect, service_config
from bowerbird.rpc.server import Method, Server, ServerConfig, Service
from bowerbird.testing import run_server
from bowerbird.v1 import (
    detector_pb2,
    detector_pb2_grpc,
    discovery_pb2,
    discovery_pb2_grpc,
    embedder_pb2,
    embedder_pb2_grpc,
    retrieval_pb2,
    retrieval_pb2_grpc,
    types_pb2,
)
from tests.contract.rpc_probe import Failed, answer, call, probe_service

ANY = Method(default_deadline_s=5.0, max_deadline_s=20.0, role="read")


def echo_service(module: Any, grpc_module: Any, name: str, answers: dict[str, Any], seen: dict[str, Any]) -> Service:
    """A service that keeps every request and gives the answer that the test prepared (a list is streamed)."""

    def handler(method: str) -> Any:
        def handle(_self: object, request: Any, _context: grpc.ServicerContext) -> Any:
            seen[method] = request
            prepared = answers[method]
            return iter(prepared) if isinstance(prepared, list) else prepared

        return handle

    names = [method.name for method in module.DESCRIPTOR.services_by_name[name].methods]
    servicer = type("Echo", (getattr(grpc_module, f"{name}Servicer"),), {method: handler(method) for method in names})()
    register = getattr(grpc_module, f"add_{name}Servicer_to_server")
    return Service(f"bowerbird.v1.{name}", servicer, register, dict.fromkeys(names, ANY))


VECTOR = np.array([0.6, 0.8], np.float32)
CODE = np.arange(8, dtype=np.uint8)
INFO = wire.response_info([("infer", 0.25)], [("m", "abc")])
HIT = retrieval_pb2.Hit(item_id="a", score=0.5, fields=wire.pack_fields({"n": 1, "t": "x", "f": 0.5, "b": True}))
HIT_FIELDS = {"n": 1, "t": "x", "f": 0.5, "b": True}
FOUND = detector_pb2.Detection(region=types_pb2.Region(x_max=0.5, y_max=1), label="cat", score=0.75)
INDEX = retrieval_pb2.Index(name="i", dimension=2, code_bits=64, items=3, sequence=9, backend="native", fields=["n"])
SNAPSHOT = retrieval_pb2.Snapshot(snapshot_id="s1", index="i", items=3, size_bytes=10, sha256="ff")
SNAPSHOT.create_time.FromSeconds(1_700_000_000)


# ---------------------------------------------------------------------------------------------- values in and out


def test_the_detector_speaks_plain_values() -> None:
    """Regions, labels and per-picture errors come as domain values."""
    good = detector_pb2.DetectResponse(info=INFO, detections=[FOUND], image_width=4, image_height=3)
    bad = wire.pack_item_error(1, errors.ImageDecodeFailed("no picture"))
    results = [
        detector_pb2.BatchDetectResponse.Result(response=good),
        detector_pb2.BatchDetectResponse.Result(error=bad),
    ]
    seen: dict[str, Any] = {}
    answers = {
        "Detect": good,
        "BatchDetect": detector_pb2.BatchDetectResponse(results=results),
        "GetModel": detector_pb2.DetectorServiceGetModelResponse(
            model=types_pb2.ModelRef(name="m", version="abc"), labels=["cat"], max_batch_size=8, backend="b"
        ),
    }

    service = echo_service(detector_pb2, detector_pb2_grpc, "DetectorService", answers, seen)
    with run_server([service]) as (target, _), connect(target) as connection:
        client = DetectorClient(connection)
        detections = client.detect(b"jpeg", max_detections=5, min_score=0.5, labels=["cat"])
        batch = client.batch_detect([b"one", b"two"])
        model = client.get_model("m")
    assert detections.detections == (clients.Detection(Region(0, 0, 0.5, 1), "cat", 0.75),)
    assert (detections.width, detections.height) == (4, 3)
    assert detections.info == clients.Info((("infer", 0.25),), (ModelRef("m", "abc"),))
    assert seen["Detect"].options.max_detections == 5
    assert seen["Detect"].options.min_score == 0.5
    assert batch[0] == detections
    assert type(batch[1]) is errors.ImageDecodeFailed
    assert (model.model, model.labels, model.max_batch_size) == (ModelRef("m", "abc"), ("cat",), 8)


def test_the_embedder_speaks_arrays() -> None:
    """Vectors and codes are arrays; failed inputs are errors by position."""
    batch = embedder_pb2.BatchEmbedResponse(
        embeddings=wire.pack_vectors(np.stack([VECTOR, 0 * VECTOR])),
        codes=wire.pack_codes(np.stack([CODE, CODE])),
        errors=[wire.pack_item_error(1, errors.ImageTooLarge("too large"))],
    )
    single = embedder_pb2.EmbedResponse(info=INFO, embedding=wire.pack_vector(VECTOR), code=wire.pack_code(CODE))
    model = embedder_pb2.EmbedderServiceGetModelResponse(dimension=2, code_bits=64)
    seen: dict[str, Any] = {}
    answers = {"Embed": single, "BatchEmbed": batch, "GetModel": model}
    service = echo_service(embedder_pb2, embedder_pb2_grpc, "EmbedderService", answers, seen)
    with run_server([service]) as (target, _), connect(target) as connection:
        client = clients.EmbedderClient(connection)
        embedding = client.embed(b"jpeg", Region(0, 0, 0.5, 1))
        embeddings = client.batch_embed([b"one", (b"two", Region(0, 0, 1, 0.5))], half=True)
        assert client.get_model().code_bits == 64
    np.testing.assert_array_equal(embedding.embedding, VECTOR)
    np.testing.assert_array_equal(embedding.code, CODE)
    assert seen["Embed"].input.region.x_max == 0.5
    assert seen["BatchEmbed"].data_type == types_pb2.DATA_TYPE_FLOAT16
    assert not seen["BatchEmbed"].inputs[0].HasField("region")
    assert seen["BatchEmbed"].inputs[1].region.y_max == 0.5
    assert embeddings.embeddings.shape == (2, 2)
    assert {index: type(error) for index, error in embeddings.errors.items()} == {1: errors.ImageTooLarge}


@pytest.fixture
def retrieval() -> Iterator[tuple[RetrievalClient, dict[str, Any], dict[str, Any]]]:
    """(client, answers by method, requests by method) of the three services of retrieval."""
    answers: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    services = [
        echo_service(retrieval_pb2, retrieval_pb2_grpc, name, answers, seen)
        for name in ("RetrievalService", "IndexService", "IndexAdminService")
    ]
    with run_server(services) as (target, _), connect(target) as connection:
        yield RetrievalClient(connection), answers, seen


def test_search_takes_arrays_and_gives_hits(retrieval: tuple[RetrievalClient, dict[str, Any], dict[str, Any]]) -> None:
    """Parameters travel, filters may be text, and fields keep their types."""
    client, answers, seen = retrieval
    answers["Search"] = retrieval_pb2.SearchResponse(info=INFO, hits=[HIT], sequence=7)
    params = SearchParams(top_k=3, filter="n>=1", return_fields=("n",), exact=True, rerank=5, min_sequence=6)
    result = client.search(VECTOR, code=CODE, index="i", params=params)
    assert result.hits == (clients.Hit("a", 0.5, HIT_FIELDS),)
    assert [type(value) for value in result.hits[0].fields.values()].count(bool) == 1
    assert result.sequence == 7
    request = seen["Search"]
    assert (request.index, request.params.top_k, request.params.rerank, request.params.min_sequence) == ("i", 3, 5, 6)
    assert request.params.filter == clients.parse_filter("n>=1")
    assert request.query.WhichOneof("source") == "embedding"
    client.search(item_id="a")
    assert seen["Search"].query.item_id == "a"
    answers["BatchSearch"] = retrieval_pb2.BatchSearchResponse(
        results=[retrieval_pb2.BatchSearchResponse.Result(hits=[HIT]), retrieval_pb2.BatchSearchResponse.Result()]
    )
    results = client.batch_search(np.stack([VECTOR, VECTOR]), codes=np.stack([CODE, CODE]))
    assert [len(result.hits) for result in results] == [1, 0]
    assert (seen["BatchSearch"].embeddings.count, seen["BatchSearch"].codes.dimension) == (2, 64)


def test_items_are_listed_page_by_page(retrieval: tuple[RetrievalClient, dict[str, Any], dict[str, Any]]) -> None:
    """The iterator follows the page tokens and ends; an item keeps its vectors when asked for."""
    client, answers, seen = retrieval
    answers["ListItems"] = retrieval_pb2.ListItemsResponse(items=[retrieval_pb2.Item(item_id="a")], next_page_token="t")
    listing = client.list_items(filter="n=1", page_size=1)
    assert next(listing).item_id == "a"
    answers["ListItems"] = retrieval_pb2.ListItemsResponse(items=[retrieval_pb2.Item(item_id="b")])
    assert [item.item_id for item in listing] == ["b"]
    assert (seen["ListItems"].page_token, seen["ListItems"].page_size) == ("t", 1)
    stored = retrieval_pb2.Item(item_id="a", embedding=wire.pack_vector(VECTOR), code=wire.pack_code(CODE))
    answers["GetItem"] = retrieval_pb2.GetItemResponse(item=stored)
    item = client.get_item("a", include_vectors=True)
    np.testing.assert_array_equal(item.embedding, VECTOR)
    np.testing.assert_array_equal(item.code, CODE)


def test_writes_travel_and_report_per_item(retrieval: tuple[RetrievalClient, dict[str, Any], dict[str, Any]]) -> None:
    """float16 stays float16, fields and model travel, and errors come back by position."""
    client, answers, seen = retrieval
    failed = wire.pack_item_error(0, errors.FieldTypeMismatch("n is an integer"))
    answers["UpsertItems"] = retrieval_pb2.UpsertItemsResponse(sequence=4, written=1, errors=[failed])
    items = [clients.Item("a", VECTOR.astype(np.float16), CODE, {"n": 1}), clients.Item("b", VECTOR)]
    written = client.upsert(items, model=ModelRef("m", "abc"))
    assert (written.sequence, written.written, type(written.errors[0])) == (4, 1, errors.FieldTypeMismatch)
    request = seen["UpsertItems"]
    assert request.items[0].embedding.data_type == types_pb2.DATA_TYPE_FLOAT16
    assert not request.items[1].HasField("code")
    assert (request.model.version, request.items[0].fields["n"].int_value) == ("abc", 1)
    answers["DeleteItems"] = retrieval_pb2.DeleteItemsResponse(sequence=5, deleted=2)
    assert client.delete(["a", "b"]) == clients.Deleted(5, 2)
    assert list(seen["DeleteItems"].item_ids) == ["a", "b"]


def test_indexes_and_snapshots(retrieval: tuple[RetrievalClient, dict[str, Any], dict[str, Any]]) -> None:
    """The control plane: indexes as values, long work with its progress."""
    client, answers, seen = retrieval
    answers["CreateIndex"] = retrieval_pb2.CreateIndexResponse(index=INDEX)
    answers["GetIndex"] = retrieval_pb2.GetIndexResponse(index=INDEX)
    answers["ListIndexes"] = retrieval_pb2.ListIndexesResponse(indexes=[INDEX])
    answers["DeleteIndex"] = retrieval_pb2.DeleteIndexResponse()
    index = client.create_index("i", dimension=2, code_bits=64, model=ModelRef("m", "abc"))
    assert (index.name, index.items, index.fields, index.create_time.tzinfo is not None) == ("i", 3, ("n",), True)
    assert client.get_index("i") == index
    assert client.list_indexes() == [index]
    client.delete_index("i")
    assert seen["DeleteIndex"].name == "i"
    response = retrieval_pb2.CreateSnapshotResponse
    answers["CreateSnapshot"] = [response(progress=0.5), response(progress=1.0, snapshot=SNAPSHOT)]
    progress: list[float] = []
    snapshot = client.create_snapshot("i", on_progress=progress.append)
    assert (snapshot.snapshot_id, snapshot.create_time.year, progress) == ("s1", 2023, [0.5, 1.0])
    answers["RestoreSnapshot"] = [retrieval_pb2.RestoreSnapshotResponse(progress=1.0, index=INDEX)]
    assert client.restore_snapshot("s1", "i") == index
    answers["ListSnapshots"] = retrieval_pb2.ListSnapshotsResponse(snapshots=[SNAPSHOT])
    assert client.list_snapshots() == [snapshot]
    answers["DeleteSnapshot"] = retrieval_pb2.DeleteSnapshotResponse()
    client.delete_snapshot("s1")
    answers["CreateSnapshot"] = []
    with pytest.raises(errors.Internal, match="without an answer"):
        client.create_snapshot("i")


def test_discovery_takes_pictures_or_tokens() -> None:
    """Bytes travel as a picture, text as the token of one."""
    seen: dict[str, Any] = {}
    answers = {
        "AnalyzeImage": discovery_pb2.AnalyzeImageResponse(regions=[FOUND], image_token="t", image_width=4),
        "SearchByImage": discovery_pb2.SearchByImageResponse(hits=[HIT], regions=[FOUND], image_token="t"),
        "SearchByRegion": discovery_pb2.SearchByRegionResponse(hits=[HIT], image_token="t"),
        "SearchByItem": discovery_pb2.SearchByItemResponse(hits=[HIT]),
    }
    service = echo_service(discovery_pb2, discovery_pb2_grpc, "DiscoveryService", answers, seen)
    with run_server([service]) as (target, _), connect(target) as connection:
        client = clients.DiscoveryClient(connection)
        analysis = client.analyze_image(b"jpeg", max_detections=3)
        by_image = client.search_by_image(b"jpeg", detect_regions=True)
        by_region = client.search_by_region("t", Region(0, 0, 0.5, 0.5), params=SearchParams(top_k=2))
        by_item = client.search_by_item("a", index="i")
        with pytest.raises(errors.ArgumentInvalid, match="got int"):
            client.search_by_image(3)  # type: ignore[arg-type]
    assert (analysis.image_token, analysis.width, analysis.regions[0].label) == ("t", 4, "cat")
    assert seen["SearchByImage"].source.image.data == b"jpeg"
    assert (by_image.image_token, by_image.regions, by_image.hits[0].fields) == ("t", analysis.regions, HIT_FIELDS)
    assert seen["SearchByRegion"].source.image_token == "t"
    assert (seen["SearchByRegion"].params.top_k, by_region.hits) == (2, by_image.hits)
    assert (seen["SearchByItem"].item_id, by_item.hits) == ("a", by_image.hits)


# ------------------------------------------------------------------------------------------------- failing calls


def test_errors_of_the_server_are_raised_as_they_were() -> None:
    """Class, message and field survive the trip through the typed client."""

    def detect(_request: Any, _context: grpc.ServicerContext) -> Any:
        raise errors.RegionOutOfRange("inverted", field="region")

    with (
        run_server([probe_service(detect)]) as (target, _),
        connect(target) as connection,
        pytest.raises(errors.RegionOutOfRange, match="inverted") as caught,
    ):
        DetectorClient(connection).detect(b"")
    assert caught.value.field == "region"


def test_no_server_fails_soon_and_says_so() -> None:
    """Nothing listens: the error names the address within a second, in spite of retries."""
    start = time.monotonic()
    with connect("127.0.0.1:9") as connection, pytest.raises(errors.DependencyDown, match=r"127\.0\.0\.1:9 "):
        DetectorClient(connection).detect(b"")
    assert time.monotonic() - start < 3
    with connect("127.0.0.1:9") as connection, pytest.raises(errors.DependencyDown, match="is the server running"):
        connection.wait_ready(0.2)
    with connect("127.0.0.1:9") as connection, pytest.raises(errors.DependencyDown):
        connection.health()


def test_a_server_that_is_slow_to_greet_is_waited_for() -> None:
    """On a busy server or a long line the connection itself takes a while; the call goes through all the same."""
    with run_server([probe_service()]) as (target, _), socket.create_server(("127.0.0.1", 0)) as listener:

        def forward_late() -> None:
            incoming, _address = listener.accept()
            host, _, port = target.rpartition(":")
            with incoming, socket.create_connection((host, int(port))) as outgoing:
                time.sleep(0.5)
                back = threading.Thread(target=pump, args=(outgoing, incoming))
                back.start()
                pump(incoming, outgoing)
                back.join(5)

        line = threading.Thread(target=forward_late)
        line.start()
        with connect(f"127.0.0.1:{listener.getsockname()[1]}") as connection:
            assert DetectorClient(connection).detect(b"picture", timeout_s=10).width == 1
        line.join(5)
        assert not line.is_alive()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until the source ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def test_calls_time_out_by_themselves() -> None:
    """A server that never answers costs the client its own timeout, not forever."""
    release = threading.Event()
    service = probe_service(lambda request, context: release.wait(10) and answer(request, context))
    with run_server([service]) as (target, _), connect(target, timeout_s=0.2) as connection:
        with pytest.raises(errors.DeadlineExceeded, match="allow more time"):
            DetectorClient(connection).detect(b"")
        with pytest.raises(errors.DeadlineExceeded):
            DetectorClient(connection).detect(b"", timeout_s=-1)
        release.set()


def test_another_service_at_the_address_is_recognised() -> None:
    """Calling a server that lacks the method says that it may be another service."""
    with (
        run_server([probe_service()]) as (target, _),
        connect(target) as connection,
        pytest.raises(errors.FailedPrecondition, match="another service"),
    ):
        clients.EmbedderClient(connection).embed(b"")


def test_a_message_over_the_limit_is_an_argument_error() -> None:
    """Too large for us or too large for the server: either way the caller must send less."""
    with run_server([probe_service()], max_message_bytes=10_000) as (target, _):
        for limit in (10_000, 10**6):
            with (
                connect(target, max_message_bytes=limit) as connection,
                pytest.raises(errors.ArgumentInvalid, match="send less"),
            ):
                DetectorClient(connection).detect(bytes(20_000))


def test_health_by_name() -> None:
    """The connection answers whether a name is serving; an unknown one is not."""
    with run_server([probe_service()]) as (target, _), connect(target) as connection:
        connection.wait_ready(5)
        assert connection.health()
        assert connection.health("liveness")
        assert not connection.health("bowerbird.v1.NoService")


# ------------------------------------------------------------------------------------------- calls inside a call


def test_deadline_and_request_id_are_passed_on() -> None:
    """A call made while answering another has less time than is left of it, and the same id."""
    inner_seen: list[tuple[str, float]] = []

    def inner(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        own = context.current()
        inner_seen.append((own.request_id, own.remaining_s()))
        return answer(request, servicer_context)

    with run_server([probe_service(inner)]) as (inner_target, _), connect(inner_target) as connection:
        client = DetectorClient(connection)

        def outer(request: Any, servicer_context: grpc.ServicerContext) -> Any:
            client.detect(b"")
            threading.Thread(target=copy_context().run, args=(client.detect, b"")).run()
            return answer(request, servicer_context)

        with run_server([probe_service(outer)]) as (target, _):
            call(target, timeout=2.0, metadata=(("x-request-id", "trip-1"),))
    assert [request_id for request_id, _ in inner_seen] == ["trip-1", "trip-1"]
    assert all(1.0 < remaining < 2.0 for _, remaining in inner_seen)


def test_a_call_with_no_time_left_is_not_made() -> None:
    """When the outer deadline has passed, the inner server is not bothered."""
    calls: list[object] = []

    def inner(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        calls.append(request)
        return answer(request, servicer_context)

    with run_server([probe_service(inner)]) as (inner_target, _), connect(inner_target) as connection:

        def outer(request: Any, servicer_context: grpc.ServicerContext) -> Any:
            time.sleep(context.current().remaining_s())
            return DetectorClient(connection).detect(b"")

        with run_server([probe_service(outer, max_s=0.05)]) as (target, _), pytest.raises(Failed) as caught:
            call(target)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert calls == []


def test_cancelling_the_outer_call_cancels_the_inner() -> None:
    """A caller that leaves frees the whole chain behind it."""
    inner_began, inner_gone = threading.Event(), threading.Event()

    def inner(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        own = context.current()
        own.on_end(inner_gone.set)
        inner_began.set()
        assert inner_gone.wait(10)
        own.raise_if_over()

    with run_server([probe_service(inner)]) as (inner_target, _), connect(inner_target) as connection:
        client = DetectorClient(connection)
        with run_server([probe_service(lambda request, _: client.detect(b""))]) as (target, server):
            channel = grpc.insecure_channel(target)

            future = detector_pb2_grpc.DetectorServiceStub(channel).Detect.future(
                detector_pb2.DetectRequest(), timeout=10
            )
            assert inner_began.wait(5)
            future.cancel()
            assert inner_gone.wait(2)
            end = time.monotonic() + 5
            while server.in_flight and time.monotonic() < end:
                time.sleep(0.01)
            assert server.in_flight == 0
            channel.close()


def test_outbound_calls_are_measured() -> None:
    """The time of a call is counted under service, target and code."""
    with run_server([probe_service()]) as (target, _), connect(target) as connection:
        DetectorClient(connection).detect(b"")
        labels = {"service": DetectorClient.service, "target": target, "grpc_code": "OK"}
        assert telemetry.REGISTRY.get_sample_value("bowerbird_client_seconds_count", labels) == 1


# ------------------------------------------------------------------------------------------ servers come and go


def test_the_shipped_service_config_covers_every_service() -> None:
    """Every service of the contract has a retry policy; only streams of long work are never repeated."""
    config = json.loads(service_config())
    names = {name["service"] for entry in config["methodConfig"] for name in entry["name"]}
    modules = (detector_pb2, embedder_pb2, retrieval_pb2, discovery_pb2)
    assert names == {service.full_name for module in modules for service in module.DESCRIPTOR.services_by_name.values()}
    methods = {
        name["method"]
        for entry in config["methodConfig"]
        for name in entry["name"]
        if name["service"].endswith("AdminService")
    }
    admin = retrieval_pb2.DESCRIPTOR.services_by_name["IndexAdminService"].methods_by_name
    assert methods < set(admin)
    assert not methods & {"CreateSnapshot", "RestoreSnapshot"}
    assert "healthCheckConfig" not in json.loads(service_config(health_check=False))


def test_a_server_that_refuses_once_is_asked_again() -> None:
    """UNAVAILABLE is retried by the connection; the caller sees only the answer."""
    attempts = itertools.count(1)

    def detect(request: Any, servicer_context: grpc.ServicerContext) -> Any:
        if next(attempts) < 3:
            raise errors.DependencyDown("not yet")
        return answer(request, servicer_context)

    with run_server([probe_service(detect)]) as (target, _), connect(target) as connection:
        assert DetectorClient(connection).detect(b"").width == 1
    assert next(attempts) == 4


def test_overload_is_not_retried_by_itself() -> None:
    """Shedding must not multiply the load: RESOURCE_EXHAUSTED goes to the caller at once, with the delay."""
    attempts = itertools.count(1)

    def detect(_request: Any, _context: grpc.ServicerContext) -> Any:
        next(attempts)
        raise errors.QueueFull("full", retry_after_s=0.5)

    with (
        run_server([probe_service(detect)]) as (target, _),
        connect(target) as connection,
        pytest.raises(errors.QueueFull) as caught,
    ):
        DetectorClient(connection).detect(b"")
    assert next(attempts) == 2
    assert caught.value.retry_after_s == 0.5


def test_a_rolling_restart_fails_no_call() -> None:
    """Two servers restart in turns under load; a balanced connection loses nothing."""
    config = ServerConfig(port=0, admin_port=-1, drain_delay_s=0.3, grace_s=5.0)

    def start(port: int = 0) -> Server:
        server = Server(ServerConfig(**{**vars(config), "port": port}), [probe_service()])
        server.start()
        return server

    servers = [start(), start()]
    target = "ipv4:" + ",".join(server.target for server in servers)
    answered, failures, stop = itertools.count(), [], threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                assert client.detect(b"").width == 1
                next(answered)
            except errors.BowerbirdError as error:
                failures.append(error)

    with connect(target) as connection:
        client = DetectorClient(connection)
        callers = [threading.Thread(target=load) for _ in range(3)]
        for caller in callers:
            caller.start()
        for turn in (0, 1):
            time.sleep(0.4)
            port = servers[turn].port
            assert servers[turn].drain()
            servers[turn] = start(port)
            with connect(servers[turn].target) as probe:
                probe.wait_ready(5)
            time.sleep(0.6)
        stop.set()
        for caller in callers:
            caller.join()
    for server in servers:
        server.stop()
    assert not failures
    assert next(answered) > 100
