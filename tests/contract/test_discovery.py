"""Discovery over in-process gRPC: every RPC, every reason it can fail with, deadlines and what it passes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

from bowerbird import errors
from bowerbird.boxes import Region
from bowerbird.rpc import status
from bowerbird.rpc.clients import (
    Connection,
    Detection,
    Detections,
    DiscoveryClient,
    Embedding,
    Hit,
    Info,
    ModelRef,
    SearchParams,
    SearchResult,
    connect,
)
from bowerbird.rpc.context import current
from bowerbird.rpc.server import Method, Service
from bowerbird.testing import run_server
from bowerbird.v1 import discovery_pb2, discovery_pb2_grpc, embedder_pb2, embedder_pb2_grpc, retrieval_pb2, types_pb2
from services.discovery.config import DiscoveryConfig
from services.discovery.engine import DiscoveryEngine
from services.discovery.neighbours import build_engine, connect_neighbours
from services.discovery.server import FULL_NAME, METHODS, build_services

PICTURE = b"bytes of a picture"
EMBEDDER_MODEL = ModelRef("lite", "0123456789ab")
DETECTOR_MODEL = ModelRef("nano", "ba9876543210")
REGION = Region(0.25, 0.25, 0.75, 0.5)
HIT = Hit("item-1", 0.875, {"path": "a.png", "year": 2015, "ratio": 0.5, "open": True})


@dataclass
class FakeIndex:
    model: ModelRef


@dataclass
class FakeNeighbours:
    """Detector, embedder and retrieval as one object that remembers what it was asked and fails when told to."""

    index_model: ModelRef = EMBEDDER_MODEL
    failures: dict[str, Exception] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    before_detect: Callable[[], None] = lambda: None
    before_embed: Callable[[], None] = lambda: None

    def _note(self, name: str, *what: object) -> None:
        self.calls.append((name, what))
        if name in self.failures:
            raise self.failures[name]

    def detect(
        self, data: bytes, *, max_detections: int = 0, min_score: float | None = None, labels: Sequence[str] = ()
    ) -> Detections:
        self._note("detect", data, max_detections, min_score, labels)
        self.before_detect()
        info = Info((("infer", 0.25),), (DETECTOR_MODEL,))
        return Detections((Detection(REGION, "cat", 0.75),), 640, 427, info)

    def embed(self, data: bytes, region: Region | None = None) -> Embedding:
        self._note("embed", data, region)
        self.before_embed()
        info = Info((("decode", 0.125),), (EMBEDDER_MODEL,))
        return Embedding(np.array([0.6, 0.8], np.float32), np.arange(8, dtype=np.uint8), info)

    def search(
        self,
        embedding: Any = None,
        *,
        code: Any = None,
        item_id: str = "",
        index: str = "default",
        params: Any = None,
    ) -> SearchResult:
        vector = None if embedding is None else (embedding.tolist(), code.tolist())
        self._note("search", vector, item_id, index, params)
        models = (self.index_model,) if self.index_model.name else ()
        return SearchResult((HIT,), 7, Info((("rerank", 0.0625),), models))

    def get_index(self, name: str = "default") -> FakeIndex:
        self._note("get_index", name)
        return FakeIndex(self.index_model)

    def named(self, name: str) -> list[Any]:
        return [what for call, what in self.calls if call == name]


@pytest.fixture
def near() -> FakeNeighbours:
    return FakeNeighbours()


@pytest.fixture
def connection(near: FakeNeighbours) -> Iterator[Connection]:
    """To a discovery server over the fakes."""
    engine = DiscoveryEngine(DiscoveryConfig(image_token_bytes=1 << 20), detector=near, embedder=near, retrieval=near)
    with run_server(build_services(engine)) as (target, _), connect(target) as made:
        yield made


@pytest.fixture
def client(connection: Connection) -> DiscoveryClient:
    return DiscoveryClient(connection)


CALLS: dict[str, Callable[[DiscoveryClient], object]] = {
    "AnalyzeImage": lambda client: client.analyze_image(PICTURE),
    "SearchByImage": lambda client: client.search_by_image(PICTURE, detect_regions=True),
    "SearchByRegion": lambda client: client.search_by_region(PICTURE, REGION),
    "SearchByItem": lambda client: client.search_by_item("item-0"),
}
ASKED = {
    "AnalyzeImage": ("detect",),
    "SearchByImage": ("detect", "embed", "search"),
    "SearchByRegion": ("embed", "search"),
    "SearchByItem": ("search",),
}
WIRE_ERRORS = sorted({kind for kind in status.walk() if kind.reason and kind is not errors.ConfigInvalid}, key=str)


def test_every_method_of_the_contract_is_called_here() -> None:
    """A new RPC needs a test."""
    contract = {method.name for method in discovery_pb2.DESCRIPTOR.services_by_name["DiscoveryService"].methods}
    assert set(CALLS) == set(METHODS) == contract


def test_analyze_image_answers_regions_and_a_token(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """Options are passed on; regions, size, model, timings and a token come back."""
    found = client.analyze_image(PICTURE, max_detections=3, min_score=0.5)
    assert near.calls == [("detect", (PICTURE, 3, 0.5, ()))]
    assert found.regions == (Detection(REGION, "cat", 0.75),)
    assert (found.width, found.height) == (640, 427)
    assert found.info.models == (DETECTOR_MODEL,)
    assert [stage for stage, _ in found.info.timings] == ["detect", "detect.infer"]
    assert dict(found.info.timings)["detect.infer"] == 0.25
    assert client.search_by_image(found.image_token).image_token == found.image_token


def test_detect_options_that_are_not_set_are_left_to_the_detector(
    client: DiscoveryClient, near: FakeNeighbours
) -> None:
    """No score is not a score of zero; labels travel."""
    client.analyze_image(PICTURE)
    client.analyze_image(PICTURE, min_score=0.0)
    request = discovery_pb2.AnalyzeImageRequest(image=types_pb2.Image(data=PICTURE))
    request.detect.labels.append("cat")
    client.stub.AnalyzeImage(request, timeout=5)
    assert near.named("detect") == [(PICTURE, 0, None, ()), (PICTURE, 0, 0.0, ()), (PICTURE, 0, None, ("cat",))]


def test_search_by_image_passes_vector_code_and_params(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """What the embedder made goes to retrieval with the caller's parameters; hits come back with typed fields."""
    params = SearchParams(top_k=5, return_fields=("path",), exact=True, rerank=77, min_sequence=9)
    found = client.search_by_image(PICTURE, index="boards", params=params)
    [(vector, item_id, index, passed)] = near.named("search")
    assert vector == ([pytest.approx(0.6), pytest.approx(0.8)], list(range(8)))
    assert (item_id, index) == ("", "boards")
    assert passed == params
    assert found.hits == (HIT,)
    assert found.regions == ()
    assert found.info.models == (EMBEDDER_MODEL,)
    assert near.named("detect") == near.named("get_index") == []
    stages = ["embed", "embed.decode", "search", "search.rerank"]
    assert [stage for stage, _ in found.info.timings] == stages


def test_filters_are_passed_on_unchanged(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """A filter reaches retrieval clause by clause."""
    client.search_by_image(PICTURE, params=SearchParams(filter="style = noto and year >= 2015"))
    [(_, _, _, passed)] = near.named("search")
    assert isinstance(passed.filter, retrieval_pb2.Filter)
    assert [clause.field for clause in passed.filter.all_of] == ["style", "year"]


def test_search_by_image_detects_beside_embedding(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """With detect_regions both run at the same time, and both models are named."""
    both = threading.Barrier(2)

    def meet() -> None:
        both.wait(5)

    near.before_detect = near.before_embed = meet
    found = client.search_by_image(PICTURE, detect_regions=True)
    assert found.regions == (Detection(REGION, "cat", 0.75),)
    assert found.info.models == (EMBEDDER_MODEL, DETECTOR_MODEL)
    assert {"detect", "embed", "search", "detect.infer"} <= {stage for stage, _ in found.info.timings}


def test_search_by_region_embeds_the_region(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """The region goes to the embedder with the whole picture, and the picture keeps its token."""
    found = client.search_by_region(PICTURE, REGION)
    again = client.search_by_region(found.image_token, REGION)
    assert near.named("embed") == [(PICTURE, REGION)] * 2
    assert found.hits == again.hits == (HIT,)
    assert again.image_token == found.image_token


def test_search_by_item_needs_no_picture(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """More like this: retrieval is asked by id, and nobody else."""
    found = client.search_by_item("item-0", index="boards", params=SearchParams(top_k=2))
    assert near.calls == [("search", (None, "item-0", "boards", SearchParams(top_k=2)))]
    assert found.hits == (HIT,)
    assert found.image_token == ""


@pytest.mark.parametrize("name", ["SearchByImage", "SearchByRegion", "SearchByItem"])
def test_an_empty_index_name_is_the_default(client: DiscoveryClient, near: FakeNeighbours, name: str) -> None:
    """No name means the index `default`."""
    CALLS[name](client)
    assert near.named("search")[0][2] == "default"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", WIRE_ERRORS, ids=lambda kind: kind.reason)
def test_errors_of_the_services_pass_through(
    client: DiscoveryClient, near: FakeNeighbours, name: str, kind: type[errors.BowerbirdError]
) -> None:
    """Whichever service fails, with whatever reason, the caller sees that reason, message and field."""
    for asked in ASKED[name]:
        near.failures = {asked: kind("what went wrong", field="params.top_k")}
        with pytest.raises(kind) as caught:
            CALLS[name](client)
        assert type(caught.value) is kind
        if not issubclass(kind, errors.Internal):
            assert caught.value.message == "what went wrong"
            assert caught.value.field == "params.top_k"


def test_the_time_to_come_back_passes_through(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """A full queue behind discovery tells the caller when to try again."""
    near.failures = {"embed": errors.QueueFull("full", retry_after_s=1.5)}
    with pytest.raises(errors.QueueFull) as caught:
        client.search_by_image(PICTURE)
    assert caught.value.retry_after_s == 1.5


def test_a_bug_is_internal_and_tells_no_details(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """An exception that is not ours becomes INTERNAL without its text."""
    near.failures = {"search": KeyError("secret")}
    with pytest.raises(errors.Internal) as caught:
        client.search_by_item("item-0")
    assert "secret" not in caught.value.message


def test_failed_pictures_get_no_token(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """Nothing is held of a picture that cannot be read."""
    near.failures = {"embed": errors.ImageDecodeFailed("no picture")}
    with pytest.raises(errors.ImageDecodeFailed):
        client.search_by_image(b"nonsense")
    assert client.connection.health(FULL_NAME)


@pytest.mark.parametrize("token", ["0" * 32, "nonsense"])
@pytest.mark.parametrize("with_region", [False, True])
def test_unknown_tokens_are_refused(client: DiscoveryClient, token: str, with_region: bool) -> None:
    """A token that is gone asks for the picture again."""
    with pytest.raises(errors.ImageTokenExpired, match="send the picture again") as caught:
        client.search_by_region(token, REGION) if with_region else client.search_by_image(token)
    assert caught.value.field == "source.image_token"


def test_tokens_expire_when_newer_pictures_need_the_room(client: DiscoveryClient) -> None:
    """The bound in bytes drops the oldest picture."""
    first = client.search_by_image(b"1" * 600_000).image_token
    second = client.search_by_image(b"2" * 600_000).image_token
    assert client.search_by_image(second).hits == (HIT,)
    with pytest.raises(errors.ImageTokenExpired):
        client.search_by_image(first)


@pytest.mark.parametrize(
    ("method", "request_", "field_"),
    [
        ("AnalyzeImage", discovery_pb2.AnalyzeImageRequest(), "image"),
        ("SearchByImage", discovery_pb2.SearchByImageRequest(), "source"),
        ("SearchByImage", discovery_pb2.SearchByImageRequest(source={"image_token": ""}), "source"),
        ("SearchByRegion", discovery_pb2.SearchByRegionRequest(source={"image": {"data": PICTURE}}), "region"),
        ("SearchByRegion", discovery_pb2.SearchByRegionRequest(region={"x_max": 1, "y_max": 1}), "source"),
        ("SearchByItem", discovery_pb2.SearchByItemRequest(), "item_id"),
    ],
)
def test_missing_parts_are_named(client: DiscoveryClient, method: str, request_: Any, field_: str) -> None:
    """A request without what it needs is refused with the field's name."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(client.stub, method)(request_, timeout=5)
    error = status.from_rpc_error(caught.value, "test")
    assert isinstance(error, errors.ArgumentInvalid)
    assert error.field == field_


@pytest.mark.parametrize(
    "corners", [(0.5, 0.0, 0.5, 1.0), (0.9, 0.0, 0.1, 1.0), (-0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.1),
                (float("nan"), 0.0, 1.0, 1.0)],
)  # fmt: skip
def test_regions_out_of_range_are_refused(
    client: DiscoveryClient, near: FakeNeighbours, corners: tuple[float, ...]
) -> None:
    """Empty, inverted, outside and not finite: refused before anybody is asked."""
    request = discovery_pb2.SearchByRegionRequest(
        source={"image": {"data": PICTURE}},
        region=dict(zip(("x_min", "y_min", "x_max", "y_max"), corners, strict=True)),
    )
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.SearchByRegion(request, timeout=5)
    assert isinstance(status.from_rpc_error(caught.value, "test"), errors.RegionOutOfRange)
    assert near.calls == []


@pytest.mark.parametrize("name", ["SearchByImage", "SearchByRegion"])
@pytest.mark.parametrize("model", [ModelRef("vit", "0123456789ab"), ModelRef("lite", "000000000000")])
def test_an_index_of_another_model_is_refused(
    client: DiscoveryClient, near: FakeNeighbours, name: str, model: ModelRef
) -> None:
    """Another model, or another version of it: both are named, and what to do."""
    near.index_model = model
    with pytest.raises(errors.ModelIndexMismatch, match="index the pictures again") as caught:
        CALLS[name](client)
    assert model.name in caught.value.message
    assert model.version in caught.value.message
    assert EMBEDDER_MODEL.version in caught.value.message


def test_a_vector_of_another_shape_is_explained(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """When retrieval refuses the shape because the index is of another model, that is what the caller reads."""
    near.index_model = ModelRef("vit", "0123456789ab")
    near.failures = {"search": errors.VectorInvalid("expected dimension 768")}
    with pytest.raises(errors.ModelIndexMismatch, match="vit"):
        client.search_by_image(PICTURE)


def test_an_index_without_a_model_takes_any(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """Before its first write an index belongs to no model."""
    near.index_model = ModelRef("", "")
    assert client.search_by_image(PICTURE).hits == (HIT,)


def test_a_late_answer_is_a_missed_deadline(client: DiscoveryClient, near: FakeNeighbours) -> None:
    """A caller that waits less than the services need gets DEADLINE_EXCEEDED."""
    near.before_embed = lambda: time.sleep(0.2)
    with pytest.raises(errors.DeadlineExceeded):
        client.search_by_image(PICTURE, timeout_s=0.05)


def test_a_request_over_the_message_limit_is_refused(client: DiscoveryClient) -> None:
    """Seventeen megabytes are more than a message may have."""
    with pytest.raises(errors.ArgumentInvalid, match="size limit"):
        client.search_by_image(b"\0" * (17 << 20))


class RecordingEmbedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """An embedder that notes what its calls arrive with, and then has no answer."""

    def __init__(self) -> None:
        self.remaining_s: list[float] = []
        self.request_ids: list[str] = []

    def Embed(  # noqa: N802 (the contract's name)
        self, request: embedder_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embedder_pb2.EmbedResponse:
        self.remaining_s.append(current().remaining_s())
        self.request_ids.append(current().request_id)
        raise errors.ImageDecodeFailed("no picture", field="input.image.data")


@pytest.fixture
def chain() -> Iterator[tuple[DiscoveryClient, RecordingEmbedder]]:
    """Discovery over a real client of an embedder process, and a detector and a retrieval that are not there."""
    embedder = RecordingEmbedder()
    service = Service(
        "bowerbird.v1.EmbedderService",
        embedder,
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
        {name: Method(5.0, 10.0, "read") for name in ("Embed", "BatchEmbed", "GetModel")},
    )
    with run_server([service]) as (target, _):
        config = DiscoveryConfig(detector_target="127.0.0.1:1", embedder_target=target, retrieval_target="127.0.0.1:1")
        near = connect_neighbours(config)
        services = build_services(build_engine(config, near), close=near.close)
        with run_server(services) as (front, _), connect(front) as connection:
            yield DiscoveryClient(connection), embedder


def test_deadline_and_request_id_are_passed_on(chain: tuple[DiscoveryClient, RecordingEmbedder]) -> None:
    """The embedder gets the caller's request id and what is left of its deadline, less a margin for the answer."""
    client, embedder = chain
    with pytest.raises(errors.ImageDecodeFailed, match="no picture"):
        client.search_by_image(PICTURE, timeout_s=0.9)
    with pytest.raises(grpc.RpcError):
        client.stub.SearchByImage(
            discovery_pb2.SearchByImageRequest(source={"image": {"data": PICTURE}}),
            timeout=0.9,
            metadata=(("x-request-id", "from-the-caller"),),
        )
    assert all(0.3 < seconds < 0.897 for seconds in embedder.remaining_s)  # longer ones travel rounded up
    assert embedder.request_ids[1] == "from-the-caller"


def test_a_service_that_is_not_there_is_named(chain: tuple[DiscoveryClient, RecordingEmbedder]) -> None:
    """Without the detector, AnalyzeImage is UNAVAILABLE and says which address does not answer."""
    client, _ = chain
    with grpc.insecure_channel(client.connection.target) as channel:  # a client that does not try again
        stub = discovery_pb2_grpc.DiscoveryServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.AnalyzeImage(discovery_pb2.AnalyzeImageRequest(image={"data": PICTURE}), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    error = status.from_rpc_error(caught.value, "test")
    assert isinstance(error, errors.DependencyDown)
    assert "127.0.0.1:1 " in error.message
