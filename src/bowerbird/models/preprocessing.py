"""Pictures as the input of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bowerbird import native
from bowerbird.models.engine import FloatArray
from bowerbird.models.zoo import InputSpec


def make_batch(
    pictures: Sequence[npt.NDArray[np.uint8]],
    spec: InputSpec,
    *,
    num_threads: int = 1,
    out: FloatArray | None = None,
) -> FloatArray:
    """(N, 3, height, width) float32, C-contiguous: the pictures squeezed to the model's size and normalised.

    Args:
        pictures: N arrays (H, W, 3) uint8 RGB of any sizes.
        spec: what the model expects.
        num_threads: that share the work.
        out: where to put the result; None: a new array.
    """
    return native.preprocess(
        pictures,
        height=spec.height,
        width=spec.width,
        mean=spec.mean,
        std=spec.std,
        channel_order=spec.channel_order,
        num_threads=num_threads,
        out=out,
    )
