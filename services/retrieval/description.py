"""What a store says about its index: shape, model, counts, types of fields."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from .fields import FieldType
from .items import ModelRef, Shape


@dataclass(frozen=True)
class Description:
    """What a store says about itself; changes with every write, in the same transaction."""

    uid: str
    dimension: int
    code_bits: int
    create_time_s: float
    sequence: int = 0
    items: int = 0
    model: ModelRef | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """Dimension and code bits."""
        return Shape(self.dimension, self.code_bits)


def with_write(
    description: Description, *, items: int, model: ModelRef | None, fields: Mapping[str, FieldType]
) -> Description:
    """`description` after one more write."""
    return replace(description, sequence=description.sequence + 1, items=items, model=model, fields=dict(fields))


def encode(description: Description) -> tuple[str, int]:
    """`description` as text, and its CRC-32."""
    values = asdict(replace(description, fields={}))
    values["fields"] = {name: kind.value for name, kind in description.fields.items()}
    text = json.dumps(values)
    return text, zlib.crc32(text.encode())


def decode(row: tuple[str, int] | None) -> Description | None:
    """The description in a row of text and checksum; None if it is missing or damaged."""
    if row is None or not isinstance(row[0], str) or zlib.crc32(row[0].encode()) != row[1]:
        return None
    values = json.loads(row[0])
    model = values.pop("model")
    fields = {name: FieldType(kind) for name, kind in values.pop("fields").items()}
    return Description(**values, model=ModelRef(**model) if model else None, fields=fields)
