"""Eight-bit weights for the processor: tried, measured beside the float file in one run, and kept only if worth it.

Dynamic: matrices as int8, activations quantised as they come. Static: activations too, by ranges seen on pictures
(quantise-dequantise nodes). Both are ONNX Runtime's own.

Legend: M pictures, D dimensions.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from .serving_graph import INPUT

MAX_LOSS = 0.005  # of P@1: half a point
MIN_SPEEDUP = 1.05  # below, the difference is the machine's noise
TIMED_BATCH, ROUNDS = 4, 9  # the batch of a server's thread
CALIBRATION_PICTURES = 128

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """One file and what was measured of it.

    Attributes:
        name: float, dynamic or static.
        size_bytes: of the file.
        seconds: of a picture in batches of 4 with one thread: the median of interleaved rounds.
        cosine: mean between its embeddings and those of the float file.
        p_at_1: share of pictures whose nearest other has the same label; NaN where no two pictures have one.
    """

    name: str
    model: onnx.ModelProto
    size_bytes: int
    seconds: float
    cosine: float
    p_at_1: float


def measure_variants(
    exact: onnx.ModelProto, stored: onnx.ModelProto, pictures: FloatArray, labels: Sequence[object]
) -> list[Variant]:
    """The float file and its quantised forms, side by side.

    Args:
        exact: float32 weights, which quantisation starts from.
        stored: what is shipped otherwise.
        pictures: (M, 3, H, W) normalised; the first calibrate the ranges.
        labels: M; equal ones are right answers.
    """
    models = {"float": stored, "dynamic": quantize_weights(exact), "static": quantize_all(exact, pictures)}
    sessions = {name: _open(model) for name, model in models.items()}
    embeddings = {name: _embed(session, pictures) for name, session in sessions.items()}
    seconds = _time(sessions, pictures[:TIMED_BATCH])
    return [
        Variant(
            name,
            model,
            len(model.SerializeToString()),
            seconds[name],
            float((embeddings[name] * embeddings["float"]).sum(axis=1).mean()),
            measure_p_at_1(embeddings[name], labels),
        )
        for name, model in models.items()
    ]


def choose(variants: Sequence[Variant]) -> Variant:
    """The fastest that loses half a point at most and is clearly faster than the float file; else that one.

    Where quality could not be measured, nothing is known to be as good: the float file.
    """
    reference = next(variant for variant in variants if variant.name == "float")
    worthy = [
        variant
        for variant in variants
        if variant.p_at_1 >= reference.p_at_1 - MAX_LOSS and variant.seconds * MIN_SPEEDUP <= reference.seconds
    ]
    return min(worthy, key=lambda variant: variant.seconds, default=reference)


def render(variants: Sequence[Variant]) -> str:
    """The table, as Markdown."""
    lines = ["| weights | MB | ms a picture | cosine to float | P@1 |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {each.name} | {each.size_bytes / 1e6:.1f} | {each.seconds * 1e3:.2f} | {each.cosine:.4f} "
        f"| {each.p_at_1:.4f} |"
        for each in variants
    ]
    return "\n".join(lines)


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with matrices as int8, a scale for each column."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dynamic.onnx"
        with _quiet():
            quantize_dynamic(_copy(model), target, per_channel=True, weight_type=QuantType.QInt8)
        return onnx.load(target)


def quantize_all(model: onnx.ModelProto, pictures: FloatArray) -> onnx.ModelProto:
    """The model with int8 matrices and activations."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "static.onnx"
        with _quiet():
            quantize_static(
                _copy(model),
                target,
                _Pictures(pictures[:CALIBRATION_PICTURES]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            )
        return onnx.load(target)


def measure_p_at_1(embeddings: FloatArray, labels: Sequence[object]) -> float:
    """Share of pictures whose nearest other has their label, among those that share it; NaN if there are none."""
    names, numbers = np.unique([str(label) for label in labels], return_inverse=True)
    asked = np.bincount(numbers, minlength=len(names))[numbers] > 1
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -np.inf)
    right = numbers[scores.argmax(axis=1)] == numbers
    return float(right[asked].mean()) if asked.any() else float("nan")


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantiser moves weights of what it is given to files."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to fuse operators first: the runtime fuses them when it loads the file."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Pictures(CalibrationDataReader):
    """Pictures in small batches, as the quantiser asks for them."""

    def __init__(self, pictures: FloatArray) -> None:
        self._batches: Iterator[FloatArray] = iter(np.array_split(pictures, max(1, len(pictures) // 8)))

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _open(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _embed(session: Any, pictures: FloatArray) -> FloatArray:
    parts = [session.run(["embedding"], {INPUT: part})[0] for part in np.array_split(pictures, -(-len(pictures) // 32))]
    return np.asarray(np.concatenate(parts), np.float32)


def _time(sessions: dict[str, Any], batch: FloatArray) -> dict[str, float]:
    """Median seconds a picture of each session, one after another in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started_at = time.perf_counter()
            session.run(["embedding"], {INPUT: batch})
            seconds[name].append((time.perf_counter() - started_at) / len(batch))
    return {name: float(np.median(values)) for name, values in seconds.items()}
