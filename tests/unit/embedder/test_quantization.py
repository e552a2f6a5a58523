"""Which form of the weights is kept, and by what measure."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx

from services.embedder.quantization import Variant, choose, measure_p_at_1, render

FLOAT = Variant("float", onnx.ModelProto(), 8_000_000, 0.010, 1.0, 0.500)


def make(name: str, seconds: float, p_at_1: float) -> Variant:
    return Variant(name, onnx.ModelProto(), 4_000_000, seconds, 0.99, p_at_1)


@pytest.mark.parametrize(
    ("dynamic", "static", "kept"),
    [
        ((0.005, 0.499), (0.006, 0.500), "dynamic"),  # both are good: the faster
        ((0.005, 0.490), (0.006, 0.4951), "static"),  # the faster loses a point
        ((0.005, 0.494), (0.004, 0.300), "float"),  # both lose too much
        ((0.0099, 0.500), (0.011, 0.520), "float"),  # within noise, or slower: nothing is gained
    ],
)
def test_what_is_faster_and_as_good_is_kept(
    dynamic: tuple[float, float], static: tuple[float, float], kept: str
) -> None:
    """Half a point of P@1 may be lost, and the gain in time must be more than noise."""
    assert choose([FLOAT, make("dynamic", *dynamic), make("static", *static)]).name == kept


def test_precision_at_one_is_that_of_the_nearest_other() -> None:
    """One of three asked pictures has a neighbour of its label; a label of one picture asks nothing."""
    angles = np.array([0.0, 0.1, 0.15, 1.0, 2.0])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert measure_p_at_1(embeddings, ["a", "a", "b", "a", "c"]) == pytest.approx(1 / 3)


def test_what_could_not_be_measured_is_not_kept() -> None:
    """Where no two pictures share a label, speed alone decides nothing."""
    unknown = measure_p_at_1(np.eye(3, dtype=np.float32), list("abc"))
    assert np.isnan(unknown)
    variants = [make("float", 0.010, unknown), make("dynamic", 0.001, unknown)]
    assert choose(variants).name == "float"


def test_the_table_has_a_row_a_form() -> None:
    """Size, time, likeness and quality side by side."""
    lines = render([FLOAT, make("static", 0.0051, 0.4951)]).splitlines()
    assert lines[2:] == ["| float | 8.0 | 10.00 | 1.0000 | 0.5000 |", "| static | 4.0 | 5.10 | 0.9900 | 0.4951 |"]
