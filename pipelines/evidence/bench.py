"""What the arms of all tables share: the pictures with every column that an arm trains on, and a place for trainings.

A training is known by a digest of its whole configuration and of the table, so two tables that ask for the same one get
it once, and a stopped one goes on where it was. Trainings stay outside git.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bowerbird import images
from bowerbird.corpora import UNSEEN_STYLE, concept_family
from bowerbird.errors import ArgumentInvalid
from bowerbird.training.augment import Evaluate
from bowerbird.training.dataset import PictureTable
from bowerbird.training.run import StopSignal

from .examine import BoolArray, FloatArray, Subjects
from .recipes import Recipe
from .results import digest

TRAIN, TEST = "train", "test"
COMPARED_STYLES = ("noto", "twemoji", "openmoji", "fluent-flat", "fluent", "emojione", "noto-v1")
SIDE = "side"  # the split column of all arms but those on skin tones
NO_LABEL = "(none)"
NEEDED = ("picture", "style", "concept", "category", "tone", "annotations", "annotation_scores", "split")
BATCH = 128


class Stopped(Exception):  # noqa: N818 (a message, not a fault)
    """The user or the budget asked to stop; what was done so far is kept."""


@dataclass(frozen=True)
class Place:
    """Where a bench reads and writes.

    Attributes:
        table: the training table, Parquet; see `NEEDED`.
        root: of its pictures.
        work: for trainings, features and derived tables; outside git.
    """

    table: Path
    root: Path
    work: Path


class Bench:
    """The pictures, the recipe, and what was trained so far.

    Attributes:
        columns: of the table, N values each; those that arms train on are added to them.
        examined: (N,) bool: the pictures that measures look at; only these need a representation.
    """

    def __init__(
        self,
        place: Place,
        recipe: Recipe,
        stop: StopSignal,
        *,
        held_out: str = UNSEEN_STYLE,
        compared: Sequence[str] = COMPARED_STYLES,
    ) -> None:
        """
        Args:
            stop: set when the user or the budget asks to stop.
            held_out: style that no arm trains on.
            compared: styles of cross-style retrieval, with the held-out one.
        Raises:
            ArgumentInvalid: the table cannot be read, or lacks a column.
        """
        self.place, self.recipe, self.stop = place, recipe, stop
        self.held_out, self.compared = held_out, tuple(compared)
        self.columns = read_columns(place.table)
        self.columns[SIDE] = [
            TEST if style == held_out else side
            for style, side in zip(self.columns["style"], self.columns["split"], strict=True)
        ]
        self.examined = self.subjects.is_test | (self.is_toned & (np.array(self.columns["style"]) == held_out))
        self._derived: Path | None = None

    def check_stop(self) -> None:
        """Nothing, until the user or the budget asks to stop.

        Raises:
            Stopped: one of them did.
        """
        if self.stop.number:
            raise Stopped

    def add_column(self, name: str, values: Sequence[Any]) -> None:
        """A further column for arms to train on; to be added before the first of them trains."""
        assert self._derived is None, "the table was written already"
        self.columns[name] = list(values)

    @cached_property
    def subjects(self) -> Subjects:
        """The pictures as measures see them."""
        columns = self.columns
        return Subjects(
            styles=[value or "" for value in columns["style"]],
            concepts=[value or "" for value in self.plain_concepts],
            labels=[
                [] if tone else own or [] for own, tone in zip(columns["annotations"], columns["tone"], strict=True)
            ],
            is_test=(np.array(columns["split"]) == TEST) & ~self.is_toned,
            trains=np.array(columns[SIDE]) == TRAIN,
            held_out=self.held_out,
            compared=self.compared,
        )

    @cached_property
    def is_toned(self) -> BoolArray:
        """(N,) bool: the picture is drawn in a skin tone."""
        return np.array([tone is not None for tone in self.columns["tone"]])

    @cached_property
    def plain_concepts(self) -> list[str | None]:
        """The concept of each picture, None for those in a skin tone: a concept is one picture a style."""
        return [
            None if tone else concept
            for concept, tone in zip(self.columns["concept"], self.columns["tone"], strict=True)
        ]

    @cached_property
    def families(self) -> list[str]:
        """Family of each picture's concept, the unit that is resampled; the picture itself where it has none."""
        names = zip(self.columns["concept"], self.columns["picture"], strict=True)
        return [concept_family(concept) if concept else picture for concept, picture in names]

    @cached_property
    def pictures(self) -> PictureTable:
        """The table, to read pictures from."""
        return PictureTable.from_file(self.place.table, root=self.place.root, columns=())

    @property
    def table(self) -> Path:
        """The table with all derived columns, written when it is first asked for."""
        if self._derived is None:
            path = self.place.work / f"table-{self.table_digest}.parquet"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(".tmp")
                parquet.write_table(pa.table(self.columns), temporary)
                temporary.replace(path)
            self._derived = path
        return self._derived

    @cached_property
    def table_digest(self) -> str:
        """Of all columns and their order of rows; pictures are known by their paths."""
        return digest(self.columns)

    def prepare(self, rows: Sequence[int], size: int, mean: Sequence[float], std: Sequence[float]) -> FloatArray:
        """(n, 3, size, size) float32: pictures as a served model would get them."""
        transform = Evaluate(size, mean=mean, std=std)
        pixels = [images.decode(self.pictures.read(row), min_side=transform.min_side).pixels for row in rows]
        return np.ascontiguousarray(transform(pixels, np.asarray(rows, np.int64), 0).numpy())


def read_columns(file: Path) -> dict[str, list[Any]]:
    """The columns of a training table as lists.

    Raises:
        ArgumentInvalid: it cannot be read, or lacks a column.
    """
    try:
        table = parquet.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArgumentInvalid(f"cannot read the training table {file}: {error}") from error
    if missing := sorted(set(NEEDED) - set(table.column_names)):
        raise ArgumentInvalid(
            f"{file} lacks the columns {', '.join(missing)}; make it with `python -m pipelines.training_table`"
        )
    return {name: table.column(name).to_pylist() for name in table.column_names}


def mask_rare(concepts: Sequence[str | None], sides: Sequence[str], *, least: int = 2) -> list[str | None]:
    """The concepts that stand on several training pictures: the others cannot teach what to overlook."""
    counts = Counter(concept for concept, side in zip(concepts, sides, strict=True) if side == TRAIN)
    return [concept if concept and counts[concept] >= least else None for concept in concepts]


def keep_share(concepts: Sequence[str | None], share: float) -> list[str | None]:
    """The concepts of a share of the families, always the same ones: a smaller share is part of a larger one."""
    return [concept if concept and _place_of(concept) < share else None for concept in concepts]


def _place_of(concept: str) -> float:
    """Number in [0, 1) of a concept's family, independent of the split."""
    return int(hashlib.sha256(f"share {concept_family(concept)}".encode()).hexdigest()[:8], 16) / 2**32


def fill_missing(values: Sequence[str | None], label: str = NO_LABEL) -> list[str]:
    """Every picture with a label: the control of masks, in which a missing label is a class of its own."""
    return [value or label for value in values]
