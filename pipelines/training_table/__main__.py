"""Build the table that an embedder trains on, and say what is in it.

    python -m pipelines.training_table demo --annotations demo/annotations.parquet --clusters demo/clusters.parquet
    python -m pipelines.training_table shop.csv --picture-column image --split-by product --out shop.parquet

The first reads a corpus as `python -m bowerbird.corpora` builds it, the second a table of your own: Parquet, JSON lines
or CSV. The columns of your own table stay, and every one of them may be a task of training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bowerbird.corpora import UNSEEN_STYLE
from bowerbird.errors import ArgumentInvalid, BowerbirdError
from pipelines.clusters import read_clusters
from pipelines.training_table.files import format_summary, write_table
from pipelines.training_table.labels import join_annotations, join_clusters, read_annotations
from pipelines.training_table.rows import Columns, drop_missing, read_corpus, read_table

TABLE_FILE = "training.parquet"
SHOWN = 5  # missing pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 refused."""
    options = _parse(arguments)
    try:
        columns, notes = _build(options)
        out = options.out or options.pictures / TABLE_FILE
        version = write_table(out, columns, _list_inputs(options))
    except BowerbirdError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    print("\n".join([format_summary(columns), *notes, f"-> {out}, version {version}"]))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.training_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", type=Path, help="a corpus directory, or a table of pictures")
    parser.add_argument("--out", type=Path, help=f"default, for a corpus: {TABLE_FILE} in its directory")
    parser.add_argument("--annotations", type=Path, help="table with columns picture, term and score")
    parser.add_argument("--clusters", type=Path, help="of the annotations, as python -m pipelines.clusters writes them")
    corpus = parser.add_argument_group("of a corpus")
    corpus.add_argument("--held-out-style", default=UNSEEN_STYLE, help="never trains; default: %(default)s; '': none")
    corpus.add_argument(
        "--without-sources", type=_split, default=(), metavar="A,B", help="left out, for example for their licence"
    )
    table = parser.add_argument_group("of a table")
    table.add_argument("--root", type=Path, help="of the pictures' paths; default: the folder of the table")
    table.add_argument("--picture-column", default="picture", help="default: %(default)s")
    table.add_argument("--split-by", default="", help="column whose equal values stay together, such as a product id")
    table.add_argument("--label-column", default="annotations", help="that clusters are of; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.out is None and not options.pictures.is_dir():
        parser.error("--out: needed, unless the pictures are a corpus directory")
    return options


def _split(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _build(options: argparse.Namespace) -> tuple[Columns, list[str]]:
    """Columns of the table, and what is to be said about them."""
    if options.pictures.is_dir():
        root = options.pictures
        columns = read_corpus(root, held_out_style=options.held_out_style, without_sources=options.without_sources)
    else:
        root = options.root or options.pictures.parent
        columns = read_table(options.pictures, picture_column=options.picture_column, split_by=options.split_by)
    columns, missing = drop_missing(columns, root)
    if not columns["picture"]:
        raise ArgumentInvalid(f"{options.pictures}: none of its {len(missing)} pictures is a file below {root}")
    notes = []
    if missing:
        notes.append(f"left out {len(missing):,} whose pictures are not there: {', '.join(missing[:SHOWN])}")
    if options.annotations:
        strangers = join_annotations(columns, read_annotations(options.annotations))
        bare = sum(not terms for terms in columns["annotations"])
        notes.append(f"{bare:,} pictures have no annotation; {strangers:,} annotated pictures are not in the table")
    if options.clusters:
        join_clusters(columns, read_clusters(options.clusters), label_column=options.label_column)
    return columns, notes


def _list_inputs(options: argparse.Namespace) -> dict[str, Any]:
    """What the table was made from, to be kept in it."""
    inputs: dict[str, Any] = {"pictures": options.pictures.name}
    if options.pictures.is_dir():
        inputs["held_out_style"] = options.held_out_style
        inputs["without_sources"] = list(options.without_sources)
    elif options.split_by:
        inputs["split_by"] = options.split_by
    if options.annotations:
        inputs["annotations"] = options.annotations.name
    if options.clusters:
        inputs["clusters"] = read_clusters(options.clusters).metadata["version"]
    return inputs


if __name__ == "__main__":
    sys.exit(main())
