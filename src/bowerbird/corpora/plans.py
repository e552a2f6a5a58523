"""Pictures that the fetched sources can give: what each is called, and how to get at its original."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from bowerbird.corpora.clipart import read_clipart
from bowerbird.corpora.emoji_styles import find_directories, list_originals, list_toned_originals, read_styles
from bowerbird.corpora.fetching import FetchReport
from bowerbird.corpora.manifest import Source
from bowerbird.corpora.originals import Original
from bowerbird.corpora.photographs import read_gcompris, read_scenes, read_tuxpaint
from bowerbird.corpora.records import PictureRecord, ToneRecord
from bowerbird.corpora.rendering import SUFFIXES
from bowerbird.errors import BowerbirdError

PICTURES_DIR = "pictures"
TONES_DIR = "tones"

Faults = dict[str, str]  # why a source that was fetched cannot be read, by its name


@dataclasses.dataclass(frozen=True)
class Plan:
    """A picture to be made: its record, and its original."""

    record: PictureRecord
    original: Original


def plan_pictures(fetched: FetchReport) -> tuple[dict[str, list[Plan]], Faults]:
    """Plans by the name of their source, and what cannot be read."""
    plans: dict[str, list[Plan]] = {}
    faults: Faults = {}
    joined: dict[str, list[Original]] = {}
    try:
        joined = list_originals(read_styles(fetched))
    except BowerbirdError as error:
        faults = dict.fromkeys(find_directories(fetched, "emoji"), error.message)
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


def plan_tones(fetched: FetchReport) -> tuple[dict[str, list[Plan]], Faults]:
    """Plans of the emoji in skin tones by the name of their source, and what cannot be read."""
    try:
        toned = list_toned_originals(read_styles(fetched))
    except BowerbirdError as error:
        return {}, dict.fromkeys(find_directories(fetched, "emoji"), error.message)
    sources = {result.source.name: result.source for result in fetched.results}
    return {
        style: [_name_toned(sources[style], original, tone) for original, tone in originals]
        for style, originals in toned.items()
    }, {}


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
    return ()  # words about pictures, a model, or emoji without their words


def _name_pictures(source: Source, originals: Iterable[Original]) -> list[Plan]:
    """Plans with a file name each: the concept, and a number from the second picture of the same concept on."""
    seen: dict[str, int] = {}
    plans = []
    for original in originals:
        seen[original.concept] = number = seen.get(original.concept, 0) + 1
        stem = original.concept if number == 1 else f"{original.concept}--{number}"
        path = f"{PICTURES_DIR}/{source.name}/{stem}{SUFFIXES[original.maker]}"
        plans.append(Plan(_describe(source, original, path), original))
    return plans


def _name_toned(source: Source, original: Original, tone: str) -> Plan:
    path = f"{TONES_DIR}/{source.name}/{original.concept}--{tone}{SUFFIXES[original.maker]}"
    return Plan(ToneRecord(**vars(_describe(source, original, path)), tone=tone), original)


def _describe(source: Source, original: Original, path: str) -> PictureRecord:
    return PictureRecord(
        path=path,
        source=source.name,
        title=original.title,
        tags=original.tags,
        category=original.category,
        style=original.style,
        concept=original.concept,
        licence=source.licence,
        attribution=original.attribution or source.attribution,
    )
