"""All services in this process with models that are quick and easy to foresee, and the command line against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bowerbird import images
from bowerbird.boxes import Region
from bowerbird.cli import main
from bowerbird.errors import BowerbirdError, QueueFull
from bowerbird.models.zoo import HeadSpec
from bowerbird.testing import run_server
from bowerbird.vectors import normalize, pack_code
from services.detector.engine import Detection, Detections
from services.detector.engine import ModelInfo as DetectorInfo
from services.detector.server import build_services as build_detector
from services.discovery.config import DiscoveryConfig
from services.discovery.neighbours import build_engine, connect_inside
from services.discovery.server import build_services as build_discovery
from services.embedder.engine import Embedding, Embeddings, EmbedInput
from services.embedder.engine import ModelInfo as EmbedderInfo
from services.embedder.heads import EmbedOptions, Wanted, check_options
from services.embedder.server import build_services as build_embedder
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.server import build_services as build_retrieval

GRID = 8
DIMENSION = GRID * GRID * 3


class Engine:
    """What fakes of the two engines share."""

    def require_model(self, name: str) -> None:
        assert name == ""

    def warm_up(self) -> None: ...

    def close(self) -> None: ...

    def is_alive(self) -> bool:
        return True


class ColourEmbedder(Engine):
    """A picture's vector is its 8 x 8 thumbnail; pictures can be made to meet a full queue first."""

    def __init__(self) -> None:
        heads = (HeadSpec("category", "classes", "light", ("dark", "light"), 1.0, 0.0, 0.0),)
        self.info = EmbedderInfo("colours", "0123456789ab", "fake", DIMENSION, 64, GRID, GRID, 16, heads)
        self.embedded = 0
        self.refuse_next = 0

    def check_options(self, options: EmbedOptions) -> Wanted:
        return check_options(options, self.info.heads, "colours")

    def embed(
        self,
        data: bytes,
        region: Region | None = None,
        *,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
        **_: Any,
    ) -> Embedding:
        picture = images.decode(data)
        picture = images.crop(picture, region) if region else picture
        small = Image.fromarray(picture.pixels).resize((GRID, GRID), Image.Resampling.BOX)
        vector = np.asarray(small, np.float32).ravel() - 127.0
        self.embedded += 1
        light = np.array([[-vector.mean(), vector.mean()]], np.float32) / 50
        return Embedding(normalize(vector + 0.01), pack_code(vector[:64]), wanted.read_labels({"light": light}, 0))

    def embed_batch(self, inputs: Sequence[EmbedInput | BowerbirdError], **_: Any) -> Embeddings:
        vectors, codes = np.zeros((len(inputs), DIMENSION), np.float32), np.zeros((len(inputs), 8), np.uint8)
        errors: dict[int, BowerbirdError] = {}
        for n, entry in enumerate(inputs):
            if self.refuse_next:
                self.refuse_next -= 1
                errors[n] = QueueFull("the queue is full", retry_after_s=0.01)
                continue
            try:
                assert isinstance(entry, EmbedInput)
                found = self.embed(entry.data, entry.region)
                vectors[n], codes[n] = found.embedding, found.code
            except BowerbirdError as error:
                errors[n] = error
        return Embeddings(vectors, codes, errors)


class CornerDetector(Engine):
    """Finds a `corner` in the upper left quarter of every picture."""

    def __init__(self) -> None:
        self.info = DetectorInfo("corners", "ba9876543210", "fake", ("corner",), 8, 8, 16, 0.4)

    def detect(self, data: bytes, *_: Any, **__: Any) -> Detections:
        picture = images.decode(data)
        return Detections((Detection(Region(0.0, 0.0, 0.5, 0.5), "corner", 0.9),), picture.width, picture.height)


@dataclass
class Served:
    """Running services, and what their fakes can be told."""

    target: str
    embedder: ColourEmbedder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """All services on one port of loopback, with an empty store."""
    embedder = ColourEmbedder()
    others = [
        *build_detector(CornerDetector()),  # type: ignore[arg-type]
        *build_embedder(embedder),  # type: ignore[arg-type]
        *build_retrieval(RetrievalEngine(RetrievalConfig(data_dir=tmp_path / "store"))),
    ]
    discovery = build_discovery(build_engine(DiscoveryConfig(), connect_inside(others)))
    with run_server([*others, *discovery]) as (target, _):
        yield Served(target, embedder)


Run = Callable[..., int]


@pytest.fixture
def run(served: Served) -> Run:
    """The command line against those services: its exit code."""

    def run_command(*words: object) -> int:
        return main(["--target", served.target, *map(str, words)])

    return run_command


def paint(path: Path, colour: str, corner: str | None = None) -> Path:
    """A picture file of one colour, or with its upper left quarter in another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (32, 32), colour)
    if corner:
        picture.paste(corner, (0, 0, 16, 16))
    picture.save(path)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with five pictures in two folders, and two files that are none."""
    root = tmp_path / "album"
    for name, colour in (("warm/red", "red"), ("warm/orange", "orange"), ("cold/blue", "blue"), ("cold/navy", "navy")):
        paint(root / f"{name}.png", colour)
    paint(root / "two.png", "green", "red")
    (root / "notes.txt").write_text("not a picture")
    (root / "broken.png").write_bytes((root / "two.png").read_bytes()[:60])
    return root
