"""Files that appear whole or not at all, Parquet among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.corpora.files import replace_file


def write_text(path: Path, text: str) -> Path:
    """`path`, which holds exactly `text` now."""
    return replace_file(path, text.encode())


def write_parquet(path: Path, table: pa.Table, metadata: Mapping[bytes, bytes]) -> Path:
    """`path`, which holds `table` now, with `metadata` beside its schema."""
    with replacing_parquet(path, table.schema.with_metadata(dict(metadata))) as writer:
        writer.write_table(table.replace_schema_metadata(dict(metadata)))
    return path


@contextmanager
def replacing_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of a table that takes the place of `path` at the end, and leaves it alone if anything goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
