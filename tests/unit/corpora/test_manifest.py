import tomllib
from pathlib import Path

import pytest

from bowerbird.corpora.manifest import MANIFEST_FILE, load_manifest, select
from bowerbird.corpora.photographs import SCENES_FILE
from bowerbird.corpora.slugs import slug, words
from bowerbird.errors import ArgumentInvalid, ConfigInvalid

SOURCES = load_manifest()


def test_manifest_pins_every_package_with_licence_and_attribution() -> None:
    """Each source of the shipped manifest says what it is, who made it and under which licence."""
    for source in SOURCES:
        assert source.licence, source.name
        assert source.attribution, source.name
        assert source.homepage.startswith("https://"), source.name


def test_documentation_lists_every_source_with_its_licence() -> None:
    """The table in the documentation and the manifest agree."""
    rows = [line for line in (Path(__file__).parents[3] / "docs/corpora.md").read_text().splitlines() if "|" in line]
    for source in SOURCES:
        assert any(f"`{source.name}`" in row and source.licence in row for row in rows), source.name


def test_scenes_are_described_for_exactly_the_sources_that_need_it() -> None:
    """Every source of scenes has descriptions, with titles of their own that give a slug."""
    described = tomllib.loads(SCENES_FILE.read_text())
    assert set(described) == {source.name for source in SOURCES if source.kind == "scenes"}
    for entry in described.values():
        titles = [title for _, title, _ in entry["pictures"]]
        assert all(slug(title) for title in titles)
        assert len(set(titles)) == len(titles)


def test_select_brings_what_a_source_needs() -> None:
    """Sources come with those they need, once, in the order of the manifest."""
    names = [source.name for source in select(SOURCES, ["fluent", "noto"])]
    assert names == ["emoji-labels", "emoji-keywords", "noto", "fluent-flat", "fluent"]
    assert select(SOURCES, None) == tuple(source for source in SOURCES if not source.optional)


def test_what_is_optional_comes_only_when_named() -> None:
    """The demo does not fetch the text encoder; who names it gets its tokenizer too."""
    assert {source.kind for source in select(SOURCES, None)} & {"model"} == set()
    assert [source.name for source in select(SOURCES, ["text-encoder"])] == ["text-encoder", "text-tokenizer"]


def test_select_refuses_an_unknown_name() -> None:
    """A name that is not in the manifest is refused with the known ones."""
    with pytest.raises(ArgumentInvalid, match=r"'notto'; known: .*noto"):
        select(SOURCES, ["notto"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('registry = "npm"', 'registry = "ftp"'),
        ('kind = "labels"', 'kind = "label"'),
        ('version = "17.0.0"', "version = 17"),
        ('version = "17.0.0"', 'verison = "17.0.0"'),
        ("size_bytes = 6711091", "size_bytes = 0"),
        ("optional = true", 'optional = "true"'),
        ('sha256 = "d01d', 'sha256 = "D01D'),
        ('name = "emoji-keywords"', 'name = "emoji-labels"'),
        ('name = "emoji-keywords"', 'name = "../keywords"'),
        ('needs = ["emoji-labels", "emoji-keywords"]', 'needs = ["emoji-lables"]'),
        ("[[source]]", "[[sources]]"),
        ("[[source]]", "[[source"),
    ],
)
def test_load_manifest_refuses_mistakes(tmp_path: Path, old: str, new: str) -> None:
    """A manifest with a wrong, missing, unknown or contradicting field is refused."""
    text = MANIFEST_FILE.read_text()
    assert old in text
    file = tmp_path / "manifest.toml"
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigInvalid, match=r"manifest\.toml"):
        load_manifest(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red apple", "red-apple"),
        ("Woman’s hat", "womans-hat"),
        ("Piñata", "pinata"),
        ("keycap: #", "keycap-hash"),
        ("keycap: *", "keycap-asterisk"),
        ("St. Martin & co", "st-martin-and-co"),
        ("営", ""),
    ],
)
def test_slug_is_plain(text: str, expected: str) -> None:
    """Slugs are lower-case ASCII words."""
    assert slug(text) == expected


def test_words_reads_file_names() -> None:
    """File names of photographs become words without numbers."""
    assert words("statueOfLiberty2") == "statue of liberty"
    assert words("Apricot_whole") == "apricot whole"
