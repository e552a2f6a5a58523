"""Clusters as a Parquet table `label, cluster, pictures`, with their version and settings beside the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.corpora.files import replace_file
from bowerbird.errors import ArgumentInvalid
from pipelines.clusters.labels import Clusters

METADATA_KEY = b"bowerbird.clusters"
_SCHEMA = {"label": pa.string(), "cluster": pa.string(), "pictures": pa.int64(), "cluster_pictures": pa.int64()}


def write_clusters(path: Path, clusters: Clusters) -> Path:
    """`path`, which holds the clusters now, one row a label, in order of cluster size and label."""
    order = sorted(
        clusters.cluster_of.items(),
        key=lambda item: (-clusters.sizes[item[1]], item[1], -clusters.pictures[item[0]], item[0]),
    )
    columns = {
        "label": [label for label, _ in order],
        "cluster": [cluster for _, cluster in order],
        "pictures": [clusters.pictures[label] for label, _ in order],
        "cluster_pictures": [clusters.sizes[cluster] for _, cluster in order],
    }
    schema = pa.schema(_SCHEMA.items(), metadata={METADATA_KEY: json.dumps(clusters.metadata)})
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
    return replace_file(path, buffer.getvalue().to_pybytes())


def read_clusters(path: Path) -> Clusters:
    """What `write_clusters` wrote.

    Raises:
        ArgumentInvalid: there is no such file, or it is not a table of clusters.
    """
    try:
        table = pq.read_table(path)
        metadata = json.loads(table.schema.metadata[METADATA_KEY])
        rows = {name: table.column(name).to_pylist() for name in _SCHEMA}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ArgumentInvalid(
            f"{path}: expected clusters as `python -m pipelines.clusters` writes them: {error}"
        ) from error
    return Clusters(
        dict(zip(rows["label"], rows["cluster"], strict=True)),
        dict(zip(rows["label"], rows["pictures"], strict=True)),
        dict(zip(rows["cluster"], rows["cluster_pictures"], strict=True)),
        metadata,
    )
