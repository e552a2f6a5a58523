"""Cluster the labels of a table of pictures, so that rare labels learn together with what means nearly the same.

    python -m pipelines.clusters demo/annotations.parquet --out demo/clusters.parquet
    python -m pipelines.clusters demo/pictures.jsonl --picture-column path --label-column tags --out clusters.parquet

The table is Parquet, JSON lines or CSV; one row a picture with a list of labels, or one row a picture and label.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bowerbird.errors import ArgumentInvalid, BowerbirdError
from bowerbird.training.dataset import PictureTable
from pipelines.clusters.files import write_clusters
from pipelines.clusters.labels import CONTROLS, Clusters, ClusterSettings, cluster_labels
from pipelines.text_encoder import open_text_encoder

SHOWN = 12  # clusters, and labels of each


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 refused."""
    options = _parse(arguments)
    try:
        settings = ClusterSettings(
            options.share, options.min_pictures, options.max_pictures, options.seed, options.control, options.noise
        )
        labels = read_labels(options.table, options.picture_column, options.label_column)
        encoder = open_text_encoder(options.cache)
        clusters = cluster_labels(labels, encoder.encode, settings, encoder_sha256=encoder.sha256)
        write_clusters(options.out, clusters)
    except BowerbirdError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    print(format_report(clusters))
    print(f"-> {options.out}, version {clusters.metadata['version']}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    defaults = ClusterSettings()
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.clusters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="pictures and labels")
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--picture-column", default="picture", help="default: %(default)s")
    parser.add_argument("--label-column", default="term", help="default: %(default)s")
    parser.add_argument("--share", type=float, default=defaults.share, help="clusters per label; default: %(default)s")
    parser.add_argument("--min-pictures", type=int, default=defaults.min_pictures, help="default: %(default)s")
    parser.add_argument("--max-pictures", type=int, default=defaults.max_pictures, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    parser.add_argument(
        "--control",
        choices=CONTROLS,
        default=defaults.control,
        help="what must not help: clusters of the same sizes filled by chance, or clusters of noisy vectors",
    )
    parser.add_argument("--noise", type=float, default=defaults.noise, help="of that control; default: %(default)s")
    parser.add_argument("--cache", type=Path, help="packages; default: as for python -m bowerbird.corpora")
    return parser.parse_args(arguments)


def read_labels(path: Path, picture_column: str, label_column: str) -> list[list[str]]:
    """The labels of each picture, in order of first appearance.

    Raises:
        ArgumentInvalid: the table cannot be read, lacks a column, or a label is not a text.
    """
    table = PictureTable.from_file(path, picture_column=picture_column, columns=[label_column])
    labels: dict[str, list[str]] = {}
    for picture, value in zip(table.paths, table.column(label_column), strict=True):
        of_picture = labels.setdefault(picture, [])
        for label in value if isinstance(value, list) else [value]:
            if label is not None and not isinstance(label, str):
                raise ArgumentInvalid(f"{path}: expected texts in `{label_column}`, got {label!r} for {picture}")
            of_picture += [label] if label else []
    return list(labels.values())


def format_report(clusters: Clusters) -> str:
    """How many there are, how large, and what is in some of those with the most labels."""
    members: dict[str, list[str]] = {}
    for label, cluster in clusters.cluster_of.items():
        members.setdefault(cluster, []).append(label)
    sizes = sorted(clusters.sizes.values())
    alone = sum(len(labels) == 1 for labels in members.values())
    lines = [
        f"{len(clusters.cluster_of):,} labels in {len(sizes):,} clusters, {alone:,} of them of one label",
        f"pictures a cluster: {sizes[0]:,} at least, {sizes[len(sizes) // 2]:,} in the middle, {sizes[-1]:,} at most",
    ]
    for name in sorted(members, key=lambda name: (-len(members[name]), name))[:SHOWN]:
        shown = sorted(members[name], key=lambda label: (-clusters.pictures[label], label))[:SHOWN]
        lines.append(f"{clusters.sizes[name]:>7,}  {', '.join(shown)}{', ...' * (len(members[name]) > SHOWN)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
