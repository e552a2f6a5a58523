"""A training table as Parquet, and what it holds in a few lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.corpora.files import replace_file
from bowerbird.errors import ArgumentInvalid
from pipelines.training_table.rows import Columns

METADATA_KEY = b"bowerbird.training_table"
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_TYPES = {
    **dict.fromkeys(("picture", "style", "concept", "family", "category", "tone", "split", "style_split"), _TEXT),
    **dict.fromkeys(("annotations", "clusters"), _TEXTS),
    "annotation_scores": pa.list_(pa.float32()),
}


def write_table(path: Path, columns: Columns, made_from: Mapping[str, Any]) -> str:
    """Version of the table that `path` holds now: a hash of its content and of what it was made from.

    Raises:
        ArgumentInvalid: a column has values of several types.
    """
    arrays = {name: _make_array(name, values) for name, values in columns.items()}
    content = json.dumps([columns, dict(made_from)], sort_keys=True, default=str).encode()
    version = hashlib.sha256(content).hexdigest()[:12]
    metadata = {METADATA_KEY: json.dumps({"version": version, **made_from})}
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), buffer, compression="zstd")
    replace_file(path, buffer.getvalue().to_pybytes())
    return version


def _make_array(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, _TYPES.get(name))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ArgumentInvalid(f"column `{name}`: expected values of one type: {error}", field=name) from error


def format_summary(columns: Columns) -> str:
    """A row a side of the split: its pictures, and the different values of every label column."""
    labels = [name for name in columns if name not in ("picture", "split", "style_split", "annotation_scores")]
    sides = sorted(set(columns["split"]), key=lambda side: (-columns["split"].count(side), side))
    lines = ["  ".join([f"{'split':<12}", f"{'pictures':>9}", *(f"{name:>12}" for name in labels)])]
    for side in [*sides, ""]:
        rows = [row for row, value in enumerate(columns["split"]) if side in (value, "")]
        cells = [f"{_count_values(columns[name], rows):>12,}" for name in labels]
        lines.append("  ".join([f"{side or 'all':<12}", f"{len(rows):>9,}", *cells]))
    return "\n".join(lines)


def _count_values(column: list[Any], rows: list[int]) -> int:
    values = (column[row] for row in rows)
    return len({item for value in values for item in (value if isinstance(value, list) else [value])} - {None, ""})
