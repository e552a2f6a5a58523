"""The result sheet: one HTML file with queries and their results side by side, needing nothing outside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path

from PIL import Image, ImageOps

from bowerbird.boxes import Region
from bowerbird.cli.show import main_stages

FieldValue = str | int | float | bool
Timings = Sequence[tuple[str, float]]

TILE_PX = 224
QUERY_PX = 440
PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg")
MARK = """<svg viewBox="0 0 26 26" fill="none" stroke="currentColor" stroke-linecap="round" aria-hidden="true">
<path d="M4 22C4 11 9 4 13 4s9 7 9 18" stroke-width="2.4"/>
<path d="M9 22c0-7 2-11 4-11s4 4 4 11" stroke-width="2" opacity=".55"/>
<circle cx="13" cy="20.5" r="2.5" fill="currentColor" stroke="none"/>
</svg>"""


@dataclass(frozen=True)
class Result:
    """One picture that was found.

    Attributes:
        title: what it is called.
        note: where it is from, in a word or two.
        score: cosine, in [-1, 1].
        image: data URI; empty if the file is not on this machine.
        matches: marked as what was looked for.
        photograph: fills its tile, where drawings keep a margin.
        credit: maker and licence; empty if unknown.
    """

    title: str
    note: str
    score: float
    image: str
    matches: bool = False
    photograph: bool = False
    credit: str = ""


@dataclass(frozen=True)
class Search:
    """One query beside its results.

    Attributes:
        label: kind of the query, a word or two.
        title: what was asked.
        note: one line more.
        image: data URI of the query picture.
        photograph: fills its frame, where drawings keep a margin.
        region: the part that was searched; None: all of it.
        command: the command line that repeats it.
        seconds: as the caller saw it.
        timings: stages inside the services and their seconds.
        credit: maker and licence of the query picture; empty if unknown.
    """

    label: str
    title: str
    note: str
    image: str
    results: Sequence[Result]
    photograph: bool = False
    region: Region | None = None
    command: str = ""
    seconds: float = 0.0
    timings: Timings = ()
    credit: str = ""


@dataclass(frozen=True)
class Group:
    """Searches under one heading."""

    title: str
    text: str
    searches: Sequence[Search]


@dataclass(frozen=True)
class Sheet:
    """The whole page; its footer credits every picture on it."""

    title: str
    lead: str
    groups: Sequence[Group]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def credits(self) -> list[str]:
        """Each maker and licence once, by source."""
        searches = [search for group in self.groups for search in group.searches]
        stated = [search.credit for search in searches]
        stated += [result.credit for search in searches for result in search.results]
        return sorted(set(filter(None, stated)))


def inline_picture(source: Path | bytes, max_px: int = TILE_PX) -> str:
    """Data URI of a small WebP of the picture, upright and on white; empty if it cannot be read.

    Args:
        source: a file, or its bytes.
        max_px: longer side, pixels.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            picture.draft("RGB", (max_px * 2, max_px * 2))
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    upright.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    flat = Image.new("RGB", upright.size, "white")
    flat.paste(upright, mask=upright.getchannel("A"))
    encoded = io.BytesIO()
    flat.save(encoded, "WEBP", quality=84, method=4)
    return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()


def write_sheet(sheet: Sheet, path: Path) -> None:
    """Write the page to a file, whole or not at all."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(render_sheet(sheet), encoding="utf-8")
    fresh.replace(path)


def render_sheet(sheet: Sheet) -> str:
    """The page as HTML text."""
    style = (resources.files("bowerbird.cli") / "sheet.css").read_text(encoding="utf-8")
    groups = "\n".join(_render_group(group) for group in sheet.groups)
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in sheet.facts.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(sheet.title)} · Bowerbird</title>
<style>{style}</style>
</head>
<body>
<header>
<div class="brand">{MARK}<span>Bowerbird</span></div>
<h1>{escape(sheet.title)}</h1>
<p class="lead">{escape(sheet.lead)}</p>
{f'<dl class="facts">{facts}</dl>' if facts else ""}
</header>
<main>
{groups}
</main>
{_render_credits(sheet.credits)}
</body>
</html>
"""


def _render_group(group: Group) -> str:
    searches = "\n".join(_render_search(search) for search in group.searches)
    heading = f"<h2>{escape(group.title)}</h2>" if group.title else ""
    text = f"<p>{escape(group.text)}</p>" if group.text else ""
    return f'<section class="group">{heading}{text}\n{searches}\n</section>'


def _render_search(search: Search) -> str:
    hits = "\n".join(_render_result(result) for result in search.results)
    command = f"<code>{escape(search.command)}</code>" if search.command else ""
    return f"""<article class="search">
<div class="query">
<p class="label">{escape(search.label)}</p>
{_render_frame(search)}
<h3>{escape(search.title)}</h3>
<p class="note">{escape(search.note)}</p>
{command}
</div>
<ol class="hits">
{hits or '<li class="hit">nothing found</li>'}
</ol>
{_render_times(search)}
</article>"""


def _render_frame(search: Search) -> str:
    image = f'<img src="{search.image}" alt="{escape(search.title)}">' if search.image else ""
    if search.region is None:
        return f'<div class="frame{"" if search.photograph else " whole"}">{image}</div>'
    box = search.region
    place = (
        f"left:{box.x_min:.2%};top:{box.y_min:.2%};width:{box.x_max - box.x_min:.2%};height:{box.y_max - box.y_min:.2%}"
    )
    return f'<div class="frame">{image}<span class="box" style="{place}"></span></div>'


def _render_result(result: Result) -> str:
    image = f'<img src="{result.image}" alt="" loading="lazy">' if result.image else "no file here"
    width = f"{100 * min(max(result.score, 0.0), 1.0):.0f}%"
    return (
        f'<li class="hit{" match" if result.matches else ""}">'
        f'<div class="tile{" photo" if result.photograph else ""}">{image}</div>'
        f'<b title="{escape(result.title)}">{escape(result.title)}</b>'
        f'<div class="meta"><span>{escape(result.note)}</span><span>{result.score:.3f}</span></div>'
        f'<div class="meter"><i style="width:{width}"></i></div></li>'
    )


def _render_times(search: Search) -> str:
    if not search.seconds:
        return ""
    stages = "".join(
        f"<span>{escape(name)} {seconds * 1e3:.1f} ms</span>" for name, seconds in main_stages(search.timings).items()
    )
    return f'<div class="times"><span><b>{search.seconds * 1e3:.0f} ms</b> in all</span>{stages}</div>'


def _render_credits(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<footer><h2>Pictures and licences</h2><ul>{items}</ul></footer>"


def credit_of(fields: Mapping[str, FieldValue]) -> str:
    """Source, maker and licence of a picture in one line; empty if it states neither maker nor licence."""
    if not fields.get("licence") and not fields.get("attribution"):
        return ""
    source, maker = fields.get("source") or "pictures", fields.get("attribution") or "unknown"
    return f"{source}: {maker} ({fields.get('licence') or 'licence not stated'})"
