"""Pack a table and its pictures into tar shards, which the embedder trains on, and which webdataset streams.

    python -m pipelines.shards demo/training.parquet --out demo/shards

Every sample holds its picture as it is and a JSON object with the columns of its row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bowerbird.errors import BowerbirdError
from bowerbird.training.shards import PICTURES_PER_SHARD, open_table, write_shards


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 refused."""
    options = _parse(arguments)
    try:
        table = open_table(options.table, root=options.root, picture_column=options.picture_column)
        paths = write_shards(table, options.out, prefix=options.prefix, pictures_per_shard=options.pictures_per_shard)
    except BowerbirdError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    size = sum(path.stat().st_size for path in paths)
    print(f"{len(table):,} pictures -> {len(paths)} shards in {options.out}, {size / 2**20:,.1f} MiB")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.shards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="Parquet, JSON lines or CSV")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--root", type=Path, help="of the pictures' paths; default: the folder of the table")
    parser.add_argument("--picture-column", default="picture", help="default: %(default)s")
    parser.add_argument("--prefix", default="shard", help="of the file names; default: %(default)s")
    parser.add_argument("--pictures-per-shard", type=int, default=PICTURES_PER_SHARD, help="default: %(default)s")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
