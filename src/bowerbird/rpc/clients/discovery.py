"""Discovery, the front door: search by picture, by region and by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid
from bowerbird.rpc import wire
from bowerbird.rpc.clients.answers import Detection, Info, read_detection, read_info
from bowerbird.rpc.clients.connection import Client, Connection
from bowerbird.rpc.clients.detector import make_options
from bowerbird.rpc.clients.records import Hit, SearchParams, read_hits
from bowerbird.v1 import discovery_pb2, discovery_pb2_grpc, types_pb2

Picture = bytes | str
"""Bytes of a picture file, or the token of a picture that the server already has."""


@dataclass(frozen=True)
class Analysis:
    """The objects of a picture, a token to search it with, and its upright size in pixels."""

    regions: tuple[Detection, ...]
    image_token: str
    width: int
    height: int
    info: Info


@dataclass(frozen=True)
class Discoveries:
    """What was found.

    Attributes:
        hits: best first.
        regions: objects of the picture that can be searched next, if they were asked for.
        image_token: of the picture; empty where there was none.
    """

    hits: tuple[Hit, ...]
    regions: tuple[Detection, ...]
    image_token: str
    info: Info


class DiscoveryClient(Client):
    """Calls of `bowerbird.v1.DiscoveryService`; every method raises `BowerbirdError`.

    Attributes:
        stub: the generated one, for raw access.
    """

    service = "bowerbird.v1.DiscoveryService"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.stub = discovery_pb2_grpc.DiscoveryServiceStub(connection.channel)

    def analyze_image(
        self,
        data: bytes,
        *,
        max_detections: int = 0,
        min_score: float | None = None,
        timeout_s: float | None = None,
    ) -> Analysis:
        """The regions of a picture that can be searched."""
        options = make_options(max_detections, min_score, ())
        request = discovery_pb2.AnalyzeImageRequest(image=types_pb2.Image(data=data), detect=options)
        answer = self._call(self.stub.AnalyzeImage, request, timeout_s)
        return Analysis(
            regions=tuple(read_detection(region) for region in answer.regions),
            image_token=answer.image_token,
            width=answer.image_width,
            height=answer.image_height,
            info=read_info(answer.info),
        )

    def search_by_image(
        self,
        picture: Picture,
        *,
        index: str = "",
        params: SearchParams | None = None,
        detect_regions: bool = False,
        timeout_s: float | None = None,
    ) -> Discoveries:
        """The items that look like a picture.

        Args:
            picture: bytes of a picture file, or an image token.
            index: empty: the default.
            detect_regions: also answer with the regions that can be searched next.
        """
        request = discovery_pb2.SearchByImageRequest(
            source=_make_source(picture), index=index, params=_make_params(params), detect_regions=detect_regions
        )
        answer = self._call(self.stub.SearchByImage, request, timeout_s)
        return _read(answer, tuple(read_detection(region) for region in answer.regions), answer.image_token)

    def search_by_region(
        self,
        picture: Picture,
        region: Region,
        *,
        index: str = "",
        params: SearchParams | None = None,
        timeout_s: float | None = None,
    ) -> Discoveries:
        """The items that look like a part of a picture."""
        request = discovery_pb2.SearchByRegionRequest(
            source=_make_source(picture), region=wire.pack_region(region), index=index, params=_make_params(params)
        )
        answer = self._call(self.stub.SearchByRegion, request, timeout_s)
        return _read(answer, (), answer.image_token)

    def search_by_item(
        self,
        item_id: str,
        *,
        index: str = "",
        params: SearchParams | None = None,
        timeout_s: float | None = None,
    ) -> Discoveries:
        """The items that look like an item of the index, which itself is left out."""
        request = discovery_pb2.SearchByItemRequest(item_id=item_id, index=index, params=_make_params(params))
        return _read(self._call(self.stub.SearchByItem, request, timeout_s), (), "")


def _make_source(picture: Picture) -> discovery_pb2.ImageSource:
    if isinstance(picture, str):
        return discovery_pb2.ImageSource(image_token=picture)
    if isinstance(picture, bytes):
        return discovery_pb2.ImageSource(image=types_pb2.Image(data=picture))
    raise ArgumentInvalid(f"a picture is bytes or an image token, got {type(picture).__name__}")


def _make_params(params: SearchParams | None) -> Any:
    return (params or SearchParams()).to_wire()


def _read(answer: Any, regions: tuple[Detection, ...], image_token: str) -> Discoveries:
    return Discoveries(read_hits(answer.hits), regions, image_token, read_info(answer.info))
