"""Answers as people read them: tables, sizes, times; and as programs read them: one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

FieldValue = str | int | float | bool

MAX_CELL = 48
# Fields of a hit worth showing beside its id, if it has them.
SHOWN_FIELDS = ("title", "style", "category", "source")


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str] = (), indent: str = "  ") -> str:
    """Rows in aligned columns; numbers to the right, long texts cut."""
    texts = [[_cell(value) for value in row] for row in rows]
    if header:
        texts.insert(0, list(header))
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numeric = [all(isinstance(row[n], (int, float)) for row in rows) for n in range(len(widths))]
    return "\n".join(
        indent
        + "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in texts
    )


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def format_size(size_bytes: float) -> str:
    """`812 B`, `3.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def format_timings(timings: Sequence[tuple[str, float]]) -> str:
    """`embed 8.1, search 0.4 ms`; see `main_stages`."""
    sums = main_stages(timings)
    return ", ".join(f"{stage} {seconds * 1e3:.1f}" for stage, seconds in sums.items()) + " ms" if sums else ""


def main_stages(timings: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Seconds by stage, without the stages inside a stage (`embed.decode`); those of the same name are added up."""
    sums: dict[str, float] = {}
    for stage, seconds in timings:
        if "." not in stage:
            sums[stage] = sums.get(stage, 0.0) + seconds
    return sums


def name_of(item_id: str, fields: Mapping[str, FieldValue]) -> str:
    """What to call an item: its title, else its name, else its id."""
    return str(fields.get("title") or fields.get("name") or item_id)


def notes_of(fields: Mapping[str, FieldValue]) -> str:
    """The telling fields of an item besides its name, parted by dots, none twice."""
    return " · ".join(dict.fromkeys(str(fields[name]) for name in SHOWN_FIELDS[1:] if fields.get(name)))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
