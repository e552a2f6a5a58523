from collections import Counter

import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations import building
from pipelines.annotations.building import BuildOptions, build_dictionary
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.tables import PictureRow, TextRow


def build(texts, options=None, pictures=None, languages=("en",), counts=None):
    """Dictionary of (field, text) or (field, text, language); each text is of a picture of its own."""
    rows = [TextRow(f"{number}.png", *text) for number, text in enumerate(texts)]
    counts = Counter() if counts is None else counts
    return build_dictionary(
        rows, options or BuildOptions(max_share=1), LanguageDetector(languages), pictures or {}, counts
    )


def list_terms(dictionary):
    return {term.canonical for term in dictionary.terms}


def test_whole_tags_are_terms_and_the_more_frequent_form_stands_for_both():
    dictionary = build([("tags", "sloths, tree"), ("tags", "sloths, leaf"), ("tags", "tree, sloth"), ("tags", "once")])
    by_name = {term.canonical: term for term in dictionary.terms}
    assert set(by_name) == {"sloths", "tree"}
    assert by_name["sloths"].spellings == {"sloths": 2, "sloth": 1}
    assert by_name["sloths"].documents == 3
    assert dictionary.documents == {"en": 4}


def test_of_equally_frequent_forms_the_first_in_the_alphabet_stands_for_both():
    assert list_terms(build([("tags", "dogs, a"), ("tags", "dog")])) == {"dog"}


def test_words_of_long_texts_alone_are_no_terms():
    texts = [("description", f"the lovely cat {number}") for number in range(9)]
    assert list_terms(build([*texts, ("tags", "cat, x"), ("tags", "cat, y")])) == {"cat"}


def test_phrases_that_hold_together_are_terms():
    words = [("tags", f"polar, bear, brown, {word}") for word in ("ice", "snow")]
    other = [("description", f"number {word} of many") for word in "abcdefghijklmnopqrst"]
    told = [("description", f"a polar bear {word}") for word in ("sits", "walks", "sleeps", "eats")]
    assert "polar bear" in list_terms(build([*words, *other, *told]))
    loose = [("description", f"a polar {word} brown") for word in ("sits", "walks", "sleeps", "eats")]
    assert "polar bear" not in list_terms(build([*words, *other, *loose]))


def test_a_phrase_by_chance_is_no_term():
    texts = [("tags", "red, house"), ("tags", "red, house, x")]
    texts += [
        ("description", f"{a} {b} {number}") for number in range(10) for a in ("red", "blue") for b in ("house", "cat")
    ]
    assert "red house" not in list_terms(build(texts, BuildOptions(min_association=0.5, max_share=1)))


def test_a_term_of_nearly_all_documents_says_nothing():
    texts = [("tags", f"clipart, {'dog' if number % 10 == 0 else f'w{number}'}") for number in range(60)]
    assert list_terms(build(texts, BuildOptions(max_share=0.2))) == {"dog"}


@pytest.mark.parametrize("about", [{"group": "g"}, {"signature": "s"}])
def test_copies_of_a_text_count_once(about):
    texts = [("tags", "dog"), ("tags", "dog")]
    pictures = {f"{number}.png": PictureRow(f"{number}.png", **about) for number in range(2)}
    counts = Counter()
    with pytest.raises(ArgumentInvalid, match="empty"):
        build(texts, pictures=pictures, counts=counts)
    assert counts["repeated"] == 1
    assert list_terms(build(texts)) == {"dog"}  # the same words about different pictures


def test_each_language_has_its_own_terms():
    texts = [("tags", "chat, x", "fr"), ("tags", "chat, y", "fr"), ("tags", "chat", "en"), ("tags", "dog", "en")]
    dictionary = build([*texts, ("tags", "dog, z", "en")])
    assert [(term.language, term.canonical) for term in dictionary.terms] == [("en", "dog"), ("fr", "chat")]


def test_texts_of_unknown_language_are_counted_and_left_out():
    counts = Counter()
    with pytest.raises(ArgumentInvalid, match="empty"):
        build([("tags", "xq"), ("tags", "xq, 1")], languages=("de", "en", "ja"), counts=counts)
    assert counts == {"unknown language": 2}


def test_numbers_identifiers_and_function_words_are_no_terms():
    texts = [("tags", f"2013, the, hash(0x8589f20), dog, {letter}{letter}") for letter in "ab"]
    assert list_terms(build(texts)) == {"dog"}


def test_terms_over_many_categories_have_more_entropy():
    pictures = {
        f"{number}.png": PictureRow(f"{number}.png", "animal" if number % 2 else "food") for number in range(40)
    }
    texts = [("tags", f"nice, {'dog' if number % 2 else 'egg'}, w{number}") for number in range(40)]
    entropy = {term.canonical: term.category_entropy for term in build(texts, pictures=pictures).terms}
    assert entropy["nice"] == pytest.approx(1.0)
    assert entropy["dog"] < 0.5


def test_only_the_most_frequent_terms_of_a_language_are_kept():
    texts = [("tags", "dog, cat"), ("tags", "dog, cat, a b"), ("tags", "dog")]
    assert list_terms(build(texts, BuildOptions(max_terms=1, max_share=1))) == {"dog"}


def test_counting_forgets_what_was_seen_once_and_keeps_the_rest(monkeypatch):
    texts = [("tags", "dog"), ("tags", "dog, cat"), ("tags", "cat, dog")]
    noise = [("description", f"u{number}a u{number}b u{number}c") for number in range(200)]
    whole = build([*noise, *texts])
    monkeypatch.setattr(building, "MAX_COUNTED", 50)
    assert list_terms(build([*noise, *texts])) == list_terms(whole) == {"dog", "cat"}


def test_cuts_out_of_range_are_refused():
    with pytest.raises(ArgumentInvalid, match="max_share"):
        BuildOptions(max_share=0)
    with pytest.raises(ArgumentInvalid, match="min_documents"):
        BuildOptions(min_documents=0)
