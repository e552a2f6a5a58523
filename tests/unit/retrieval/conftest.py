"""An engine on a temporary directory, and items to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.items import Item

DIMENSION, CODE_BITS = 24, 64


@pytest.fixture
def config(tmp_path: Path) -> RetrievalConfig:
    return RetrievalConfig(data_dir=tmp_path / "data")


@pytest.fixture
def engine(config: RetrievalConfig) -> Iterator[RetrievalEngine]:
    """A loaded engine with an empty index `pictures`."""
    engine = RetrievalEngine.open(config)
    engine.create_index("pictures", dimension=DIMENSION, code_bits=CODE_BITS)
    yield engine
    engine.close()


@pytest.fixture
def make_item() -> Callable[..., Item]:
    """Makes the item of a number: the same vectors every time."""

    def make(number: int, item_id: str = "", **fields: str | int | float | bool) -> Item:
        rng = np.random.default_rng(number)
        row = rng.standard_normal(DIMENSION).astype(np.float32)
        row /= np.linalg.norm(row)
        return Item(item_id or f"item-{number:04d}", row, np.packbits(np.resize(row, CODE_BITS) > 0), fields)

    return make
