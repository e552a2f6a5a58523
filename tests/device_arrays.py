"""Arrays on the device that the CUDA kernels are tested on: a GPU with torch's tensors, or the emulated one.

The emulated device (native/cuda_emulator) computes on the host's memory, so a NumPy array that says through DLPack that
it lies on CUDA device 0 is all it needs. Its empty arrays hold garbage and end in a guard: a result that no kernel
wrote and a write behind the scratch memory both show.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from bowerbird.native import _core, places
from tests.strategies import Bfloat16

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

EMULATOR = "CUDA emulator"
ALIGNMENT = 256  # bytes, what CUDA's allocators promise and DeviceContext asks for
GARBAGE = np.frombuffer(b"\xc5\xff", np.uint8)  # NaN as float and half, no index, no padding


def _why_not() -> str | None:
    """Why no kernel can run on a device here; None where one can."""
    if not _core.built_with_cuda():
        return "needs a CUDA build: `make cuda` runs these on the emulated device; for a GPU see native/README.md"
    devices = _core.cuda_device_names()
    if not devices:
        return "needs a CUDA device: the module has CUDA in it, and the driver reports none"
    if devices != [EMULATOR]:
        try:
            import torch
        except ImportError:
            return "needs torch, whose tensors bring the arrays to the GPU"
        if not torch.cuda.is_available():
            return "needs a torch with CUDA, whose tensors bring the arrays to the GPU"
    return None


_REASON = _why_not()
EMULATED = _REASON is None and _core.cuda_device_names() == [EMULATOR]
ORDERS = ("forward", "reverse", "1", "2") if EMULATED else ("of its own",)
"""In which the device runs the threads and blocks; no result may depend on it. A GPU is not asked."""
in_every_order = pytest.mark.usefixtures("order_of_threads")
"""Mark a test, or a module, that runs once in each (tests/device/conftest.py)."""
needs_device = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))
_GPU_REASON = "needs a GPU: the emulated device has no streams and no graphs" if EMULATED else _REASON


def needs_gpu(function: Function) -> Function:
    """Mark a test that the emulated device cannot run."""
    skip = pytest.mark.skipif(_GPU_REASON is not None, reason=str(_GPU_REASON))
    return pytest.mark.gpu(skip(function))  # type: ignore[no-any-return]


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("type_code", ctypes.c_uint8),
        ("type_bits", ctypes.c_uint8),
        ("type_lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_CODES, _BFLOAT = {"i": 0, "u": 1, "f": 2, "b": 6}, 4
_exported: dict[int, tuple[Any, ...]] = {}  # what a capsule points to, by its address, until it goes


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _release(capsule: int) -> None:
    _exported.pop(capsule)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def _capsule(array: Array, code: int) -> Any:
    """A DLPack capsule that says the array lies on CUDA device 0 and has elements of this type code."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    strides = (ctypes.c_int64 * array.ndim)(*(step // array.itemsize for step in array.strides))
    managed = _Managed(
        _DLTensor(array.ctypes.data, places.DLPACK_CUDA, 0, array.ndim, code, 8 * array.itemsize, 1, shape, strides, 0)
    )
    capsule = _new_capsule(ctypes.addressof(managed), b"dltensor", ctypes.cast(_release, ctypes.c_void_p))
    _exported[id(capsule)] = (managed, shape, strides, array)
    return capsule


class EmulatedArray:
    """An array on the emulated device."""

    __module__ = "cuda_emulator"  # the library by which its place is found

    def __init__(self, array: Array, code: int | None = None) -> None:
        self.array, self.code = array, _CODES[array.dtype.kind] if code is None else code

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy names it."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As of any array."""
        return self.array.shape

    def __getitem__(self, index: Any) -> EmulatedArray:
        return EmulatedArray(self.array[index], self.code)

    def reshape(self, *shape: Any) -> EmulatedArray:
        """The same elements in another shape."""
        return EmulatedArray(self.array.reshape(*shape), self.code)

    def __int__(self) -> int:
        return int(self.array)

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        return _capsule(self.array, self.code)

    def __dlpack_device__(self) -> tuple[int, int]:
        return places.DLPACK_CUDA, 0


class EmulatedPlace:
    """The emulated device; its default stream is the only one."""

    device, stream = 0, 0
    guards: list[Array] = []  # noqa: RUF012  # the class is the one place there is

    def empty(self, shape: tuple[int, ...], dtype: str) -> EmulatedArray:
        """A new array full of garbage, with a guard behind it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.resize(GARBAGE, size + 2 * ALIGNMENT)
        begin = -memory.ctypes.data % ALIGNMENT
        memory = memory[begin : begin + size + ALIGNMENT]
        memory[size:] = 0xA7
        self.guards.append(memory[size:])
        return EmulatedArray(memory[:size].view(dtype).reshape(shape))


@contextmanager
def emulated_library() -> Iterator[None]:
    """Let kernels find the place of emulated arrays; elsewhere they are of an unknown library."""
    places.LIBRARIES[EmulatedArray.__module__] = lambda array: EmulatedPlace()
    yield
    del places.LIBRARIES[EmulatedArray.__module__]


def to_device(array: Any) -> Any:
    """A copy of an array of NumPy, or of Bfloat16, on the device; None stays None, as optional arguments are."""
    if array is None:
        return None
    is_bfloat = isinstance(array, Bfloat16)
    values = (array.bits if is_bfloat else array).copy()
    if EMULATED:
        return EmulatedArray(values, _BFLOAT if is_bfloat else None)
    import torch

    if is_bfloat:
        return torch.from_numpy(values.view(np.int16)).cuda().view(torch.bfloat16)
    return torch.from_numpy(values).cuda()


def to_host(array: Any) -> Array:
    """A copy of a result in NumPy's memory, after a look at the guards of all arrays made since the last one."""
    if not EMULATED:
        return array.cpu().numpy()  # type: ignore[no-any-return]
    assert type(array) is EmulatedArray, "the result is not of the library of the arguments"
    guards, EmulatedPlace.guards[:] = list(EmulatedPlace.guards), []
    assert all((guard == 0xA7).all() for guard in guards), "a kernel wrote behind its scratch memory or its result"
    return array.array.copy()


@contextmanager
def run_in(order: str) -> Iterator[None]:
    """Run the threads and blocks of the emulated device in this order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOWERBIRD_EMULATOR_ORDER", order)
        yield
