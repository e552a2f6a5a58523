"""Emoji drawn by several artists, joined on what they show.

Icon sets are Iconify JSON files: SVG bodies by name. The names follow the Unicode short names (CLDR), but of different
years, so a set that lists its code points is joined on those, and the others on any name that such a set has used.
Skin tones and hair components are left out: one picture a concept and style.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bowerbird.corpora.originals import Text
from bowerbird.corpora.slugs import slug
from bowerbird.errors import ArchiveRefused

_COMPONENT_GROUP = 2  # skin tones and hair, of which emoji are composed; not depictions
_MIN_STYLES = 2
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "ja", "zh")  # of the labels and keywords that are read


@dataclasses.dataclass(frozen=True)
class Concept:
    """What an emoji shows: CLDR label and its slug, keywords, and the Unicode group, e.g. `food-drink`."""

    slug: str
    title: str
    tags: tuple[str, ...]
    category: str


@dataclasses.dataclass(frozen=True)
class IconSet:
    """Icons of one style; `names` by code points, empty if the set does not list them."""

    icons: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, Mapping[str, Any]]
    width: float
    height: float
    names: Mapping[str, str]

    def has(self, name: str) -> bool:
        """Whether an icon of this name can be drawn."""
        return name in self.icons or (name in self.aliases and self.has(self.aliases[name]["parent"]))


def read_concepts(labels_dir: Path, keywords_dir: Path) -> dict[str, Concept]:
    """Concepts by code points, e.g. `1F34E`, from emojibase-data (labels) and emojilib (keywords)."""
    entries = read_json(labels_dir / "package/en/data.json")
    groups = {group["order"]: group["key"] for group in read_json(labels_dir / "package/en/messages.json")["groups"]}
    keywords = read_json(keywords_dir / "package/dist/emoji-en-US.json")
    concepts: dict[str, Concept] = {}
    for entry in entries:
        if entry.get("group") in (None, _COMPONENT_GROUP):
            continue
        raw_tags = [tag.replace("_", " ") for tag in keywords.get(entry["emoji"], entry.get("tags", []))]
        tags = tuple(dict.fromkeys(tag for tag in raw_tags if len(slug(tag)) > 1))  # drops emoticons: `:D`
        concepts[normalise_points(entry["hexcode"])] = Concept(
            slug(entry["label"]), entry["label"], tags, groups[entry["group"]]
        )
    return concepts


def read_texts(labels_dir: Path, keywords_dir: Path) -> dict[str, tuple[Text, ...]]:
    """Words by code points: `title:<language>` and `keywords:<language>` of the Unicode CLDR, `tags` of emojilib."""
    texts: dict[str, list[Text]] = {}
    for language in LANGUAGES:
        for entry in read_json(labels_dir / f"package/{language}/data.json"):
            found = texts.setdefault(normalise_points(entry["hexcode"]), [])
            found.append(Text(f"title:{language}", entry["label"], language))
            if entry.get("tags"):
                found.append(Text(f"keywords:{language}", ", ".join(entry["tags"]), language))
    points_of = {entry["emoji"]: entry["hexcode"] for entry in read_json(labels_dir / "package/en/data.json")}
    for emoji, keywords in read_json(keywords_dir / "package/dist/emoji-en-US.json").items():
        if emoji in points_of:
            tags = ", ".join(keyword.replace("_", " ") for keyword in keywords)
            texts[normalise_points(points_of[emoji])].append(Text("tags", tags, "en"))
    return {points: tuple(found) for points, found in texts.items()}


def read_icons(directory: Path, names_dir: Path | None = None) -> IconSet:
    """The icon set of a package; `names_dir`: a package whose list of code points also fits this one."""
    raw = read_json(directory / "package/icons.json")
    chars = (names_dir or directory) / "package/chars.json"
    names = {normalise_points(points): name for points, name in read_json(chars).items()} if chars.exists() else {}
    return IconSet(raw["icons"], raw.get("aliases", {}), raw.get("width", 16), raw.get("height", 16), names)


def without_bodies(icons: IconSet) -> IconSet:
    """The same icons with a digest in the place of each drawing, which takes most of the memory."""
    light = {name: {**icon, "body": _digest(icon["body"])} for name, icon in icons.icons.items()}
    return dataclasses.replace(icons, icons=light)


def join(concepts: Mapping[str, Concept], sets: Mapping[str, IconSet]) -> dict[str, dict[str, str]]:
    """Icon name by concept slug, by style; only concepts that at least two styles have, if there are two.

    A drawing that a style uses for several concepts stands for one of them, since nobody can tell the others from it.
    """
    synonyms = _read_synonyms(concepts, sets)
    joined = {style: _keep_distinct(icons, dict(_match(concepts, icons, synonyms))) for style, icons in sets.items()}
    count = Counter(concept for names in joined.values() for concept in names)
    enough = min(_MIN_STYLES, len(sets))
    return {
        style: {concept: name for concept, name in names.items() if count[concept] >= enough}
        for style, names in joined.items()
    }


def _match(
    concepts: Mapping[str, Concept], icons: IconSet, synonyms: Mapping[str, list[str]]
) -> Iterator[tuple[str, str]]:
    for points, concept in concepts.items():
        candidates = [icons.names.get(points, ""), concept.slug]
        if not icons.names:
            candidates += synonyms.get(concept.slug, [])
        name = next((name for name in candidates if icons.has(name)), None)
        if name is not None:
            yield concept.slug, name


def _keep_distinct(icons: IconSet, names: Mapping[str, str]) -> dict[str, str]:
    """Of the concepts with the same drawing, the one after which the icon is named, else the shortest, hence widest."""
    best: dict[str, str] = {}
    for concept in sorted(names, key=lambda concept: (names[concept] not in icons.icons, len(concept), concept)):
        best.setdefault(json.dumps(resolve(icons, names[concept]), sort_keys=True), concept)
    kept = set(best.values())
    return {concept: name for concept, name in names.items() if concept in kept}


def _read_synonyms(concepts: Mapping[str, Concept], sets: Mapping[str, IconSet]) -> dict[str, list[str]]:
    """Names that some set uses for a concept, by its slug; without those that mean another concept as well."""
    meanings: dict[str, set[str]] = {concept.slug: {concept.slug} for concept in concepts.values()}
    for icons in sets.values():
        concept_of = {name: concepts[points].slug for points, name in icons.names.items() if points in concepts}
        for name, concept in concept_of.items():
            meanings.setdefault(name, set()).add(concept)
        for alias, entry in icons.aliases.items():
            plain = set(entry) <= {"parent", "hidden"}  # not a mirrored one
            if icons.names and plain and entry["parent"] in concept_of:
                meanings.setdefault(alias, set()).add(concept_of[entry["parent"]])
    synonyms: dict[str, list[str]] = {}
    for name, slugs in sorted(meanings.items()):
        if len(slugs) == 1:
            synonyms.setdefault(slugs.pop(), []).append(name)
    return synonyms


def draw(icons: IconSet, name: str, *, size_px: int) -> str:
    """SVG document of an icon, `size_px` on both sides.

    Raises:
        ArchiveRefused: the icon is turned in a way that none of the pinned sets uses.
    """
    icon = resolve(icons, name)
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons.width), icon.get("height", icons.height)
    body = icon["body"]
    if icon.get("rotate"):
        raise ArchiveRefused(f"icon {name} is rotated, which this reader does not draw; pin a version that it knows")
    if icon.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if icon.get("vFlip"):
        body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{size_px}" height="{size_px}">{body}</svg>'
    )


def resolve(icons: IconSet, name: str) -> dict[str, Any]:
    """Icon with the transformations of the aliases that lead to it, in normal form: equal if drawn equally."""
    if name in icons.icons:
        icon, alias = dict(icons.icons[name]), {}
    else:
        alias = dict(icons.aliases[name])
        icon = resolve(icons, alias.pop("parent"))
    for flip in ("hFlip", "vFlip"):
        if bool(icon.pop(flip, False)) != bool(alias.pop(flip, False)):
            icon[flip] = True
    return {key: value for key, value in {**icon, **alias}.items() if key != "hidden"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def normalise_points(points: str) -> str:
    """Code points without joiners and variation selectors, which the sets write or leave out as they like."""
    parts = points.upper().split("-")
    return "-".join(part for part in parts if part not in ("FE0F", "200D"))


def read_json(path: Path) -> Any:
    """Content of a JSON file of a pinned package; Raises ArchiveRefused if it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArchiveRefused(f"{path}: expected the JSON file of a pinned package: {error}; fetch it again") from error
