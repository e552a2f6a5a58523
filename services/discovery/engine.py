"""What the front door does: embed, compare models, search; detect beside it when regions are wanted.

What is only passed on between caller and services (filters, fields, hits, detections) is not looked at.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from bowerbird import telemetry
from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid, BowerbirdError, ModelIndexMismatch, VectorInvalid

from .config import DiscoveryConfig
from .ports import DEFAULT_INDEX, Answer, Detected, Detector, Embedded, Embedder, Found, Model, Retrieval
from .tokens import ImageTokens

SERVICE = "discovery"


@dataclass(frozen=True)
class DetectOptions:
    """Which objects are wanted; zero, None and empty leave it to the detector."""

    max_detections: int = 0
    min_score: float | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A picture: its file bytes, or the token of one sent before."""

    data: bytes | None = None
    token: str = ""


@dataclass(frozen=True)
class Discovery:
    """What came out of a picture or an item.

    Attributes:
        models: that produced it.
        hits: best first, as retrieval gave them.
        regions: objects of the picture, as the detector gave them.
        image_token: of the picture; empty without one.
        width: of the picture, upright, in pixels; 0 if nobody looked for objects.
        height: as width.
    """

    models: tuple[Model, ...] = ()
    hits: Sequence[Any] = ()
    regions: Sequence[Any] = ()
    image_token: str = ""
    width: int = 0
    height: int = 0


A = TypeVar("A", bound=Answer)


class DiscoveryEngine:
    """Answers searches by picture, region and item; safe to call from many threads."""

    def __init__(
        self,
        config: DiscoveryConfig,
        *,
        detector: Detector,
        embedder: Embedder,
        retrieval: Retrieval,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._retrieval = retrieval
        self._tokens = ImageTokens(max_bytes=config.image_token_bytes, ttl_s=config.image_token_ttl_s, clock=clock)
        self._beside = ThreadPoolExecutor(config.detect_threads, thread_name_prefix="detect")

    def analyze(self, data: bytes, options: DetectOptions) -> Discovery:
        """The regions of a picture that can be searched, and a token for doing so.

        Raises:
            BowerbirdError: the detector's own.
        """
        detected = self._detect(data, options)
        return Discovery(
            models=tuple(detected.info.models),
            regions=detected.detections,
            image_token=self._tokens.add(data),
            width=detected.width,
            height=detected.height,
        )

    def search_by_image(self, source: Source, *, index: str, params: Any, detect_regions: bool = False) -> Discovery:
        """The items that look like a picture; with its regions, found at the same time, if they are wanted.

        Raises:
            ImageTokenExpired: the picture has to be sent again.
            ModelIndexMismatch: the index holds vectors of another model.
            BowerbirdError: the services' own.
        """
        data = self._open(source)
        detecting = self._start(lambda: self._detect(data, DetectOptions())) if detect_regions else None
        embedded, found = self._search(data, None, index, params)
        detected = detecting.result() if detecting is not None else None
        return Discovery(
            models=(*embedded.info.models, *(detected.info.models if detected is not None else ())),
            hits=found.hits,
            regions=detected.detections if detected is not None else (),
            image_token=source.token or self._tokens.add(data),
            width=detected.width if detected is not None else 0,
            height=detected.height if detected is not None else 0,
        )

    def search_by_region(self, source: Source, region: Region, *, index: str, params: Any) -> Discovery:
        """The items that look like a part of a picture.

        Raises:
            BowerbirdError: as `search_by_image`.
        """
        data = self._open(source)
        embedded, found = self._search(data, region, index, params)
        return Discovery(
            models=tuple(embedded.info.models), hits=found.hits, image_token=source.token or self._tokens.add(data)
        )

    def search_by_item(self, item_id: str, *, index: str, params: Any) -> Discovery:
        """The items that look like an item of the index, which itself is left out.

        Raises:
            ArgumentInvalid: no item is named.
            BowerbirdError: the retrieval service's own.
        """
        if not item_id:
            raise ArgumentInvalid("expected the id of an item, got none", field="item_id")
        found = self._time(
            "search",
            lambda: self._retrieval.search(item_id=item_id, index=index or DEFAULT_INDEX, params=params),
        )
        return Discovery(models=tuple(found.info.models), hits=found.hits)

    def close(self) -> None:
        """Ends the threads; nothing can be asked afterwards."""
        self._beside.shutdown(wait=False, cancel_futures=True)

    def _open(self, source: Source) -> bytes:
        if source.data is not None:
            return source.data
        if source.token:
            return self._tokens.get(source.token)
        raise ArgumentInvalid("expected a picture or an image_token, got neither", field="source")

    def _search(self, data: bytes, region: Region | None, index: str, params: Any) -> tuple[Embedded, Found]:
        index = index or DEFAULT_INDEX
        embedded = self._time("embed", lambda: self._embedder.embed(data, region))
        try:
            found = self._time(
                "search",
                lambda: self._retrieval.search(embedded.embedding, code=embedded.code, index=index, params=params),
            )
        except VectorInvalid as error:
            raise self._explain(index, embedded, error) from error
        for ours, theirs in zip(embedded.info.models, found.info.models, strict=False):
            if not _fits(ours, theirs):  # the same shape, so the search went through; its scores mean nothing
                raise _mismatch(index, ours, theirs)
        return embedded, found

    def _detect(self, data: bytes, options: DetectOptions) -> Detected:
        return self._time(
            "detect",
            lambda: self._detector.detect(
                data, max_detections=options.max_detections, min_score=options.min_score, labels=options.labels
            ),
        )

    def _start(self, call: Callable[[], Detected]) -> Future[Detected]:
        """Runs `call` beside this thread as part of the same request: same deadline, id and list of timings."""
        return self._beside.submit(contextvars.copy_context().run, call)

    def _time(self, stage: str, call: Callable[[], A]) -> A:
        """Times a call to a service; the stages inside it are listed under its name."""
        with telemetry.time_stage(SERVICE, stage):
            answer = call()
        with telemetry.collect_timings() as timings:
            timings.extend((f"{stage}.{inner}", seconds) for inner, seconds in answer.info.timings)
        return answer

    def _explain(self, index: str, embedded: Embedded, error: VectorInvalid) -> BowerbirdError:
        """The refused vector as what it most likely is: one of another model than the index was made with."""
        with telemetry.time_stage(SERVICE, "index"):
            theirs = self._retrieval.get_index(index).model
        ours = next(iter(embedded.info.models), None)
        return error if ours is None or _fits(ours, theirs) else _mismatch(index, ours, theirs)


def _fits(ours: Model, theirs: Model) -> bool:
    return not theirs.name or (ours.name, ours.version) == (theirs.name, theirs.version)


def _mismatch(index: str, ours: Model, theirs: Model) -> ModelIndexMismatch:
    return ModelIndexMismatch(
        f"index {index!r} holds vectors of {theirs.name} {theirs.version}, the embedder serves {ours.name} "
        f"{ours.version}; index the pictures again with it, or serve the model of the index",
        field="index",
    )
