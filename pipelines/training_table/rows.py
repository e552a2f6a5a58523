"""Rows of a training table: from a corpus directory, or from a user's own table of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bowerbird.corpora import PictureRecord, ToneRecord, concept_family, load, load_tones, side_of
from bowerbird.corpora.records import TONES_FILE
from bowerbird.corpora.splits import SPLITS
from bowerbird.errors import ArgumentInvalid
from bowerbird.training.dataset import PictureTable

UNSEEN = "unseen-style"  # in `split`: a picture of a concept that trains, in the style that is held out
Columns = dict[str, list[Any]]  # of the same length


def read_corpus(directory: Path, *, held_out_style: str, without_sources: Sequence[str] = ()) -> Columns:
    """Columns `picture`, `style`, `concept`, `family`, `category`, `tone`, `split` and `style_split`.

    `tones.jsonl` is read too if it is there; `tone` is None for all other pictures. `split` is the side of the
    concept's family. What is drawn in the held-out style never trains or validates: it tests if its concept does, and
    is `unseen-style` otherwise. `style_split` forgets concepts: `test` for the held-out style, `train` for the others.

    Args:
        held_out_style: empty: none.
        without_sources: of the manifest, whose pictures are left out.
    Raises:
        ArgumentInvalid: this is no corpus directory, or no picture has the held-out style or one of the sources.
    """
    records: list[PictureRecord] = [*load(directory)]
    if (directory / TONES_FILE).exists():
        records += load_tones(directory)
    sources = {record.source for record in records}
    if strange := sorted(set(without_sources) - sources):
        raise ArgumentInvalid(f"sources: expected some of {', '.join(sorted(sources))}, got {', '.join(strange)}")
    records = [record for record in records if record.source not in without_sources]
    styles = sorted({record.style for record in records})
    if held_out_style and held_out_style not in styles:
        raise ArgumentInvalid(f"held-out style: expected one of {', '.join(styles)}, got {held_out_style!r}")
    families = [concept_family(record.concept) for record in records]
    held_out = [bool(held_out_style) and record.style == held_out_style for record in records]
    return {
        "picture": [record.path for record in records],
        "style": [record.style for record in records],
        "concept": [record.concept for record in records],
        "family": families,
        "category": [record.category for record in records],
        "tone": [record.tone if isinstance(record, ToneRecord) else None for record in records],
        "split": [_choose_side(family, unseen) for family, unseen in zip(families, held_out, strict=True)],
        "style_split": ["test" if unseen else "train" for unseen in held_out],
    }


def _choose_side(family: str, held_out: bool) -> str:
    side = side_of(family)
    return UNSEEN if held_out and side != "test" else side


def read_table(path: Path, *, picture_column: str, split_by: str) -> Columns:
    """All columns of a user's table, with its pictures as `picture`, and `split`.

    Args:
        path: `.parquet`, `.jsonl` or `.csv`; see `bowerbird.training.dataset.PictureTable`.
        picture_column: of the pictures' paths.
        split_by: rows with the same value of this column stand on the same side, by its hash; empty: the table's own
            `split` if it has one, else every picture stands for itself.
    Raises:
        ArgumentInvalid: the table cannot be read, lacks a column, or its `split` says something else.
    """
    table = PictureTable.from_file(path, picture_column=picture_column)
    labels = {name: _even_out(table.column(name)) for name in table.columns if name != "picture"}
    columns: Columns = {"picture": table.paths, **labels}
    if not split_by and "split" in columns:
        _check_split(columns["split"], path)
        return columns
    keys: Sequence[Any] = columns["picture"]
    if split_by and split_by != picture_column:
        keys = table.column(split_by)
    columns["split"] = [
        side_of(str(picture if key is None else key)) for picture, key in zip(table.paths, keys, strict=True)
    ]
    return columns


def _even_out(values: list[Any]) -> list[Any]:
    """The values of a column, all of them lists if one is: CSV writes a list of one like a single value."""
    if not any(isinstance(value, list) for value in values):
        return values
    return [value if isinstance(value, list) else [] if value is None else [value] for value in values]


def _check_split(values: Sequence[Any], path: Path) -> None:
    for row, value in enumerate(values):
        if value not in SPLITS:
            raise ArgumentInvalid(
                f"{path}, row {row}: expected {', '.join(SPLITS)} in `split`, got {value!r}; correct it, or name a "
                "column to split by"
            )


def drop_missing(columns: Columns, root: Path) -> tuple[Columns, list[str]]:
    """The rows whose pictures are files below `root`, and the pictures of the others."""
    there = [(root / picture).is_file() for picture in columns["picture"]]
    kept = {
        name: [value for value, keep in zip(values, there, strict=True) if keep] for name, values in columns.items()
    }
    return kept, [picture for picture, keep in zip(columns["picture"], there, strict=True) if not keep]
