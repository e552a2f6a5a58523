"""`SOURCES.md`: who made the pictures of a corpus directory, and under which licence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bowerbird.corpora.fetching import FetchedSource
from bowerbird.corpora.files import replace_file

CREDITS_FILE = "SOURCES.md"
_HEAD = """# Sources of these pictures

Each picture keeps the licence of its source; `pictures.jsonl` repeats licence and attribution for every picture.
Drawings were rendered to PNG and photographs made smaller; nothing else was changed. Whoever passes pictures on has to
pass on attribution and licence with them, and to share alike where the licence says so (CC-BY-SA, GPL).

| folder | made by | licence | package | version | originals |
|---|---|---|---|---|---|
"""


def write_credits(directory: Path, fetched: Iterable[FetchedSource]) -> Path:
    """Path of the `SOURCES.md` that now credits these sources."""
    rows = []
    for result in fetched:
        source = result.source
        package = f"{source.registry}: {source.package} | {result.version}"
        rows.append(f"| {source.name} | {source.attribution} | {source.licence} | {package} | <{source.homepage}> |\n")
    return replace_file(directory / CREDITS_FILE, (_HEAD + "".join(rows)).encode())
