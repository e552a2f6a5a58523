"""The drawn corpus: complete, repeatable, and of concepts that only its shapes tell apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from bowerbird.corpora import load, load_texts, split_of
from bowerbird.models.skin_tone import measure_tone
from pipelines.evidence import drawn


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn.build(folder)
    return folder


def test_every_concept_is_there_in_every_style(corpus: Path) -> None:
    """90 concepts in five styles, each with a picture, a record and texts."""
    records = load(corpus)
    assert len(records) == 90 * 5
    by_style = {style.name: {r.concept for r in records if r.style == style.name} for style in drawn.STYLES}
    assert len(set(map(frozenset, by_style.values()))) == 1
    assert all((corpus / record.path).is_file() for record in records)
    assert {text.picture for text in load_texts(corpus)} == {record.path for record in records}
    assert {split_of(record.concept) for record in records} == {"train", "validation", "test"}


def test_the_same_seed_draws_the_same_pictures(corpus: Path, tmp_path: Path) -> None:
    """Every file is equal byte by byte."""
    drawn.build(tmp_path)
    for record in load(corpus)[::17]:
        assert (tmp_path / record.path).read_bytes() == (corpus / record.path).read_bytes()
    assert (tmp_path / "texts.jsonl").read_bytes() == (corpus / "texts.jsonl").read_bytes()


def test_some_texts_are_wrong(corpus: Path) -> None:
    """Some tags belong to other pictures, as the noise says, and most do not."""
    tags = [text for text in load_texts(corpus) if text.field == "tags"]
    named = [Path(text.picture).stem.split("-in-") for text in tags]
    right = [shape in text.text.split(", ") for text, shapes in zip(tags, named, strict=True) for shape in shapes]
    assert 0.75 < np.mean(right) < 0.95


def test_faces_get_darker_with_their_tone(corpus: Path) -> None:
    """In every style the angle of the skin falls from tone to tone."""
    for style in drawn.STYLES:
        angles = [
            measure_tone(np.asarray(Image.open(corpus / f"pictures/{style.name}/star-face--{tone}.png"))).angle
            for tone in drawn.TONES
        ]
        assert angles == sorted(angles, reverse=True)


def test_the_training_table_has_what_tables_need(corpus: Path) -> None:
    """A row a picture, faces with their tone and without annotations."""
    table = parquet.read_table(corpus / drawn.TABLE).to_pylist()
    assert len(table) == 90 * 5 + 5 * 6 * 5
    assert all((row["tone"] is None) == bool(row["annotations"]) for row in table)
    assert all(row["split"] == split_of(row["concept"]) for row in table)
    assert all(len(row["annotations"]) == len(row["annotation_scores"]) for row in table)
