"""From a name in a service's settings to a runtime that is ready to load requests."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid, InferenceFailed, ModelFileCorrupt
from bowerbird.models import zoo
from bowerbird.models.engine import InferenceEngine
from bowerbird.models.onnx_runtime import OnnxRuntimeEngine
from bowerbird.models.settings import ModelsConfig
from bowerbird.models.tensorrt import TensorRtEngine

_LOG = telemetry.get_logger(__name__)


def load_model(name: str, kind: Literal["embedder", "detector"], config: ModelsConfig) -> zoo.ZooModel:
    """The checked model of this name, of the kind that the service needs.

    Raises:
        ModelNotFound, ModelFileCorrupt: as `zoo.load`.
        ConfigInvalid: it is a model of another kind.
    """
    model = zoo.load(name, zoo_dir=config.zoo_dir)
    if model.kind != kind:
        raise ConfigInvalid(f"[{kind}] model: expected a model of kind {kind}, got {name!r} of kind {model.kind}")
    return model


def start_engine(model: zoo.ZooModel, config: ModelsConfig, *, threads: int) -> InferenceEngine:
    """A runtime with the model loaded, on the configured provider; the metrics say what was loaded and how fast.

    Args:
        threads: that one run may use.
    Raises:
        ModelFileCorrupt, ConfigInvalid: as `OnnxRuntimeEngine` and `TensorRtEngine`; or the model is not of the shapes
            that its card states.
    """
    started_at = time.perf_counter()
    engine: InferenceEngine
    if config.provider == "tensorrt":
        engine = TensorRtEngine(model, precision=config.precision, directory=config.engines_dir)
    else:
        engine = OnnxRuntimeEngine(model.path, threads=threads, provider=config.provider)
    seconds = time.perf_counter() - started_at
    _check_shapes(engine, model)
    telemetry.MODEL_INFO.labels(model.kind, engine.name, engine.version, engine.backend).set(1)
    telemetry.MODEL_LOAD_SECONDS.labels(model.kind, engine.name).set(seconds)
    _LOG.info(
        "model loaded",
        extra={
            "model": engine.name,
            "version": engine.version,
            "backend": engine.backend,
            "threads": threads,
            "seconds": round(seconds, 3),
            "licence": model.licence,
        },
    )
    return engine


def _check_shapes(engine: InferenceEngine, model: zoo.ZooModel) -> None:
    """Nothing, if a run takes and gives what the card says; otherwise every call would fail, and none say why."""
    expected = {name: (1, *shape) for name, shape in zoo.output_shapes(model).items()}
    try:
        outputs = engine.run(np.zeros((1, 3, model.input.height, model.input.width), np.float32))
    except InferenceFailed as error:
        raise ModelFileCorrupt(f"model file {model.path} does not take the input of its card: {error}") from error
    got = {name: output.shape for name, output in outputs.items()}
    if got != expected:
        raise ModelFileCorrupt(
            f"model file {model.path} gives {got}, its card states {expected}; restore {model.name}.toml"
        )


def warm_up(engine: InferenceEngine, model: zoo.ZooModel, batch_sizes: list[int]) -> None:
    """Run batches of zeros of these sizes, so that the first request does not pay for the first run."""
    seconds = engine.warm_up(batch_sizes, height=model.input.height, width=model.input.width)
    telemetry.MODEL_WARMUP_SECONDS.labels(model.kind, engine.name).set(seconds)
