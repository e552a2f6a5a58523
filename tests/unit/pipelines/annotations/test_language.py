import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.language import LanguageDetector, declared_language, measure_detection
from pipelines.annotations.tables import TextRow


@pytest.mark.parametrize(
    ("language", "field", "expected"),
    [
        ("de", "title", "de"),
        ("pt-BR", "title:en", "pt"),
        ("", "keywords:zh_Hant", "zh"),
        ("", "title", ""),
        ("und", "tags", ""),
        ("", "note:2024-01", ""),
        ("no", "", "nb"),
    ],
)
def test_the_declared_language_is_the_rows_then_the_fields(language, field, expected):
    assert declared_language(language, field) == expected


def test_what_is_declared_wins_over_the_guess():
    detector = LanguageDetector(["de", "en"])
    assert detector.resolve("the quick brown fox jumps over the lazy dog", "de", "title:en") == "de"
    assert detector.resolve("the quick brown fox jumps over the lazy dog", "", "title") == "en"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Der Hund sitzt auf der grünen Wiese", "de"),
        ("un chien est assis dans le jardin", "fr"),
        ("собака сидит на траве", "ru"),
        ("草の上に座っている犬", "ja"),
        ("12345 !!", "und"),
        ("", "und"),
        ("xq", "und"),
    ],
)
def test_texts_get_a_language_or_none(text, expected):
    assert LanguageDetector(["de", "en", "fr", "ja", "ru"]).detect(text) == expected


def test_no_languages_and_unknown_ones_are_refused():
    with pytest.raises(ArgumentInvalid, match="got none"):
        LanguageDetector([])
    with pytest.raises(ArgumentInvalid, match="klingon"):
        LanguageDetector(["en", "klingon"])
    assert LanguageDetector.keep_known(["klingon", "en"]) == ["en"]


def test_detection_is_measured_on_declared_texts_only():
    rows = [
        TextRow("a", "t", "Der Hund sitzt auf der grünen Wiese", "de"),
        TextRow("b", "t", "the dog sits on the green grass", "de"),
        TextRow("c", "t", "the dog sits on the green grass", "en"),
        TextRow("d", "t", "whatever it is"),
    ]
    lines = {line.split()[0]: line.split()[1:] for line in measure_detection(rows).splitlines()[1:]}
    assert lines == {
        "de": ["2", "50.0%", "50.0%", "0.0%"],
        "en": ["1", "100.0%", "0.0%", "0.0%"],
        "all": ["3", "66.7%", "33.3%", "0.0%"],
    }
