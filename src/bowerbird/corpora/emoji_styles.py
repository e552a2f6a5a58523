"""Originals of the emoji styles that were fetched: without a skin tone, and in the five tones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from bowerbird.corpora import emoji
from bowerbird.corpora.fetching import FetchReport
from bowerbird.corpora.originals import Original, Text
from bowerbird.corpora.rendering import ICON_SIZE_PX
from bowerbird.corpora.tones import ToneNames, match_tones, read_toned_points
from bowerbird.errors import PackageUnavailable


@dataclasses.dataclass(frozen=True)
class EmojiStyles:
    """Icon sets joined on what they show.

    Attributes:
        labels_dir: members of the source of labels.
        concepts: by code points.
        texts: raw words by code points.
        load: by style: its icons, drawings and all; one style is kept in memory at a time.
        outlines: by style: the same icons with digests in the place of drawings.
        names: by style: icon name by concept slug.
    """

    labels_dir: Path
    concepts: dict[str, emoji.Concept]
    texts: dict[str, tuple[Text, ...]]
    load: Mapping[str, Callable[[], emoji.IconSet]]
    outlines: Mapping[str, emoji.IconSet]
    names: Mapping[str, Mapping[str, str]]


def find_directories(fetched: FetchReport, kind: str) -> dict[str, Path]:
    """Directories of the sources of a kind, by name."""
    return {
        result.source.name: result.directory
        for result in fetched.results
        if result.source.kind == kind and result.directory is not None
    }


def read_styles(fetched: FetchReport) -> EmojiStyles:
    """Every style that was fetched, perhaps none.

    Raises:
        PackageUnavailable: there are styles, but not the words that join them.
        ArchiveRefused: a file of a package is damaged.
    """
    styles = find_directories(fetched, "emoji")
    labels, keywords = find_directories(fetched, "labels"), find_directories(fetched, "keywords")
    if not styles:
        return EmojiStyles(Path(), {}, {}, {}, {}, {})
    if not labels or not keywords:
        raise PackageUnavailable("emoji need their labels and keywords, which could not be fetched")
    labels_dir, keywords_dir = next(iter(labels.values())), next(iter(keywords.values()))
    concepts = emoji.read_concepts(labels_dir, keywords_dir)
    texts = emoji.read_texts(labels_dir, keywords_dir)
    names_of = {result.source.name: fetched.directories.get(result.source.icon_names) for result in fetched.results}
    keep_one = functools.lru_cache(maxsize=1)(emoji.read_icons)  # the largest takes 150 MB
    load = {style: functools.partial(keep_one, directory, names_of[style]) for style, directory in styles.items()}
    outlines = {style: emoji.without_bodies(icons()) for style, icons in load.items()}
    return EmojiStyles(labels_dir, concepts, texts, load, outlines, emoji.join(concepts, outlines))


def list_originals(styles: EmojiStyles) -> dict[str, list[Original]]:
    """Originals without a skin tone, by style: one a concept."""
    points_of = {concept.slug: points for points, concept in styles.concepts.items()}
    return {
        style: [
            dataclasses.replace(_describe(styles, style, points_of[slug], name), texts=styles.texts[points_of[slug]])
            for slug, name in names.items()
        ]
        for style, names in styles.names.items()
    }


def list_toned_originals(styles: EmojiStyles) -> dict[str, list[tuple[Original, str]]]:
    """Originals with a skin tone, and that tone, by style: up to five a concept."""
    if not styles.names:
        return {}
    toned_points = read_toned_points(styles.labels_dir)
    points_of = {concept.slug: points for points, concept in styles.concepts.items() if points in toned_points}
    by_concept = {slug: toned_points[points] for slug, points in points_of.items()}
    found: dict[str, ToneNames] = {
        style: match_tones(styles.outlines[style], names, by_concept) for style, names in styles.names.items()
    }
    return {
        style: [
            (_describe(styles, style, points_of[slug], name, tone=tone), tone) for (slug, tone), name in names.items()
        ]
        for style, names in found.items()
    }


def _describe(styles: EmojiStyles, style: str, points: str, icon: str, *, tone: str = "") -> Original:
    concept = styles.concepts[points]
    return Original(
        concept=concept.slug,
        title=f"{concept.title}: {tone} skin tone" if tone else concept.title,
        tags=concept.tags,
        category=concept.category,
        style=style,
        maker="icon",
        read=functools.partial(_draw, styles.load[style], icon),
    )


def _draw(load: Callable[[], emoji.IconSet], name: str) -> bytes:
    return emoji.draw(load(), name, size_px=ICON_SIZE_PX).encode()
