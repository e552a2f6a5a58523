import json
from pathlib import Path
from typing import Any

import pytest

from bowerbird.corpora import emoji
from bowerbird.corpora.emoji import Concept, IconSet
from bowerbird.corpora.manifest import Source
from bowerbird.errors import ArchiveRefused
from tests.golden.corpora.make import EMOJI, golden_packages
from tests.unit.corpora.conftest import GOLDEN


def icons(names: dict[str, str], aliases: dict[str, dict[str, object]] | None = None, **points: str) -> IconSet:
    """A set with these bodies by name, and names by code points `u1f34e`."""
    bodies = {name: {"body": body} for name, body in names.items()}
    return IconSet(bodies, aliases or {}, 16, 16, {key[1:].upper(): name for key, name in points.items()})


def concepts(**labels: str) -> dict[str, Concept]:
    return {key[1:].upper(): Concept(label.replace(" ", "-"), label, (), "g") for key, label in labels.items()}


def test_golden_packages_are_what_the_script_makes() -> None:
    """The packages in the golden folder and the script that made them belong together."""
    assert {path.name for path in GOLDEN.iterdir() if path.suffix in (".tgz", ".whl", ".deb")} == set(golden_packages())
    assert (GOLDEN / "style-a.tgz").stat().st_size < 2000


def test_read_concepts_leaves_components_out(fetched: dict[str, Path]) -> None:
    """Labels, groups and keywords are joined; skin tones are no concepts, emoticons no keywords."""
    found = emoji.read_concepts(fetched["labels"], fetched["keywords"])
    assert found["1F34E"] == Concept("red-apple", "red apple", ("red apple", "fruit"), "group-4")
    assert len(found) == len(EMOJI) - 1
    assert "1F3FB" not in found


def test_join_prefers_code_points_to_names() -> None:
    """Where a set lists its code points, an icon that has the name of another concept does not fool the join."""
    known = concepts(u1f997="cricket", u1f3cf="cricket game")
    joined = emoji.join(
        known,
        {
            "a": icons({"cricket": "bat", "insect": "insect"}, u1f3cf="cricket", u1f997="insect"),
            "b": icons({"cricket": "insect", "cricket-game": "bat"}),
        },
    )
    assert joined["a"] == {"cricket": "insect", "cricket-game": "cricket"}
    assert joined["b"] == {"cricket": "cricket", "cricket-game": "cricket-game"}


def test_join_uses_names_that_other_sets_have_used() -> None:
    """A set without code points is joined on an older name that a set with code points knows as an alias."""
    known = concepts(u1f916="robot")
    modern = icons({"robot": "r"}, {"robot-face": {"parent": "robot"}}, u1f916="robot")
    joined = emoji.join(known, {"modern": modern, "old": icons({"robot-face": "r2"})})
    assert joined["old"] == {"robot": "robot-face"}


def test_join_does_not_use_a_name_with_two_meanings() -> None:
    """An older name that stands for two concepts joins neither."""
    known = concepts(u1="one", u2="two")
    a = icons({"thing": "x", "two": "y"}, u1="thing", u2="two")
    b = icons({"one": "x", "thing": "z"}, u1="one", u2="thing")
    assert emoji.join(known, {"a": a, "b": b, "old": icons({"thing": "o"})})["old"] == {}


def test_join_keeps_one_concept_of_a_shared_drawing() -> None:
    """A drawing that stands for several concepts is kept for the one whose name it has, else the shortest."""
    known = concepts(u1="family", u2="family man boy", u3="cricket", u4="cricket game")
    style = icons(
        {"family": "f", "family-man-boy": "f", "cricket-game": "bat"}, {"cricket": {"parent": "cricket-game"}}
    )
    assert emoji.join(known, {"only": style})["only"] == {"family": "family", "cricket-game": "cricket-game"}


def test_join_drops_concepts_of_one_style() -> None:
    """A concept that a single style has cannot be found across styles, so it is left out; of one style all stay."""
    known = concepts(u1="both", u2="alone")
    styles = {"a": icons({"both": "1", "alone": "2"}), "b": icons({"both": "3"})}
    assert emoji.join(known, styles) == {"a": {"both": "both"}, "b": {"both": "both"}}
    assert emoji.join(known, {"a": styles["a"]})["a"] == {"both": "both", "alone": "alone"}


def test_join_of_light_sets_is_the_join_of_the_sets(fetched: dict[str, Path]) -> None:
    """Leaving out the drawings does not change what is joined."""
    known = emoji.read_concepts(fetched["labels"], fetched["keywords"])
    sets = {style: emoji.read_icons(fetched[style]) for style in ("style-a", "style-b")}
    light = {style: emoji.without_bodies(icon_set) for style, icon_set in sets.items()}
    assert emoji.join(known, light) == emoji.join(known, sets)
    assert set(emoji.join(known, sets)["style-b"]) == {
        *("red-apple", "cricket-game", "robot", "backhand-index-pointing-right")
    }


def test_draw_mirrors_flipped_aliases() -> None:
    """A flipped alias is drawn mirrored about its own view box, a flip of a flip is none."""
    style = icons(
        {"left": "<a/>"},
        {
            "right": {"parent": "left", "hFlip": True, "left": 2, "width": 10},
            "again": {"parent": "right", "hFlip": True},
            "down": {"parent": "left", "vFlip": True},
        },
    )
    assert 'viewBox="2 0 10 16"' in emoji.draw(style, "right", size_px=32)
    assert 'translate(14 0) scale(-1 1)"><a/></g>' in emoji.draw(style, "right", size_px=32)
    assert "scale" not in emoji.draw(style, "again", size_px=32)
    assert "translate(0 16) scale(1 -1)" in emoji.draw(style, "down", size_px=32)


def test_draw_refuses_what_it_cannot_draw() -> None:
    """A rotated icon is refused instead of being drawn wrong."""
    style = icons({"up": "<a/>"}, {"down": {"parent": "up", "rotate": 2}})
    with pytest.raises(ArchiveRefused, match="rotated"):
        emoji.draw(style, "down", size_px=32)


def test_read_icons_takes_code_points_of_a_twin_package(tmp_path: Path) -> None:
    """A package without a list of code points can borrow that of a package with the same names."""
    for name in ("flat", "round"):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package/icons.json").write_text(json.dumps({"icons": {"elf": {"body": ""}}}))
    (tmp_path / "flat/package/chars.json").write_text('{"1f9dd-200d-fe0f": "elf"}')

    assert emoji.read_icons(tmp_path / "round").names == {}
    assert emoji.read_icons(tmp_path / "round", tmp_path / "flat").names == {"1F9DD": "elf"}


def test_read_icons_refuses_a_damaged_package(tmp_path: Path) -> None:
    """A file that is not JSON is refused by name."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/icons.json").write_text("{")
    with pytest.raises(ArchiveRefused, match=r"icons\.json"):
        emoji.read_icons(tmp_path)


@pytest.fixture
def fetched(tmp_path: Path, sources: tuple[Source, ...], client: Any) -> dict[str, Path]:
    """Directories of the golden packages."""
    from bowerbird.corpora import fetch

    return fetch(None, tmp_path, sources=sources, download=client).directories
