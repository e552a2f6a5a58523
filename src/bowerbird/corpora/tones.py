"""Emoji in the five skin tones that Unicode has: which icon of a set shows which concept in which tone.

The modifiers U+1F3FB to U+1F3FF stand for types of the Fitzpatrick scale: I-II, III, IV, V and VI. What an artist makes
of a tone is a drawing, not a measurement; absolute colours differ from style to style.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bowerbird.corpora.emoji import IconSet, normalise_points, read_json, resolve

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

ToneNames = dict[tuple[str, str], str]  # icon name by (concept slug, tone)


def read_toned_points(labels_dir: Path) -> dict[str, list[str]]:
    """Code points of the five tones, in the order of `TONES`, by the code points of the emoji without one.

    Emoji of two people with a tone each are left out, unless both have the same.
    """
    toned: dict[str, list[str]] = {}
    for entry in read_json(labels_dir / "package/en/data.json"):
        one_tone = {skin["tone"]: skin["hexcode"] for skin in entry.get("skins", []) if isinstance(skin["tone"], int)}
        if sorted(one_tone) == [1, 2, 3, 4, 5]:
            toned[normalise_points(entry["hexcode"])] = [normalise_points(one_tone[tone]) for tone in sorted(one_tone)]
    return toned


def match_tones(icons: IconSet, names: Mapping[str, str], toned_points: Mapping[str, list[str]]) -> ToneNames:
    """Icons that show a concept in a tone; every drawing once, and none that looks like the concept without a tone.

    Args:
        icons: of one style.
        names: icon name by concept slug, as `bowerbird.corpora.emoji.join` gives them for this style.
        toned_points: code points of the five tones by concept slug.
    """
    seen = {_draw_key(icons, name) for name in names.values()}
    found: ToneNames = {}
    for concept, points in toned_points.items():
        if concept not in names:
            continue
        for tone, tone_points in zip(TONES, points, strict=True):
            candidates = _name_candidates(icons, names[concept], concept, tone, tone_points)
            name = next((name for name in candidates if icons.has(name)), None)
            if name is not None and _draw_key(icons, name) not in seen:
                seen.add(_draw_key(icons, name))
                found[concept, tone] = name
    return found


def _name_candidates(icons: IconSet, base: str, concept: str, tone: str, points: str) -> Iterator[str]:
    """Names that the icon may have: by its code points if the set lists them, else in the pattern of Unicode."""
    if icons.names:
        yield icons.names.get(points, "")
    else:
        yield f"{base}-{tone}-skin-tone"
        yield f"{concept}-{tone}-skin-tone"


def _draw_key(icons: IconSet, name: str) -> str:
    return json.dumps(resolve(icons, name), sort_keys=True)
