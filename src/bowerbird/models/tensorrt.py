"""Models executed by TensorRT on a CUDA device.

An engine is built ahead of time from the ONNX file of the zoo (`python -m bowerbird.models.tensorrt_build NAME`), and
kept under a name that says what it was built from and for; a service never builds one. Two runtimes with the same
interface are taken, whichever is installed: `tensorrt`, and `tensorrt-rtx` (extra [gpu]), whose engines are built
without a GPU and finished for the device when they are first run. By NVIDIA's support matrix the latter runs on compute
capabilities 7.5, 8.x and 12.x, but not on 9.0 (H100, H200): those need `tensorrt`.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bowerbird import telemetry
from bowerbird.errors import ConfigInvalid, InferenceFailed, ModelFileCorrupt
from bowerbird.models.cuda_driver import Device
from bowerbird.models.engine import FloatArray
from bowerbird.models.settings import UNSET
from bowerbird.models.zoo import ZooModel, output_shapes

ENGINES_VARIABLE = "BOWERBIRD_ENGINES"
VERSION_DIGITS = 12
PORTABLE = "portable"  # target of an engine that several kinds of device can finish
_RUNTIMES = {"tensorrt": "tensorrt", "tensorrt_rtx_bindings": "tensorrt-rtx"}
_LOG = telemetry.get_logger(__name__)


@dataclass(frozen=True)
class Bindings:
    """The installed TensorRT.

    Attributes:
        module: its Python module.
        name: `tensorrt` or `tensorrt-rtx`.
    """

    module: Any
    name: str

    @property
    def version(self) -> str:
        """Full version; an engine fits no other."""
        return str(self.module.__version__)

    @property
    def is_portable(self) -> bool:
        """Whether engines are built without a GPU, for several kinds of them."""
        return self.name == "tensorrt-rtx"


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from and for; equal keys mean interchangeable files.

    Attributes:
        model: name of the zoo's model.
        sha256: of its ONNX file.
        runtime: name and version of TensorRT.
        target: `sm90` and the like, or `portable`.
        precision: of the arithmetic.
        batches: smallest, best and largest batch.
        size: height and width of the input.
    """

    model: str
    sha256: str
    runtime: str
    target: str
    precision: str
    batches: tuple[int, int, int]
    size: tuple[int, int]

    @property
    def file_name(self) -> str:
        """Of the engine."""
        batches, size = "-".join(map(str, self.batches)), "x".join(map(str, self.size))
        return f"{self._stem}.{size}.b{batches}.plan"

    @property
    def pattern(self) -> str:
        """Of all engines that differ in their batches only."""
        return f"{self._stem}.{'x'.join(map(str, self.size))}.b*.plan"

    @property
    def _stem(self) -> str:
        return f"{self.model}.{self.sha256[:VERSION_DIGITS]}.{self.runtime}.{self.target}.{self.precision}"


def load_bindings() -> Bindings:
    """The installed TensorRT; the full one before the one for RTX.

    Raises:
        ConfigInvalid: there is none.
    """
    for module, name in _RUNTIMES.items():
        try:
            return Bindings(importlib.import_module(module), name)
        except ImportError:
            continue
    raise ConfigInvalid("[models] provider = 'tensorrt' needs TensorRT: pip install 'bowerbird[gpu]', or set it to cpu")


def find_engines(directory: Path | None = None) -> Path:
    """The directory of engines: the one given, else `BOWERBIRD_ENGINES`, else in the user's cache."""
    if directory is not None and directory != UNSET:
        return directory
    if ENGINES_VARIABLE in os.environ:
        return Path(os.environ[ENGINES_VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bowerbird" / "tensorrt"


def find_engine(
    model: ZooModel, bindings: Bindings, targets: Sequence[str], precision: str, directory: Path
) -> tuple[Path, int]:
    """The engine for a model and its largest batch; of several the one with the largest.

    Args:
        targets: that fit the device, best first.
    Raises:
        ConfigInvalid: there is none; the message says how to build it.
    """
    for target in targets:
        runtime = f"{bindings.name}-{bindings.version}"
        size = (model.input.height, model.input.width)
        key = EngineKey(model.name, model.sha256, runtime, target, precision, (1, 1, 1), size)
        found = {path: int(path.stem.rpartition("-")[2]) for path in directory.glob(key.pattern)}
        if found:
            return max(found.items(), key=lambda pair: pair[1])
    raise ConfigInvalid(
        f"no TensorRT engine of {model.name} {model.sha256[:VERSION_DIGITS]} for {' or '.join(targets)}, {precision}, "
        f"{bindings.name} {bindings.version} in {directory}; build it with: "
        f"python -m bowerbird.models.tensorrt_build {model.name} --precision {precision}"
    )


class TensorRtEngine:
    """An engine on a device; implements `InferenceEngine`. Runs of several threads take turns."""

    backend = "tensorrt"

    def __init__(self, model: ZooModel, *, precision: str = "fp16", directory: Path | None = None) -> None:
        """
        Args:
            model: of the zoo.
            precision: that the engine was built with.
            directory: of engines; see `find_engines`.
        Raises:
            ConfigInvalid: no device, no TensorRT, or no engine for this model and device.
            ModelFileCorrupt: TensorRT refuses the engine.
        """
        bindings = load_bindings()
        self._device = Device()
        major, minor = self._device.compute_capability
        path, self._max_batch = find_engine(
            model, bindings, (f"sm{major}{minor}", PORTABLE), precision, find_engines(directory)
        )
        self.name, self.version = model.name, model.sha256[:VERSION_DIGITS]
        self._shapes = output_shapes(model)
        self._item_shape = (3, model.input.height, model.input.width)
        self._lock = threading.Lock()
        self._device.use()
        self._runtime = bindings.module.Runtime(bindings.module.Logger(bindings.module.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ModelFileCorrupt(
                f"{bindings.name} {bindings.version} refuses {path} on {self._device.name}; rebuild it"
            )
        self._context = self._engine.create_execution_context()
        self._stream = self._device.create_stream()
        self._input, outputs = _names_of_tensors(bindings.module, self._engine)
        if set(outputs) != set(self._shapes):
            raise ModelFileCorrupt(
                f"{path} gives {sorted(outputs)}, its card states {sorted(self._shapes)}; rebuild it"
            )
        self._addresses = {
            name: self._device.allocate(4 * self._max_batch * int(np.prod(shape)))
            for name, shape in {self._input: self._item_shape, **self._shapes}.items()
        }
        for name, address in self._addresses.items():
            self._context.set_tensor_address(name, address)
        _LOG.info(
            "engine loaded", extra={"engine": path.name, "device": self._device.name, "max_batch": self._max_batch}
        )

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input; None for the batch."""
        return (None, *self._item_shape)

    def run(self, batch: FloatArray, outputs: Sequence[str] | None = None) -> dict[str, FloatArray]:
        """The outputs by name, first axis the batch; more than the engine's largest batch goes in parts.

        Raises:
            InferenceFailed: the batch has another shape, the model no such output, or the device failed.
        """
        names = list(self._shapes) if outputs is None else list(outputs)
        if unknown := set(names) - set(self._shapes):
            raise InferenceFailed(f"{self.name} has no output {', '.join(sorted(unknown))}")
        if batch.shape[1:] != self._item_shape or not len(batch):
            raise InferenceFailed(
                f"{self.name} failed on a batch of shape {batch.shape}: expected (N, {self._item_shape})"
            )
        rows = np.ascontiguousarray(batch, np.float32)
        with self._lock:
            self._device.use()
            parts = [
                self._run_part(rows[start : start + self._max_batch], names)
                for start in range(0, len(rows), self._max_batch)
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def warm_up(self, batch_sizes: Sequence[int], *, height: int, width: int) -> float:
        """Seconds that it took to run batches of zeros of these sizes; the first run may finish the engine."""
        started_at = time.perf_counter()
        for batch_size in batch_sizes:
            self.run(np.zeros((batch_size, 3, height, width), np.float32))
        return time.perf_counter() - started_at

    def _run_part(self, rows: FloatArray, names: Sequence[str]) -> dict[str, FloatArray]:
        self._device.send(rows, self._addresses[self._input], self._stream)
        if not self._context.set_input_shape(self._input, rows.shape) or not self._context.execute_async_v3(
            self._stream
        ):
            raise InferenceFailed(f"{self.name} failed on a batch of shape {rows.shape}: TensorRT's log says why")
        results = {
            name: self._device.fetch(self._addresses[name], (len(rows), *self._shapes[name]), self._stream)
            for name in names
        }
        self._device.synchronize(self._stream)
        return results


def _names_of_tensors(trt: Any, engine: Any) -> tuple[str, list[str]]:
    """Name of the one input, and those of the outputs."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    [name] = [name for name in names if name not in outputs]
    return name, outputs
