"""Models executed by ONNX Runtime, on the processor or on CUDA.

Idle threads of the runtime sleep instead of spinning: two models in one process then share the processors without
burning them while they wait for each other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bowerbird.errors import ConfigInvalid, InferenceFailed, ModelFileCorrupt, ModelNotFound
from bowerbird.models.engine import FloatArray

PROVIDER_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
VERSION_DIGITS = 12
LOG_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """An ONNX file, loaded; implements `InferenceEngine`."""

    def __init__(self, path: Path, *, threads: int, provider: str = "cpu") -> None:
        """
        Args:
            path: the model file; its stem is the model's name.
            threads: that one run may use; runs of several threads at once use as many each.
            provider: `cpu` or `cuda`.
        Raises:
            ModelNotFound: there is no such file.
            ModelFileCorrupt: it is not a model that the runtime accepts.
            ConfigInvalid: the installed runtime has no such provider.
        """
        self._name = path.stem
        self._backend = f"onnxruntime-{provider}"
        providers = _choose_providers(provider)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelNotFound(f"cannot read model file {path}: {error.strerror}") from error
        self._version = hashlib.sha256(content).hexdigest()[:VERSION_DIGITS]
        try:
            self._session = onnxruntime.InferenceSession(content, make_session_options(threads), providers=providers)
        except Exception as error:  # the runtime has a class per status code, all plain Exceptions
            raise ModelFileCorrupt(f"{path} is not a model that ONNX Runtime accepts: {error}") from error
        if provider == "cuda" and PROVIDER_NAMES["cuda"] not in self._session.get_providers():
            raise ConfigInvalid(
                "[models] provider: ONNX Runtime could not start CUDA; check driver and device, or use cpu"
            )
        self._input = self._session.get_inputs()[0]
        self._output_names = [output.name for output in self._session.get_outputs()]

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._name

    @property
    def version(self) -> str:
        """First 12 hex digits of the file's sha256."""
        return self._version

    @property
    def backend(self) -> str:
        """`onnxruntime-cpu` or `onnxruntime-cuda`."""
        return self._backend

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input; None where the model takes any size."""
        return tuple(size if isinstance(size, int) else None for size in self._input.shape)

    def run(self, batch: FloatArray, outputs: Sequence[str] | None = None) -> dict[str, FloatArray]:
        """The outputs by name, first axis the batch.

        ONNX Runtime computes the whole graph whatever is asked for (measured with 1.32); what is not asked for costs
        its arithmetic, which for the heads of an embedder is one product with the embedding, and no copy.

        Raises:
            InferenceFailed: the runtime refused the batch or failed on it, or the model has no such output.
        """
        names = self._output_names if outputs is None else list(outputs)
        try:
            values: list[Any] = self._session.run(names, {self._input.name: batch})
        except Exception as error:
            raise InferenceFailed(f"{self._name} failed on a batch of shape {batch.shape}: {error}") from error
        return dict(zip(names, values, strict=True))

    def warm_up(self, batch_sizes: Sequence[int], *, height: int, width: int) -> float:
        """Seconds that it took to run batches of zeros of these sizes."""
        started_at = time.perf_counter()
        for batch_size in batch_sizes:
            self.run(np.zeros((batch_size, 3, height, width), np.float32))
        return time.perf_counter() - started_at


def _choose_providers(provider: str) -> list[str]:
    if provider not in PROVIDER_NAMES:
        raise ConfigInvalid(f"[models] provider: expected {' or '.join(PROVIDER_NAMES)}, got {provider!r}")
    name = PROVIDER_NAMES[provider]
    available = onnxruntime.get_available_providers()
    if name not in available:
        raise ConfigInvalid(
            f"[models] provider = {provider!r} needs {name}, but the installed onnxruntime has only "
            f"{', '.join(available)}; install onnxruntime-gpu in its place, or set provider to cpu"
        )
    return [name] if provider == "cpu" else [name, PROVIDER_NAMES["cpu"]]


def make_session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that uses at most `threads` threads (0: one a core) and lets idle ones sleep."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
