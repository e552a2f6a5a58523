"""The models of the zoo compute what the published originals compute, on real photographs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bowerbird.models import OnnxRuntimeEngine, zoo

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/models"

# Weights are stored as float16: each is off by up to 2^-11 of itself. Largest differences seen: 2.1e-3 of unit length.
FEATURE_TOLERANCE = 4e-3
MIN_COSINE = 0.9999
# The published detector is float16 already, so only the order of additions differs.
SCORE_TOLERANCE = 1e-5
LOGIT_TOLERANCE = 1e-4


def load_make() -> ModuleType:
    """The script that made the golden files, for the inputs."""
    spec = importlib.util.spec_from_file_location("make_golden_models", GOLDEN / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_embedder_has_the_features_of_the_torch_original() -> None:
    """Features of three photographs equal those that torch computed from the published checkpoint."""
    expected = np.load(GOLDEN / "efficientnet.npz")["features"]
    engine = OnnxRuntimeEngine(zoo.load("efficientnet-lite0").path, threads=1)

    features = engine.run(load_make().efficientnet_inputs())["embedding"] ** 2
    features /= np.linalg.norm(features, axis=1, keepdims=True)

    np.testing.assert_allclose(features, expected, atol=FEATURE_TOLERANCE)
    assert ((features * expected).sum(axis=1) >= MIN_COSINE).all()


def test_the_detector_has_the_outputs_of_tensorflow_js() -> None:
    """Scores and distances at every candidate point of three photographs equal those of the published graph."""
    golden = np.load(GOLDEN / "nanodet.npz")
    engine = OnnxRuntimeEngine(zoo.load("nanodet-g").path, threads=1)

    outputs = engine.run(load_make().nanodet_inputs())
    at = (golden["picture"], golden["points"])

    assert len(golden["points"]) > 50
    np.testing.assert_allclose(outputs["scores"][at], golden["scores"], atol=SCORE_TOLERANCE)
    np.testing.assert_allclose(outputs["distances"][at], golden["distances"], atol=LOGIT_TOLERANCE)


def test_conversion_is_exact_where_torch_is_installed() -> None:
    """With float32 weights our graph and the torch original agree to rounding."""
    pytest.importorskip("torch", reason="needs the extra `train`")
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the package efficientnet-lite-pytorch")
    from pipelines.zoo import convert_efficientnet, efficientnet

    cache = ROOT / "build/zoo-cache"
    if not (cache / convert_efficientnet.WEIGHTS.file_name).exists():
        pytest.skip(f"needs {convert_efficientnet.WEIGHTS.file_name} in {cache}; run the conversion once")
    pixels = load_make().efficientnet_inputs()
    weights = convert_efficientnet.read_weights(cache)
    model = efficientnet.build(weights, *efficientnet.random_projection(), half=False)

    ours = convert_efficientnet.compute_with_onnx(model, pixels)

    np.testing.assert_allclose(ours, convert_efficientnet.compute_with_torch(cache, pixels), atol=2e-6)
