"""What callers hand over, as numpy arrays over the same memory."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt


def view(value: object, name: str) -> npt.NDArray[Any]:
    """A numpy array over the caller's memory, never a copy.

    Args:
        value: a numpy array, an object with `__dlpack__` whose memory is the CPU's, or any buffer.
        name: of the argument, for the message.
    Raises:
        TypeError: none of these.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value, name)
    try:
        return np.asarray(memoryview(value))  # type: ignore[arg-type]  # the TypeError below is the check
    except TypeError as error:
        raise TypeError(f"{name}: expected an array or a buffer, got {type(value).__name__}") from error


def integer(value: object, name: str) -> int:
    """The value as an int that fits 64 bits.

    Raises:
        TypeError: it is no integer.
        ValueError: it does not fit.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError below is the check
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from error
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name}: expected a number of 64 bits, got {number}")
    return number


def real(value: object, name: str) -> float:
    """The value as a float.

    Raises:
        TypeError: it is no number.
    """
    if isinstance(value, int | float | np.integer | np.floating):
        return float(value)
    raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def _from_dlpack(value: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(f"{name}: its memory cannot be read without a copy to the CPU: {error}") from error
