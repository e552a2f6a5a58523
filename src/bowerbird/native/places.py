"""Where a kernel computes: on the memory of its first argument, with results from that argument's library.

NumPy arrays and buffers give NumPy arrays. A torch tensor gives torch tensors on its device, a CuPy array CuPy arrays;
on a CUDA device the kernel joins that library's current stream, and scratch memory and results come from that
library's allocator. So neither library is linked or imported here, and what it promises of streams, graph capture and
memory limits holds for the kernels too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

HOST = -1
DLPACK_CUDA = 2


class Place(Protocol):
    """What the compiled module asks of a library other than NumPy."""

    @property
    def device(self) -> int:
        """Index of the CUDA device, or HOST."""

    @property
    def stream(self) -> int:
        """Handle of the CUDA stream to work on; 0 is the default stream, and means nothing on the host."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new array of the library, at this place, of this dtype by NumPy's name."""


@dataclass(frozen=True, slots=True)
class TorchPlace:
    """A device of torch and its current stream there."""

    torch: Any
    device: int
    stream: int

    @classmethod
    def of(cls, tensor: Any) -> TorchPlace:
        """Where the tensor lies."""
        torch = sys.modules["torch"]
        if tensor.device.type == "cpu":
            return cls(torch, HOST, 0)
        if tensor.device.type != "cuda":
            raise TypeError(f"expected a torch tensor on the CPU or a CUDA device, got one on {tensor.device}")
        return cls(torch, tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new tensor."""
        device = "cpu" if self.device == HOST else f"cuda:{self.device}"
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device=device)


@dataclass(frozen=True, slots=True)
class CupyPlace:
    """A device of CuPy and its current stream there."""

    cupy: Any
    device: int
    stream: int

    @classmethod
    def of(cls, array: Any) -> CupyPlace:
        """Where the array lies."""
        cupy = sys.modules["cupy"]
        with array.device:
            return cls(cupy, array.device.id, cupy.cuda.get_current_stream().ptr)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new array."""
        with self.cupy.cuda.Device(self.device):
            return self.cupy.empty(shape, dtype)


LIBRARIES: dict[str, Callable[[Any], Place]] = {"torch": TorchPlace.of, "cupy": CupyPlace.of}
"""How to find the place of an array, by the package that its type or a base of it comes from."""


def place_of(first: object) -> Place | None:
    """The place of a call with this first argument; None is NumPy on the host.

    Raises:
        TypeError: the argument lies on a device, and its library is not one of those above.
    """
    if isinstance(first, np.ndarray) or not hasattr(first, "__dlpack_device__"):
        return None
    for base in type(first).__mro__:
        of = LIBRARIES.get(base.__module__.partition(".")[0])
        if of is not None:
            return of(first)
    try:
        device_type = first.__dlpack_device__()[0]
    except Exception:  # the compiled module asks again, and says which argument it is
        return None
    if device_type == DLPACK_CUDA:
        raise TypeError(
            f"expected a CUDA array of {' or '.join(LIBRARIES)}, got {type(first).__module__}.{type(first).__name__}"
        )
    return None


def empty(place: Place | None, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array at this place."""
    return np.empty(shape, dtype) if place is None else place.empty(shape, dtype)
