"""The learned codes keep neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from bowerbird import vectors
from bowerbird.models import OnnxRuntimeEngine, zoo
from pipelines.zoo.fit_codes import fit


@pytest.fixture(scope="module")
def embeddings() -> vectors.FloatArray:
    """(400, 64): 40 groups of 10 close vectors in a 16-dimensional subspace, away from the origin."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((40, 1, 16)) @ random.standard_normal((16, 64))
    points = centers + 0.3 * random.standard_normal((40, 10, 64)) + 3.0
    return vectors.normalize(points.reshape(400, 64).astype(np.float32))


def test_codes_of_close_vectors_are_close(embeddings: vectors.FloatArray) -> None:
    """The nearest code belongs to the same group for nearly all vectors."""
    projection, bias = fit(embeddings, 64)
    codes = vectors.pack_code(embeddings @ projection + bias)
    distances = np.unpackbits(codes[:, None] ^ codes[None], axis=2).sum(axis=2, dtype=np.int32)
    np.fill_diagonal(distances, 1000)

    same_group = distances.argmin(axis=1) // 10 == np.arange(400) // 10

    assert same_group.mean() >= 0.95


def test_bits_are_balanced(embeddings: vectors.FloatArray) -> None:
    """A bit is set for about half of the vectors, so that it tells them apart."""
    projection, bias = fit(embeddings, 64)

    share = (embeddings @ projection + bias > 0).mean(axis=0)

    assert ((share > 0.2) & (share < 0.8)).mean() >= 0.9


def test_fitting_is_repeatable(embeddings: vectors.FloatArray) -> None:
    """The same vectors and seed give the same projection."""
    first, second = fit(embeddings, 64), fit(embeddings, 64)

    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_the_shipped_codes_are_fitted() -> None:
    """The projection in the zoo is centred: an untrained one has no bias."""
    onnx = pytest.importorskip("onnx")
    from pipelines.zoo.efficientnet import read_projection

    projection, bias = read_projection(onnx.load(zoo.load("efficientnet-lite0").path))

    assert projection.shape == (1280, 256)
    assert np.abs(bias).min() > 0


def test_a_picture_and_its_slight_variation_share_most_bits() -> None:
    """Codes of the shipped model change little when a picture changes little."""
    model = zoo.load("efficientnet-lite0")
    engine = OnnxRuntimeEngine(model.path, threads=1)
    random = np.random.default_rng(0)
    noise = random.standard_normal((1, 3, 8, 8)).repeat(28, axis=2).repeat(28, axis=3).astype(np.float32)
    other = random.standard_normal((1, 3, 8, 8)).repeat(28, axis=2).repeat(28, axis=3).astype(np.float32)

    projections = engine.run(np.concatenate([noise, noise * 0.97, other]))["code_projection"]
    bits = projections > 0

    assert (bits[0] != bits[1]).sum() < (bits[0] != bits[2]).sum() / 2
