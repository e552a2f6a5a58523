"""Annotations and clusters joined to the rows of a training table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bowerbird.errors import ArgumentInvalid
from bowerbird.training.dataset import PictureTable
from pipelines.clusters import Clusters
from pipelines.training_table.rows import Columns

Annotations = dict[str, list[tuple[str, float]]]  # (term, score) by picture, best first


def read_annotations(path: Path) -> Annotations:
    """Terms of each picture of a table `(picture, term, score)`; a term twice counts with its better score.

    Raises:
        ArgumentInvalid: the table cannot be read, lacks a column, or a row has no term or no score.
    """
    table = PictureTable.from_file(path, columns=["term", "score"])
    found: dict[str, dict[str, float]] = {}
    rows = zip(table.paths, table.column("term"), table.column("score"), strict=True)
    for number, (picture, term, score) in enumerate(rows):
        if not isinstance(term, str) or not term:
            raise ArgumentInvalid(f"{path}, row {number}: expected a `term`, got {term!r}")
        terms = found.setdefault(picture, {})
        terms[term] = max(_read_score(score, path, number), terms.get(term, 0.0))
    return {picture: sorted(terms.items(), key=lambda item: (-item[1], item[0])) for picture, terms in found.items()}


def _read_score(value: Any, path: Path, row: int) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if not 0 <= score <= 1:
        raise ArgumentInvalid(f"{path}, row {row}: expected a `score` in [0, 1], got {value!r}")
    return score


def join_annotations(columns: Columns, annotations: Annotations) -> int:
    """Number of annotated pictures that the table lacks, after adding columns `annotations` and `annotation_scores`."""
    of_rows = [annotations.get(picture, []) for picture in columns["picture"]]
    columns["annotations"] = [[term for term, _ in of_row] for of_row in of_rows]
    columns["annotation_scores"] = [[score for _, score in of_row] for of_row in of_rows]
    return len(annotations.keys() - set(columns["picture"]))


def join_clusters(columns: Columns, clusters: Clusters, *, label_column: str) -> None:
    """Add the column `clusters`: those of each picture's labels.

    Raises:
        ArgumentInvalid: there is no such column.
    """
    if label_column not in columns:
        raise ArgumentInvalid(f"clusters need the labels that they are of: expected a column `{label_column}`")
    columns["clusters"] = [clusters.map(_list(value)) for value in columns[label_column]]


def _list(value: Any) -> Sequence[str]:
    if value is None:
        return []
    return value if isinstance(value, list) else [str(value)]
