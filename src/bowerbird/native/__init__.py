"""The compiled kernels: Hamming scan, exact re-ranking, detection post-processing, picture preprocessing, random walks.

Every function takes arrays without copying them (NumPy arrays, memory-mapped ones too, anything with `__dlpack__`, any
buffer), computes where the first of them lies, and gives results of that one's library (see `places`). On the host it
releases the GIL while it computes, and uses one thread unless told otherwise. The instruction set is the best one of
the processor; the environment variable BOWERBIRD_SIMD (portable, avx2 or avx512) overrides it.
`bowerbird.native.reference` holds the same functions in plain NumPy: the oracle of the tests, never a fallback.
"""

from __future__ import annotations

import os

from bowerbird.errors import ConfigInvalid

try:
    from bowerbird.native import _core
except ImportError as error:
    raise ImportError(
        f"the compiled module bowerbird.native._core cannot be loaded ({error}); "
        "build it with `pip install .` or, in a checkout, `make setup`"
    ) from error

from bowerbird.native.kernels import (
    batched_nms,
    bias_table,
    detection_postprocess,
    nms,
    preprocess,
    rerank,
    roi_align,
    scan,
    soft_nms,
    walk,
)

__all__ = [
    "batched_nms",
    "bias_table",
    "cuda_device_count",
    "cuda_device_names",
    "detection_postprocess",
    "nms",
    "preprocess",
    "rerank",
    "roi_align",
    "scan",
    "simd_level",
    "soft_nms",
    "walk",
]


def simd_level() -> str:
    """The instruction set in use: "portable", "avx2" or "avx512"."""
    return _core.simd_level()


def cuda_device_names() -> list[str]:
    """Names of the CUDA devices in CUDA's order; empty without a device, a driver, or a CUDA build.

    Raises:
        RuntimeError: the driver is there and reports a fault.
    """
    return _core.cuda_device_names()


def cuda_device_count() -> int:
    """How many CUDA devices this process sees; 0 without a device, a driver, or a CUDA build.

    Raises:
        RuntimeError: the driver is there and reports a fault.
    """
    return len(cuda_device_names())


def _apply_environment() -> None:
    wanted = os.environ.get("BOWERBIRD_SIMD", "")
    if not wanted:
        return
    try:
        _core.use_simd_level(wanted)
    except ValueError as error:
        raise ConfigInvalid(f"BOWERBIRD_SIMD: {error}; unset it to let the processor decide") from error


_apply_environment()
