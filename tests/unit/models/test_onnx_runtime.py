"""ONNX Runtime behind the engine interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bowerbird.errors import ConfigInvalid, InferenceFailed, ModelFileCorrupt, ModelNotFound
from bowerbird.models import InferenceEngine, OnnxRuntimeEngine, zoo
from bowerbird.models.preprocessing import make_batch

MODEL = zoo.load("efficientnet-lite0")

# One picture alone and in a batch go through kernels of different shapes: additions in another order.
BATCH_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def engine() -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(MODEL.path, threads=1)


def test_an_engine_says_what_it_runs(engine: InferenceEngine) -> None:
    """Name, version by content, backend and input shape."""
    assert (engine.name, engine.version) == ("efficientnet-lite0", MODEL.sha256[:12])
    assert engine.backend == "onnxruntime-cpu"
    assert engine.input_shape == (None, 3, None, None)


def test_a_batch_is_computed_like_its_pictures(engine: InferenceEngine) -> None:
    """A picture has the same embedding alone and among others; embeddings have unit length."""
    pictures = [np.random.default_rng(seed).integers(0, 256, (50, 70, 3), np.uint8) for seed in range(3)]
    batch = make_batch(pictures, MODEL.input)

    together = engine.run(batch)
    alone = [engine.run(batch[i : i + 1])["embedding"][0] for i in range(3)]

    np.testing.assert_allclose(together["embedding"], alone, atol=BATCH_TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(together["embedding"], axis=1), 1.0, atol=1e-5)
    assert together["code_projection"].shape == (3, 256)


def test_an_even_picture_has_no_undefined_values(engine: InferenceEngine) -> None:
    """A picture without any content is embedded without NaN."""
    outputs = engine.run(make_batch([np.zeros((1, 1, 3), np.uint8)], MODEL.input))

    assert np.isfinite(outputs["embedding"]).all()


def test_a_wrong_shape_fails_as_inference(engine: InferenceEngine) -> None:
    """A batch that the model does not take is an error that names the model and the shape."""
    with pytest.raises(InferenceFailed, match=r"efficientnet-lite0 failed on a batch of shape \(1, 4, 8, 8\)"):
        engine.run(np.zeros((1, 4, 8, 8), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Random bytes are named and refused."""
    (tmp_path / "noise.onnx").write_bytes(b"\x08\x09noise" * 100)

    with pytest.raises(ModelFileCorrupt, match=r"noise\.onnx is not a model"):
        OnnxRuntimeEngine(tmp_path / "noise.onnx", threads=1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is not found."""
    with pytest.raises(ModelNotFound, match=r"absent\.onnx"):
        OnnxRuntimeEngine(tmp_path / "absent.onnx", threads=1)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build has CUDA")
def test_cuda_without_its_provider_is_a_clear_refusal() -> None:
    """Asking for CUDA never falls back to the processor silently."""
    with pytest.raises(ConfigInvalid, match="install onnxruntime-gpu"):
        OnnxRuntimeEngine(MODEL.path, threads=1, provider="cuda")


def test_an_unknown_provider_is_refused() -> None:
    """Only providers that are supported have a name."""
    with pytest.raises(ConfigInvalid, match="expected cpu or cuda"):
        OnnxRuntimeEngine(MODEL.path, threads=1, provider="tpu")


def test_warm_up_runs_the_model(engine: OnnxRuntimeEngine) -> None:
    """Warming up takes the time of real runs."""
    assert engine.warm_up([1], height=32, width=32) > 0
