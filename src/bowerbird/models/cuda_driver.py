"""Memory of a CUDA device through the driver alone, which is there wherever a GPU is: no toolkit, no torch.

A device's primary context is the one that TensorRT and every other library of the process use too.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ConfigInvalid, InferenceFailed

DRIVER_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_Handle = ctypes.c_void_p
_Address = ctypes.c_uint64  # CUdeviceptr


class Device:
    """One device: its name, what it can, and memory on it. Use it from any thread after `use`."""

    def __init__(self, number: int = 0) -> None:
        """
        Raises:
            ConfigInvalid: there is no driver, or no such device.
        """
        try:
            self._driver: Any = ctypes.CDLL(DRIVER_LIBRARY)
        except OSError as error:
            raise ConfigInvalid(f"no CUDA device can be used here: {error}; set [models] provider to cpu") from error
        try:
            self._call("cuInit", ctypes.c_uint(0))
            device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(number))
            self.compute_capability = (self._attribute(_MAJOR, device), self._attribute(_MINOR, device))
            name = ctypes.create_string_buffer(256)
            self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
            self.name = name.value.decode()
            self._context = _Handle()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        except InferenceFailed as error:
            raise ConfigInvalid(
                f"no CUDA device can be used here: {error.message}; set [models] provider to cpu"
            ) from error

    def use(self) -> None:
        """Make the device the one of this thread. Raises InferenceFailed."""
        self._call("cuCtxSetCurrent", self._context)

    def create_stream(self) -> int:
        """Handle of a new stream. Raises InferenceFailed."""
        stream = _Handle()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(1))  # does not wait for the default stream
        return stream.value or 0

    def allocate(self, size_bytes: int) -> int:
        """Address of new device memory. Raises InferenceFailed, also when there is too little."""
        address = _Address()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back. Raises InferenceFailed."""
        self._call("cuMemFree_v2", _Address(address))

    def send(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Copy an array that is C-contiguous to the device; it must stay until `synchronize`."""
        assert array.flags.c_contiguous
        self._call(
            "cuMemcpyHtoDAsync_v2",
            _Address(address),
            array.ctypes.data_as(_Handle),
            ctypes.c_size_t(array.nbytes),
            _Handle(stream),
        )

    def fetch(self, address: int, shape: tuple[int, ...], stream: int) -> npt.NDArray[np.float32]:
        """A float32 array that is filled when `synchronize` returns."""
        array = np.empty(shape, np.float32)
        self._call(
            "cuMemcpyDtoHAsync_v2",
            array.ctypes.data_as(_Handle),
            _Address(address),
            ctypes.c_size_t(array.nbytes),
            _Handle(stream),
        )
        return array

    def synchronize(self, stream: int) -> None:
        """Wait until all that was put on the stream is done. Raises InferenceFailed if some of it failed."""
        self._call("cuStreamSynchronize", _Handle(stream))

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        code: int = getattr(self._driver, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            raise InferenceFailed(f"{function}: {(text.value or b'unknown error').decode()} ({code})")
