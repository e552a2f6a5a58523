"""Batches of the detector: what they hold, and when they stop."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bowerbird import errors
from bowerbird.images import Picture, PictureCache
from bowerbird.models import ModelsConfig
from services.detector.config import DetectorConfig
from services.detector.engine import Detections, DetectorEngine

PHOTOGRAPHS = Path(__file__).parents[3] / "tests/golden/pictures/photographs"
CAT, COFFEE = (PHOTOGRAPHS / "cat.jpg").read_bytes(), (PHOTOGRAPHS / "coffee.jpg").read_bytes()
CONFIG = DetectorConfig(run_batch_size=2)


class WatchedCache(PictureCache):
    """Knows which of the pictures that it gave are still held by somebody."""

    def __init__(self) -> None:
        super().__init__(0)
        self.given: list[weakref.ref[Any]] = []

    def get_or_decode(self, data: bytes, min_side: int | None = None) -> Picture:
        picture = super().get_or_decode(data, min_side)
        self.given.append(weakref.ref(picture.pixels))
        return picture


@pytest.fixture
def watched() -> Iterator[tuple[DetectorEngine, WatchedCache]]:
    cache = WatchedCache()
    engine = DetectorEngine(CONFIG, cache, ModelsConfig(cpu_threads=1))
    yield engine, cache
    engine.close()


def test_a_batch_does_not_hold_its_pictures(watched: tuple[DetectorEngine, WatchedCache]) -> None:
    """Only inputs of the model wait for it: decoded pictures may have 300 MB each."""
    engine, cache = watched
    held: list[int] = []
    runtime: Any = engine._runtime

    class Counting:
        def run(self, batch: Any) -> Any:
            held.append(sum(reference() is not None for reference in cache.given))
            return runtime.run(batch)

    engine._runtime = Counting()  # type: ignore[assignment]

    answers = engine.detect_batch([CAT, COFFEE, COFFEE, CAT])

    assert len(cache.given) == 4
    assert held == [0, 0]
    assert all(isinstance(answer, Detections) for answer in answers)


@pytest.mark.parametrize("ends", ["deadline", "caller"])
def test_a_batch_that_nobody_waits_for_is_not_decoded_to_its_end(
    watched: tuple[DetectorEngine, WatchedCache], ends: str
) -> None:
    """Every picture asks first whether the answer is still wanted."""
    engine, cache = watched
    if ends == "deadline":
        with pytest.raises(errors.ExpiredInQueue):
            engine.detect_batch([CAT] * 4, deadline=time.monotonic() - 1)
        assert not cache.given
    else:
        with pytest.raises(errors.Cancelled):
            engine.detect_batch([CAT] * 4, is_cancelled=lambda: len(cache.given) == 2)
        assert len(cache.given) == 2


def test_a_picture_whose_outputs_are_no_numbers_fails_alone(watched: tuple[DetectorEngine, WatchedCache]) -> None:
    """NaN out of the network is a failure of inference, of that picture and no other."""
    engine, _ = watched
    runtime: Any = engine._runtime

    class Broken:
        name = "broken"

        def run(self, batch: Any) -> Any:
            outputs = {name: values.copy() for name, values in runtime.run(batch).items()}
            outputs["scores"][0, 5, 3] = np.nan
            return outputs

    engine._runtime = Broken()  # type: ignore[assignment]

    first, second = engine.detect_batch([CAT, COFFEE])

    assert isinstance(first, errors.InferenceFailed)
    assert "scores: expected no NaN" in str(first)
    assert isinstance(second, Detections)
    with pytest.raises(errors.InferenceFailed):
        engine.detect(CAT)
