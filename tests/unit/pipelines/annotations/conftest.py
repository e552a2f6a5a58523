"""A small world of pictures: what they show is their label, and half of the words in their tags are noise."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipelines.annotations.dictionary import Dictionary, Term
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.tables import TextRow

THINGS = ("apple", "boat", "cat", "dog", "egg", "fish", "goat", "house", "island", "jar", "kite", "lamp")
NOISE = ("free", "vector", "download", "nice", "image", "stock")


def make_rows(pictures: int, *, seed: int = 0) -> list[TextRow]:
    """Texts of pictures in English: the title names a thing, tags name it with noise around, keywords only noise."""
    generator = random.Random(seed)
    rows = []
    for number in range(pictures):
        thing, other = generator.sample(THINGS, 2)
        noise = generator.sample(NOISE, 3)
        picture = f"{number}.png"
        rows += [
            TextRow(picture, "title", f"a {thing} and things", "en"),
            TextRow(picture, "tags", ", ".join([thing, noise[0]]), "en"),
            TextRow(
                picture, "keywords", ", ".join([noise[1], noise[2], other if number % 10 == 0 else noise[0]]), "en"
            ),
        ]
    return rows


def make_dictionary(*terms: str, language: str = "en", documents: int = 100) -> Dictionary:
    """A dictionary of terms that are all in 10 of the documents."""
    return Dictionary([Term(term, language, {term: 10}, 10) for term in terms], {language: documents})


@pytest.fixture
def english() -> LanguageDetector:
    return LanguageDetector(["en"])


@pytest.fixture
def write_texts(tmp_path: Path) -> Iterator[object]:
    def write(rows: Iterable[TextRow], name: str = "texts.jsonl") -> Path:
        lines = (
            json.dumps({"picture": row.picture, "field": row.field, "text": row.text, "language": row.language})
            for row in rows
        )
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write
