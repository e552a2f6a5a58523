"""Typed columns of item fields over the slots of an index, for exact filters.

Legend: S slots in use; a slot without a value for the field is absent from every comparison.
"""

from __future__ import annotations

import bisect
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid

FieldValue = str | int | float | bool
BoolArray = npt.NDArray[np.bool_]
SlotArray = npt.NDArray[np.int64]

MAX_FIELDS = 256
"""Of one index; each costs a column."""
MAX_NAME_BYTES = 128
MAX_TEXT_BYTES = 32_768
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class FieldType(enum.Enum):
    """Type of a field; it keeps the one it was first written with."""

    STRING = "string"
    INT = "int64"
    DOUBLE = "double"
    BOOL = "bool"


def type_of(value: FieldValue) -> FieldType:
    """The type that `value` is stored with."""
    if isinstance(value, bool):
        return FieldType.BOOL
    if isinstance(value, int):
        return FieldType.INT
    return FieldType.DOUBLE if isinstance(value, float) else FieldType.STRING


def check_fields(fields: Mapping[str, FieldValue]) -> None:
    """Raises ArgumentInvalid for a name or value that cannot be stored."""
    for name, value in fields.items():
        if name == "*" or not 1 <= utf8_size(name, "field name") <= MAX_NAME_BYTES:
            raise ArgumentInvalid(f"field name: expected 1 to {MAX_NAME_BYTES} bytes, not '*', got {name!r}")
        check_value(name, value)


def check_value(name: str, value: FieldValue) -> None:
    """Raises ArgumentInvalid for a value that cannot be stored or compared."""
    kind = type_of(value)
    if kind is FieldType.STRING and utf8_size(str(value), name) > MAX_TEXT_BYTES:
        raise ArgumentInvalid(f"field {name!r}: expected at most {MAX_TEXT_BYTES} bytes of text", field=name)
    if kind is FieldType.INT and not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
        raise ArgumentInvalid(f"field {name!r}: expected a 64-bit integer, got {value}", field=name)
    if kind is FieldType.DOUBLE and math.isnan(value):  # type: ignore[arg-type]
        raise ArgumentInvalid(f"field {name!r}: expected a number, got NaN", field=name)


def utf8_size(text: str, what: str) -> int:
    """Bytes of `text` in UTF-8.

    Raises:
        ArgumentInvalid: it has half of a surrogate pair, which has no encoding.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ArgumentInvalid(f"{what}: expected text that UTF-8 can hold, got {text!r}", field=what) from error


class _Ordinals(dict[str, int]):
    """The ordinal of each text; a new one is appended to `texts`. Ten times as fast as asking first, at start."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def __missing__(self, text: str) -> int:
        self[text] = ordinal = len(self._texts)
        self._texts.append(text)
        return ordinal


class Column:
    """Values of one field; slots are only ever appended, so a reader that knows how many exist sees no change.

    Texts are kept once each and stored as ordinals of first appearance.
    """

    _DTYPES = {  # noqa: RUF012 - a constant table
        FieldType.STRING: np.int32,
        FieldType.INT: np.int64,
        FieldType.DOUBLE: np.float64,
        FieldType.BOOL: np.bool_,
    }

    def __init__(self, kind: FieldType, capacity: int) -> None:
        self.kind = kind
        self._values: npt.NDArray[Any] = np.zeros(capacity, self._DTYPES[kind])
        self._present: BoolArray = np.zeros(capacity, np.bool_)
        self._texts: list[str] = []
        self._ordinals = _Ordinals(self._texts)
        self._order: tuple[list[str], SlotArray] = ([], np.empty(0, np.int64))

    def reserve(self, capacity: int) -> None:
        """Make room; arrays that readers hold stay as they are."""
        if capacity > len(self._present):
            self._values = _grown(self._values, capacity)
            self._present = _grown(self._present, capacity)

    def put(self, slots: Sequence[int] | SlotArray, values: Sequence[FieldValue]) -> None:
        """Store `values` at slots that no reader sees yet; types were checked before."""
        at = np.asarray(slots, np.int64)
        if self.kind is FieldType.STRING:
            self._values[at] = [self._ordinals[str(value)] for value in values]
        else:
            self._values[at] = values
        self._present[at] = True

    def get(self, slot: int) -> FieldValue | None:
        """The value at `slot`, None if absent."""
        if not self._present[slot]:
            return None
        value: FieldValue = self._values[slot].item()
        return self._texts[int(value)] if self.kind is FieldType.STRING else value

    def take(self, slots: SlotArray) -> Column:
        """A new column with the values of `slots`, in that order; texts nobody uses are dropped."""
        taken = Column(self.kind, max(1, len(slots)))
        here = np.flatnonzero(self._present[slots])
        values = self._values[slots[here]]
        if self.kind is FieldType.STRING:
            used, place = np.unique(values, return_inverse=True)
            values = np.asarray([taken._ordinals[self._texts[ordinal]] for ordinal in used.tolist()], np.int32)[place]
        taken._values[here], taken._present[here] = values, True
        return taken

    def exists(self, count: int) -> BoolArray:
        """(count,) bool: the slots that have a value."""
        return self._present[:count].copy()

    def one_of(self, count: int, values: Sequence[FieldValue]) -> BoolArray:
        """(count,) bool: the slots whose value is one of `values`, all of the column's type."""
        if self.kind is FieldType.STRING:
            wanted: list[Any] = [self._ordinals[text] for text in map(str, values) if text in self._ordinals]
        else:
            wanted = list(values)
        held = self._values[:count]
        if not wanted:
            return np.zeros(count, np.bool_)
        same = held == wanted[0] if len(wanted) == 1 else np.isin(held, np.asarray(wanted, held.dtype))
        return np.asarray(same & self._present[:count])

    def below(self, count: int, limit: FieldValue, *, inclusive: bool) -> BoolArray:
        """(count,) bool: the slots whose value is smaller (or equal, if inclusive) than `limit`.

        Numbers compare as numbers, int64 exactly; texts by code point, which is also the order of their UTF-8 bytes.
        """
        held, present = self._values[:count], self._present[:count]
        if self.kind is FieldType.STRING:
            texts, ranks = self._sorted_texts()
            position = (bisect.bisect_right if inclusive else bisect.bisect_left)(texts, str(limit))
            return np.asarray((ranks[np.where(present, held, 0)] < position) & present) if texts else present.copy()
        return np.asarray((held <= limit if inclusive else held < limit) & present)

    def _sorted_texts(self) -> tuple[list[str], SlotArray]:
        """All texts in order, and the rank of each ordinal; kept until a new text comes."""
        texts, ranks = self._order
        if len(texts) != len(self._texts):
            known = self._texts[:]
            order = sorted(range(len(known)), key=known.__getitem__)
            ranks = np.empty(len(known), np.int64)
            ranks[order] = np.arange(len(known))
            texts = [known[ordinal] for ordinal in order]
            self._order = (texts, ranks)
        return texts, ranks


def _grown(values: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    larger = np.zeros(capacity, values.dtype)
    larger[: len(values)] = values
    return larger
