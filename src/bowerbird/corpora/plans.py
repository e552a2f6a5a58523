"""Pictures that the fetched sources can give: what each is called, and how to get at its original."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from bowerbird.corpora import emoji
from bowerbird.corpora.clipart import read_clipart
from bowerbird.corpora.fetching import FetchReport
from bowerbird.corpora.manifest import Source
from bowerbird.corpora.originals import Original
from bowerbird.corpora.photographs import read_gcompris, read_scenes, read_tuxpaint
from bowerbird.corpora.records import PictureRecord
from bowerbird.corpora.rendering import ICON_SIZE_PX, SUFFIXES
from bowerbird.errors import BowerbirdError, PackageUnavailable

PICTURES_DIR = "pictures"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A picture to be made: its record, and its original."""

    record: PictureRecord
    original: Original


def plan_pictures(fetched: FetchReport) -> tuple[dict[str, list[Plan]], dict[str, str]]:
    """Plans by the name of their source, and why a source that was fetched cannot be read, likewise."""
    plans: dict[str, list[Plan]] = {}
    faults: dict[str, str] = {}
    joined: dict[str, list[Original]] = {}
    try:
        joined = _plan_emoji(fetched)
    except BowerbirdError as error:
        faults = dict.fromkeys(_find(fetched, "emoji"), error.message)
    for result in fetched.results:
        source = result.source
        if result.directory is None:
            continue
        try:
            originals = joined.get(source.name) or _read_originals(source, result.directory)
            plans[source.name] = _name_pictures(source, originals)
        except BowerbirdError as error:
            faults[source.name] = error.message
    return plans, faults


def _read_originals(source: Source, directory: Path) -> Iterable[Original]:
    """Originals of a source that stands alone."""
    match source.kind:
        case "clipart":
            return read_clipart(directory)
        case "gcompris":
            return read_gcompris(directory)
        case "tuxpaint":
            return read_tuxpaint(directory)
        case "scenes":
            return read_scenes(directory, name=source.name)
    return ()  # words about pictures, or emoji without them


def _find(fetched: FetchReport, kind: str) -> dict[str, Path]:
    """Directories of the sources of a kind, by name."""
    return {
        result.source.name: result.directory
        for result in fetched.results
        if result.source.kind == kind and result.directory is not None
    }


def _plan_emoji(fetched: FetchReport) -> dict[str, list[Original]]:
    """Originals of every emoji style that was fetched, by the name of its source."""
    styles = _find(fetched, "emoji")
    if not styles:
        return {}
    labels, keywords = _find(fetched, "labels"), _find(fetched, "keywords")
    if not labels or not keywords:
        raise PackageUnavailable("emoji need their labels and keywords, which could not be fetched")
    words_dirs = next(iter(labels.values())), next(iter(keywords.values()))
    concepts, texts = emoji.read_concepts(*words_dirs), emoji.read_texts(*words_dirs)
    by_slug = {concept.slug: concept for concept in concepts.values()}
    texts_of = {concept.slug: texts[points] for points, concept in concepts.items()}
    names_of = {result.source.name: fetched.directories.get(result.source.icon_names) for result in fetched.results}
    keep_one = functools.lru_cache(maxsize=1)(emoji.read_icons)  # drawn style by style; the largest takes 150 MB
    read = {style: functools.partial(keep_one, directory, names_of[style]) for style, directory in styles.items()}
    joined = emoji.join(concepts, {style: emoji.without_bodies(icons()) for style, icons in read.items()})
    return {
        style: [
            Original(
                concept=slug,
                title=by_slug[slug].title,
                tags=by_slug[slug].tags,
                category=by_slug[slug].category,
                style=style,
                maker="icon",
                read=functools.partial(_draw, read[style], icon),
                texts=texts_of[slug],
            )
            for slug, icon in icons.items()
        ]
        for style, icons in joined.items()
    }


def _draw(icons: Callable[[], emoji.IconSet], name: str) -> bytes:
    return emoji.draw(icons(), name, size_px=ICON_SIZE_PX).encode()


def _name_pictures(source: Source, originals: Iterable[Original]) -> list[Plan]:
    """Plans with a file name each: the concept, and a number from the second picture of the same concept on."""
    seen: dict[str, int] = {}
    plans = []
    for original in originals:
        seen[original.concept] = number = seen.get(original.concept, 0) + 1
        stem = original.concept if number == 1 else f"{original.concept}--{number}"
        record = PictureRecord(
            path=f"{PICTURES_DIR}/{source.name}/{stem}{SUFFIXES[original.maker]}",
            source=source.name,
            title=original.title,
            tags=original.tags,
            category=original.category,
            style=original.style,
            concept=original.concept,
            licence=source.licence,
            attribution=original.attribution or source.attribution,
        )
        plans.append(Plan(record, original))
    return plans
