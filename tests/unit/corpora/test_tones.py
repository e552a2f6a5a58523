import json
from pathlib import Path

from bowerbird.corpora.emoji import IconSet
from bowerbird.corpora.tones import TONES, match_tones, read_toned_points

POINTS = {"waving-hand": [f"1F44B-1F3F{last}" for last in "BCDEF"]}


def make_icons(bodies: dict[str, str], names: dict[str, str] | None = None) -> IconSet:
    return IconSet({name: {"body": body} for name, body in bodies.items()}, {}, 16, 16, names or {})


def write_labels(directory: Path, entries: list[dict[str, object]]) -> None:
    (directory / "package/en").mkdir(parents=True)
    (directory / "package/en/data.json").write_text(json.dumps(entries))


def make_skins(*tones: int | list[int]) -> list[dict[str, object]]:
    return [{"hexcode": f"1F44B-FE0F-{tone}", "tone": tone} for tone in tones]


def test_toned_points_are_those_of_one_tone_in_order(tmp_path: Path) -> None:
    """Couples of mixed tones are left out, and so is an emoji that lacks a tone."""
    whole = {"hexcode": "1F44B-FE0F", "skins": make_skins(5, 1, [1, 2], 2, 3, 4)}
    part = {"hexcode": "1F44C", "skins": make_skins(1, 2)}
    write_labels(tmp_path, [whole, part, {"hexcode": "1F34E"}])
    assert read_toned_points(tmp_path) == {"1F44B": [f"1F44B-{tone}" for tone in range(1, 6)]}


def test_match_tones_by_code_points() -> None:
    """A set that lists its code points is joined on them, whatever its names are."""
    bodies = {"waving-hand": "yellow", **{f"wave{number}": str(number) for number in range(5)}}
    names = {points: f"wave{number}" for number, points in enumerate(POINTS["waving-hand"])}
    found = match_tones(make_icons(bodies, names), {"waving-hand": "waving-hand"}, POINTS)
    assert found == {("waving-hand", tone): f"wave{number}" for number, tone in enumerate(TONES)}


def test_match_tones_by_name() -> None:
    """Other sets name a tone after the concept, or after the older name that they have for it."""
    bodies = {"old-name": "yellow", "old-name-light-skin-tone": "1", "waving-hand-dark-skin-tone": "5"}
    found = match_tones(make_icons(bodies), {"waving-hand": "old-name"}, POINTS)
    assert found == {
        ("waving-hand", "light"): "old-name-light-skin-tone",
        ("waving-hand", "dark"): "waving-hand-dark-skin-tone",
    }


def test_match_tones_leaves_out_what_looks_the_same() -> None:
    """A drawing with the tone of another, or with none, would be a wrong label."""
    bodies = {"waving-hand": "yellow", **{f"waving-hand-{tone}-skin-tone": tone for tone in TONES}}
    bodies |= {"waving-hand-medium-skin-tone": "light", "waving-hand-dark-skin-tone": "yellow"}
    found = match_tones(make_icons(bodies), {"waving-hand": "waving-hand"}, POINTS)
    assert [tone for _, tone in found] == ["light", "medium-light", "medium-dark"]


def test_match_tones_needs_the_concept() -> None:
    """A concept that the style does not have in yellow is not taken in a tone."""
    assert match_tones(make_icons({"waving-hand-light-skin-tone": "1"}), {}, POINTS) == {}
