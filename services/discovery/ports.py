"""What the engine asks of the three services; how they are reached is not its business.

Legend: D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bowerbird.boxes import Region
from bowerbird.vectors import CodeArray, FloatArray

DEFAULT_INDEX = "default"


class Model(Protocol):
    """Which model made a vector."""

    @property
    def name(self) -> str:
        """Empty: none yet."""

    @property
    def version(self) -> str:
        """Changes with the content of the model file."""


class Info(Protocol):
    """How an answer came about."""

    @property
    def timings(self) -> Sequence[tuple[str, float]]:
        """(stage, seconds) in order."""

    @property
    def models(self) -> Sequence[Model]:
        """Those that produced it."""


class Answer(Protocol):
    """Anything that a service answers."""

    @property
    def info(self) -> Info:
        """How it came about."""


class Detected(Answer, Protocol):
    """Objects of a picture."""

    @property
    def detections(self) -> Sequence[Any]:
        """Best score first."""

    @property
    def width(self) -> int:
        """Of the picture, upright, in pixels."""

    @property
    def height(self) -> int:
        """Of the picture, upright, in pixels."""


class Embedded(Answer, Protocol):
    """A picture as a vector."""

    @property
    def embedding(self) -> FloatArray:
        """(D,) float32, unit length."""

    @property
    def code(self) -> CodeArray:
        """(W,) uint8."""


class Found(Answer, Protocol):
    """What a search found."""

    @property
    def hits(self) -> Sequence[Any]:
        """Best first."""


class Index(Protocol):
    """What an index says of itself."""

    @property
    def model(self) -> Model:
        """Whose vectors it holds."""


class Detector(Protocol):
    """Finds objects."""

    def detect(
        self, data: bytes, *, max_detections: int = 0, min_score: float | None = None, labels: Sequence[str] = ()
    ) -> Detected:
        """The objects of one picture."""


class Embedder(Protocol):
    """Makes vectors."""

    def embed(self, data: bytes, region: Region | None = None) -> Embedded:
        """The vector of a picture, or of a region of it."""


class Retrieval(Protocol):
    """Searches an index."""

    def search(
        self,
        embedding: FloatArray | None = None,
        *,
        code: CodeArray | None = None,
        item_id: str = "",
        index: str = DEFAULT_INDEX,
        params: Any = None,
    ) -> Found:
        """The items nearest to a vector, or to an item."""

    def get_index(self, name: str = DEFAULT_INDEX) -> Index:
        """What an index says of itself."""
