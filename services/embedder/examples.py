"""Pictures that did not train a model, with their labels, to calibrate its heads and to compare its forms on.

Legend: M pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bowerbird import images
from bowerbird.errors import BowerbirdError, ConfigInvalid
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.zoo import InputSpec
from bowerbird.training.dataset import PictureTable

from .model import ModelConfig
from .targets import read_lists
from .training_set import find_split

TRAINED_SPLIT, HELD_OUT_SPLIT = "train", "validation"


@dataclass(frozen=True)
class Examples:
    """Held-out pictures as the model takes them.

    Attributes:
        pictures: (M, 3, H, W) float32, normalised.
        labels: by column, the labels of each.
    """

    pictures: npt.NDArray[np.float32]
    labels: Mapping[str, list[list[str]]]


@dataclass(frozen=True)
class TablePlace:
    """Where a run's table is, as its configuration says; empty columns are not there."""

    table: Path
    root: Path
    picture_column: str
    split_column: str

    @classmethod
    def from_run(cls, config: Mapping[str, Any], table: Path | None = None) -> TablePlace:
        """Out of the configuration that a run wrote.

        Args:
            table: that stands in for the run's own.
        Raises:
            ConfigInvalid: there is no such section.
        """
        try:
            data = config["data"]
            path = table or Path(data["table"])
            root = Path(data.get("root") or ".")
            return cls(
                path,
                path.parent if root == Path() else root,
                str(data.get("picture_column", "picture")),
                str(data.get("split_column", "split")),
            )
        except (KeyError, TypeError) as error:
            raise ConfigInvalid(f"the run's config.json does not say where its table is: {error}") from error

    def read(self, columns: Sequence[str]) -> PictureTable:
        """The table with these columns and the split. Raises ArgumentInvalid as `PictureTable.from_file`."""
        wanted = sorted({*columns, self.split_column} - {""})
        return PictureTable.from_file(self.table, root=self.root, picture_column=self.picture_column, columns=wanted)


def read_examples(place: TablePlace, config: ModelConfig, *, limit: int) -> Examples:
    """The held-out pictures of a table, at most `limit`, spread evenly.

    Raises:
        ConfigInvalid: there are none that can be read.
    """
    columns = sorted({task.column for task in config.tasks})
    table = place.read(columns)
    rows = find_split(table, place.split_column, HELD_OUT_SPLIT)
    if len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
    height, width = config.backbone.image_size
    spec = InputSpec(width, height, "rgb", config.mean, config.std)
    kept, batches = [], []
    for row in rows.tolist():
        try:
            pixels = images.decode(table.read(row), min_side=max(height, width)).pixels
        except BowerbirdError:
            continue
        kept.append(row)
        batches.append(make_batch([pixels], spec))
    if not kept:
        raise ConfigInvalid(
            f"{place.table} has no picture in the split {HELD_OUT_SPLIT!r} that can be read; name another table with "
            "--table, or leave the scores as they are with --no-calibration"
        )
    labels = {column: read_lists(table.select(kept), column) for column in columns}
    return Examples(np.concatenate(batches), labels)
