"""The number format of forward and backward passes, chosen by measuring; weights and losses stay float32.

bfloat16 is the faster format on every GPU since 2020. On processors it depends: one with AVX2 only emulates it and was
65 times slower than in float32; one with matrix units multiplied matrices 7 times faster, and yet a small network,
which spends its time elsewhere, gained nothing. A list of processors would be wrong for both, so both are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from bowerbird.errors import ConfigInvalid

CHOICES = ("auto", "fp32", "bf16")
WANTED_PRODUCT_GAIN = 2.0  # of matrix products; less, and the network need not be tried
WANTED_STEP_GAIN = 1.2  # of the network; less does not pay for the lost digits
SIZE = 256  # of the matrices
ROUNDS = 4


def choose(
    device: torch.device, wanted: str = "auto", step: Callable[[torch.dtype], object] | None = None
) -> torch.dtype:
    """`torch.float32` or `torch.bfloat16`.

    A resumed run must not choose again, as it may choose differently on a busy machine: keep the answer with its state.

    Args:
        wanted: `fp32`, `bf16`, or `auto`: bfloat16 on a GPU that has it, and on a processor that gains by it.
        step: runs the network once, forward and backward, in the format it is given; measured on processors whose
            matrix products gain. None: the products alone decide.
    Raises:
        ConfigInvalid: anything else is wanted.
    """
    if wanted not in CHOICES:
        raise ConfigInvalid(f"precision: expected {', '.join(CHOICES)}, got {wanted!r}")
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    gains = _gain(_multiply_alone) >= WANTED_PRODUCT_GAIN and (step is None or _gain(step) >= WANTED_STEP_GAIN)
    return torch.bfloat16 if gains else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Computes in `dtype` where that is safe, while entered; nothing changes for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def _gain(work: Callable[[torch.dtype], object]) -> float:
    """How many times faster bfloat16 is, by the fastest of a few rounds, the formats taking turns."""
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(ROUNDS):
        for dtype, samples in times.items():
            start = time.perf_counter()
            work(dtype)
            samples.append(time.perf_counter() - start)
    return min(times[torch.float32]) / min(times[torch.bfloat16])


def _multiply_alone(dtype: torch.dtype) -> Tensor:
    """A product by one thread: several would measure how busy the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        matrix = torch.ones(SIZE, SIZE, dtype=dtype)
        return matrix @ matrix
    finally:
        torch.set_num_threads(threads)
