"""Pictures that the fetched sources can give: what each is called, and how to get at its original."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bowerbird.corpora import emoji
from bowerbird.corpora.fetching import FetchReport
from bowerbird.corpora.manifest import Source
from bowerbird.corpora.originals import Original
from bowerbird.corpora.records import PictureRecord
from bowerbird.corpora.rendering import ICON_SIZE_PX, SUFFIXES

PICTURES_DIR = "pictures"
Reader = Callable[[Path], Iterable[Original]]

# Kinds of which each source stands alone; emoji are joined over all sources.
READERS: Mapping[str, Reader] = {}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A picture to be made: its record, and its original."""

    record: PictureRecord
    original: Original


def plan_pictures(fetched: FetchReport) -> dict[Source, list[Plan]]:
    """Plans of every source that can be read and has pictures, in the order of the manifest."""
    joined = _plan_emoji(fetched)
    plans: dict[Source, list[Plan]] = {}
    for result in fetched.results:
        source = result.source
        if result.directory is None:
            continue
        if source.kind in READERS:
            plans[source] = _name_pictures(source, READERS[source.kind](result.directory))
        elif source.name in joined:
            plans[source] = _name_pictures(source, joined[source.name])
    return plans


def _plan_emoji(fetched: FetchReport) -> dict[str, list[Original]]:
    """Originals of every emoji style that was fetched, by the name of its source."""
    directories = fetched.directories
    kinds = {result.source.kind: result.directory for result in fetched.results}
    labels, keywords = kinds.get("labels"), kinds.get("keywords")
    if labels is None or keywords is None:
        return {}
    concepts = emoji.read_concepts(labels, keywords)
    by_slug = {concept.slug: concept for concept in concepts.values()}
    read: dict[str, Callable[[], emoji.IconSet]] = {}
    for result in fetched.results:
        if result.source.kind == "emoji" and result.directory is not None:
            read[result.source.name] = functools.partial(
                _read_icons, result.directory, directories.get(result.source.icon_names)
            )
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
            )
            for slug, icon in icons.items()
        ]
        for style, icons in joined.items()
    }


@functools.lru_cache(maxsize=1)  # styles are drawn one after the other, and the largest set takes 150 MB of memory
def _read_icons(directory: Path, names_dir: Path | None) -> emoji.IconSet:
    return emoji.read_icons(directory, names_dir)


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
