"""The interface of a runtime that executes a model file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class InferenceEngine(Protocol):
    """A loaded model with one input, a batch of pictures; safe to run from many threads at once."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def version(self) -> str:
        """First 12 hex digits of the model file's sha256."""

    @property
    def backend(self) -> str:
        """What computes: `onnxruntime-cpu`, `onnxruntime-cuda` or `tensorrt`."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input; None where the model takes any size."""

    def run(self, batch: FloatArray, outputs: Sequence[str] | None = None) -> dict[str, FloatArray]:
        """The outputs by name, first axis the batch.

        Args:
            batch: float32, of the input's shape.
            outputs: names of those wanted; the others are not handed over. None: all.
        Raises:
            InferenceFailed: the runtime refused the batch or failed on it, or the model has no such output.
        """

    def warm_up(self, batch_sizes: Sequence[int], *, height: int, width: int) -> float:
        """Seconds that it took to run batches of zeros, so that the first request does not pay for the first run."""
