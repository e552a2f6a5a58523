"""What goes in and out of the engine: items, hits, search parameters and descriptions.

Legend: N items, D dimensions, W = code bits / 8 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird.errors import ArgumentInvalid, BowerbirdError, VectorInvalid
from bowerbird.vectors import CODE_BITS_MULTIPLE, CodeArray, FloatArray, HalfArray

from .fields import FieldValue, check_fields, utf8_size
from .filters import Filter

MAX_ITEM_ID_BYTES = 512
MAX_ITEMS_A_WRITE = 1000
MAX_TOP_K = 1000
MAX_RERANK = 10_000
MAX_DIMENSION = 16_384
MAX_CODE_BITS = 4096
_LARGEST = 65_504.0
INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class ModelRef:
    """The model that made the embeddings: name, and version by content."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True)
class Item:
    """One thing that can be found.

    Attributes:
        item_id: 1 to 512 bytes of UTF-8, unique in its index.
        embedding: (D,) float32 or float16, finite, unit length; None where vectors were not asked for.
        code: (W,) uint8, first dimension in the highest bit; None where the index has no codes.
        fields: typed values by name.
    """

    item_id: str
    embedding: npt.NDArray[np.floating[Any]] | None = None
    code: CodeArray | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """One result: the item, its inner product with the query, and the fields that were asked for."""

    item_id: str
    score: float
    fields: Mapping[str, FieldValue]


@dataclass(frozen=True)
class SearchParams:
    """How to search.

    Attributes:
        top_k: hits wanted, 1 to 1000; fewer come back where fewer match.
        filter: conditions, applied before ranking.
        return_fields: names to send with the hits; `*` stands for all; a name that an item lacks is left out.
        exact: score every row.
        rerank: candidates scored exactly after the code scan; 0: the configured number.
        min_sequence: wait until this write is visible.
    """

    top_k: int = 10
    filter: Filter | None = None
    return_fields: Sequence[str] = ()
    exact: bool = False
    rerank: int = 0
    min_sequence: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise ArgumentInvalid(f"top_k: expected 1 to {MAX_TOP_K}, got {self.top_k}", field="params.top_k")
        if not 0 <= self.rerank <= MAX_RERANK:
            raise ArgumentInvalid(f"rerank: expected 0 to {MAX_RERANK}, got {self.rerank}", field="params.rerank")


@dataclass(frozen=True)
class SearchResult:
    """Hits a query, best first, and the newest write that was visible."""

    hits: list[list[Hit]]
    sequence: int
    model: ModelRef | None


@dataclass(frozen=True)
class UpsertResult:
    """What a write did: its sequence, the items stored, and why the others were not, by position in the batch."""

    sequence: int
    written: int
    faults: Mapping[int, BowerbirdError]


@dataclass(frozen=True)
class DeleteResult:
    """What a delete did."""

    sequence: int
    deleted: int


@dataclass(frozen=True)
class IndexInfo:
    """Description of an index; `create_time_s` in seconds since 1970 UTC."""

    name: str
    dimension: int
    code_bits: int
    model: ModelRef | None
    items: int
    sequence: int
    create_time_s: float
    backend: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class SnapshotInfo:
    """Description of a snapshot file; `create_time_s` in seconds since 1970 UTC."""

    snapshot_id: str
    index: str
    sequence: int
    items: int
    size_bytes: int
    sha256: str
    create_time_s: float


@dataclass(frozen=True)
class Shape:
    """Dimension of the embeddings and bits of the codes of one index."""

    dimension: int
    code_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise ArgumentInvalid(f"dimension: expected 1 to {MAX_DIMENSION}, got {self.dimension}", field="dimension")
        if not 0 <= self.code_bits <= MAX_CODE_BITS or self.code_bits % CODE_BITS_MULTIPLE:
            raise ArgumentInvalid(
                f"code_bits: expected a multiple of {CODE_BITS_MULTIPLE} up to {MAX_CODE_BITS}, got {self.code_bits}",
                field="code_bits",
            )

    @property
    def code_bytes(self) -> int:
        """W, bytes of one code."""
        return self.code_bits // 8


@dataclass(frozen=True)
class Record:
    """A checked item as it is stored.

    Attributes:
        row: (D,) float16, finite.
        code: (W,) uint8; empty if the index has no codes.
    """

    item_id: str
    row: HalfArray
    code: CodeArray
    fields: Mapping[str, FieldValue]


def check_index_name(name: str) -> None:
    """Raises ArgumentInvalid unless `name` can name an index."""
    if not INDEX_NAME.fullmatch(name):
        raise ArgumentInvalid(f"index name: expected {INDEX_NAME.pattern}, got {name!r}", field="name")


def check_item_id(item_id: str) -> None:
    """Raises ArgumentInvalid unless `item_id` has 1 to 512 bytes of UTF-8."""
    size = utf8_size(item_id, "item_id")
    if not 1 <= size <= MAX_ITEM_ID_BYTES:
        raise ArgumentInvalid(f"item_id: expected 1 to {MAX_ITEM_ID_BYTES} bytes, got {size}", field="item_id")


def check_items(batch: Mapping[int, Item], shape: Shape) -> tuple[dict[int, Record], dict[int, BowerbirdError]]:
    """Good items as records, and the faults of the others, by position."""
    records: dict[int, Record] = {}
    faults: dict[int, BowerbirdError] = {}
    for position, item in batch.items():
        try:
            records[position] = check_item(item, shape)
        except BowerbirdError as error:
            faults[position] = error
    return records, faults


def check_item(item: Item, shape: Shape) -> Record:
    """`item` as it will be stored.

    Raises:
        ArgumentInvalid: the id or a field is malformed.
        VectorInvalid: embedding or code is missing, has another shape or type, or float16 cannot hold a value.
    """
    check_item_id(item.item_id)
    check_fields(item.fields)
    if item.embedding is None:
        raise VectorInvalid("an item needs an embedding, got none", field="embedding")
    row = check_embeddings(item.embedding[None], shape, field="embedding")[0].astype(np.float16)
    if item.code is None:
        if shape.code_bits:
            raise VectorInvalid(f"this index needs codes of {shape.code_bits} bits, got none", field="code")
        return Record(item.item_id, row, np.empty(0, np.uint8), item.fields)
    return Record(item.item_id, row, check_codes(item.code[None], shape, field="code")[0], item.fields)


def check_embeddings(embeddings: npt.NDArray[np.floating[Any]], shape: Shape, *, field: str) -> FloatArray:
    """(N, D) float32 embeddings that fit `shape`.

    Raises:
        VectorInvalid: another dimension or data type, or a value that float16 cannot hold.
    """
    if embeddings.dtype not in (np.float32, np.float16):
        raise VectorInvalid(f"{field}: expected float32 or float16, got {embeddings.dtype}", field=field)
    if embeddings.ndim != 2 or embeddings.shape[1] != shape.dimension:
        raise VectorInvalid(
            f"{field}: this index has dimension {shape.dimension}, got shape {embeddings.shape[1:]}", field=field
        )
    if not (np.abs(embeddings) <= _LARGEST).all():  # also of a query: the products of larger ones may not be numbers
        raise VectorInvalid(f"{field}: expected values within +-{_LARGEST} (float16), got larger or NaN", field=field)
    return np.ascontiguousarray(embeddings, np.float32)


def check_codes(codes: CodeArray, shape: Shape, *, field: str) -> CodeArray:
    """(N, W) uint8 codes that fit `shape`.

    Raises:
        VectorInvalid: another number of bits or data type.
    """
    if not shape.code_bits:
        raise VectorInvalid(f"{field}: this index has no codes (code_bits is 0), got one", field=field)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != shape.code_bytes:
        raise VectorInvalid(
            f"{field}: this index has codes of {shape.code_bits} bits, got {codes.dtype} of shape {codes.shape[1:]}",
            field=field,
        )
    return np.ascontiguousarray(codes)
