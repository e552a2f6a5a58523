"""Raw words about the pictures of a corpus: one line of JSON a text, in `texts.jsonl` beside the pictures.

JSON lines, not Parquet, because the file belongs to every corpus and pyarrow does not to every installation. Whoever
derives labels from it writes Parquet.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from bowerbird.corpora.files import replace_file
from bowerbird.errors import ArgumentInvalid

TEXTS_FILE = "texts.jsonl"


@dataclasses.dataclass(frozen=True)
class TextRecord:
    """Some words about one picture.

    Attributes:
        picture: its path, as in its `PictureRecord`.
        field: where the words stood, e.g. `title`, `tags`, `keywords:de`; see `bowerbird.corpora.originals.Text`.
        language: ISO 639-1 code if the source says so, else empty.
        text: one line, as its author left it.
    """

    picture: str
    field: str
    language: str
    text: str


_FIELDS = {field.name for field in dataclasses.fields(TextRecord)}


def save_texts(directory: Path, texts: Iterable[TextRecord]) -> Path:
    """Path of the `texts.jsonl` that now holds `texts`; readers see the old file or the new one, never a part."""
    lines = (json.dumps(vars(text), ensure_ascii=False) + "\n" for text in texts)
    return replace_file(directory / TEXTS_FILE, "".join(lines).encode())


def load_texts(directory: Path) -> list[TextRecord]:
    """Texts of a corpus directory, in file order.

    Raises:
        ArgumentInvalid: there is no `texts.jsonl`, or one of its lines is not a text; names file and line.
    """
    file = directory / TEXTS_FILE
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise ArgumentInvalid(
            f"expected a readable {file}, got: {error.strerror}; build the corpus again with `python -m "
            "bowerbird.corpora`, which keeps the pictures that are there"
        ) from error
    return [_parse(line, f"{file}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _parse(line: bytes, where: str) -> TextRecord:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise ArgumentInvalid(f"{where}: expected a line of JSON: {error}") from error
    if not isinstance(raw, dict) or set(raw) != _FIELDS or not all(isinstance(value, str) for value in raw.values()):
        raise ArgumentInvalid(f"{where}: expected an object of the strings {', '.join(sorted(_FIELDS))}, got {raw!r}")
    return TextRecord(**raw)
