"""Discovery on the wire: messages to engine calls and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from bowerbird import telemetry
from bowerbird.errors import ArgumentInvalid
from bowerbird.rpc import wire
from bowerbird.rpc.clients import Detection, Hit, SearchParams
from bowerbird.rpc.server import Method, Service
from bowerbird.v1 import detector_pb2, discovery_pb2, discovery_pb2_grpc, retrieval_pb2, types_pb2

from .engine import DetectOptions, Discovery, DiscoveryEngine, Source

FULL_NAME = "bowerbird.v1.DiscoveryService"
# The defaults leave room for a processor without an accelerator; clients that cannot wait say so.
METHODS = {
    "AnalyzeImage": Method(default_deadline_s=2.0, max_deadline_s=10.0, role="read"),
    "SearchByImage": Method(default_deadline_s=2.0, max_deadline_s=10.0, role="read"),
    "SearchByRegion": Method(default_deadline_s=2.0, max_deadline_s=10.0, role="read"),
    "SearchByItem": Method(default_deadline_s=1.0, max_deadline_s=10.0, role="read"),
}


class DiscoveryServicer(discovery_pb2_grpc.DiscoveryServiceServicer):
    """The four calls of the contract."""

    def __init__(self, engine: DiscoveryEngine) -> None:
        self._engine = engine

    def AnalyzeImage(  # noqa: N802 (the contract's name)
        self, request: discovery_pb2.AnalyzeImageRequest, _context: grpc.ServicerContext
    ) -> discovery_pb2.AnalyzeImageResponse:
        """Regions of a picture."""
        if not request.HasField("image"):
            raise ArgumentInvalid("expected a picture, got none", field="image")
        found = self._engine.analyze(request.image.data, _read_options(request.detect))
        return discovery_pb2.AnalyzeImageResponse(
            info=_info(found),
            regions=_pack_regions(found.regions),
            image_token=found.image_token,
            image_width=found.width,
            image_height=found.height,
        )

    def SearchByImage(  # noqa: N802
        self, request: discovery_pb2.SearchByImageRequest, _context: grpc.ServicerContext
    ) -> discovery_pb2.SearchByImageResponse:
        """Items that look like a picture."""
        found = self._engine.search_by_image(
            _read_source(request.source),
            index=request.index,
            params=_read_params(request.params),
            detect_regions=request.detect_regions,
        )
        return discovery_pb2.SearchByImageResponse(
            info=_info(found),
            hits=_pack_hits(found.hits),
            regions=_pack_regions(found.regions),
            image_token=found.image_token,
        )

    def SearchByRegion(  # noqa: N802
        self, request: discovery_pb2.SearchByRegionRequest, _context: grpc.ServicerContext
    ) -> discovery_pb2.SearchByRegionResponse:
        """Items that look like a part of a picture."""
        if not request.HasField("region"):
            raise ArgumentInvalid("expected a region, got none; SearchByImage takes whole pictures", field="region")
        found = self._engine.search_by_region(
            _read_source(request.source),
            wire.unpack_region(request.region),
            index=request.index,
            params=_read_params(request.params),
        )
        return discovery_pb2.SearchByRegionResponse(
            info=_info(found), hits=_pack_hits(found.hits), image_token=found.image_token
        )

    def SearchByItem(  # noqa: N802
        self, request: discovery_pb2.SearchByItemRequest, _context: grpc.ServicerContext
    ) -> discovery_pb2.SearchByItemResponse:
        """Items that look like an item."""
        found = self._engine.search_by_item(request.item_id, index=request.index, params=_read_params(request.params))
        return discovery_pb2.SearchByItemResponse(info=_info(found), hits=_pack_hits(found.hits))


def build_services(engine: DiscoveryEngine, *, close: Callable[[], None] | None = None) -> list[Service]:
    """The gRPC service over an engine.

    Args:
        close: called after the last call, when the engine is closed; disconnects whom it asks.
    """

    def close_all() -> None:
        engine.close()
        if close is not None:
            close()

    return [
        Service(
            full_name=FULL_NAME,
            servicer=DiscoveryServicer(engine),
            register=discovery_pb2_grpc.add_DiscoveryServiceServicer_to_server,
            methods=METHODS,
            close=close_all,
        )
    ]


def _read_source(message: discovery_pb2.ImageSource) -> Source:
    if message.WhichOneof("source") == "image":
        return Source(data=message.image.data)
    return Source(token=message.image_token)


def _read_options(message: detector_pb2.DetectOptions) -> DetectOptions:
    return DetectOptions(
        max_detections=message.max_detections,
        min_score=message.min_score if message.HasField("min_score") else None,
        labels=tuple(message.labels),
    )


def _read_params(message: retrieval_pb2.SearchParams) -> SearchParams:
    return SearchParams(
        top_k=message.top_k,
        filter=message.filter if message.HasField("filter") else None,
        return_fields=tuple(message.return_fields),
        exact=message.exact,
        rerank=message.rerank,
        min_sequence=message.min_sequence,
    )


def _pack_hits(hits: Sequence[Hit]) -> list[retrieval_pb2.Hit]:
    return [
        retrieval_pb2.Hit(item_id=hit.item_id, score=hit.score, fields=wire.pack_fields(hit.fields)) for hit in hits
    ]


def _pack_regions(regions: Sequence[Detection]) -> list[detector_pb2.Detection]:
    return [
        detector_pb2.Detection(region=wire.pack_region(found.region), label=found.label, score=found.score)
        for found in regions
    ]


def _info(found: Discovery) -> types_pb2.ResponseInfo:
    with telemetry.collect_timings() as timings:
        return wire.response_info(timings, [(model.name, model.version) for model in found.models])
