"""Numbers that callers hand over, checked before they reach the compiled module; it checks the arrays itself."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np


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


def bits(value: object, name: str) -> int:
    """The 64 bits of an integer, signed or unsigned, as a signed one.

    Raises:
        TypeError: it is no integer.
        ValueError: it does not fit.
    """
    if isinstance(value, SupportsIndex) and 2**63 <= operator.index(value) < 2**64:
        return operator.index(value) - 2**64
    return integer(value, name)


def real(value: object, name: str) -> float:
    """The value as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it does not fit.
    """
    if isinstance(value, int | float | np.integer | np.floating):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{name}: expected a number within the range of float64") from error
    raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
