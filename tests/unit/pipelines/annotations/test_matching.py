import pytest

from pipelines.annotations.dictionary import Dictionary, Term
from pipelines.annotations.matching import Matcher
from pipelines.annotations.words import find_key, split_term

from .conftest import make_dictionary


def find(dictionary, text, language="en"):
    """(canonical, start, nested) of all matches."""
    matches = dictionary.make_matcher().match(text, language)
    return [(dictionary.terms[match.term].canonical, match.start, match.nested) for match in matches]


def test_longest_and_nested_terms_are_found():
    dictionary = make_dictionary("hot dog", "dog", "hot dog stand", "stand")
    assert find(dictionary, "A hot dog stand") == [
        ("hot dog", 1, True),
        ("hot dog stand", 1, False),
        ("dog", 2, True),
        ("stand", 3, True),
    ]


def test_overlapping_terms_are_not_nested():
    assert find(make_dictionary("red house", "house boat"), "red house boat") == [
        ("red house", 0, False),
        ("house boat", 1, False),
    ]


def test_all_windows_of_one_to_six_words_are_found():
    words = [f"word{letter}" for letter in "abcdefgh"]
    terms = [" ".join(words[start : start + n]) for n in range(1, 7) for start in range(len(words) - n + 1)]
    found = {term for term, _, _ in find(make_dictionary(*terms), " ".join(words))}
    assert found == set(terms)


def test_the_trie_finds_what_looking_up_every_window_finds():
    dictionary = make_dictionary("a cat", "cats and dogs", "dog", "big dog", "green tea")
    text = "the big dogs, a cat and cats and dogs - green, tea and green tea"
    keys = {find_key(split_term(term.canonical), "en"): number for number, term in enumerate(dictionary.terms)}
    expected = []
    before = 0
    for part in ("the big dogs", "a cat and cats and dogs", "green", "tea and green tea"):
        key = find_key(split_term(part), "en")
        for start in range(len(key)):
            for end in range(start + 1, min(start + 6, len(key)) + 1):
                if key[start:end] in keys:
                    expected.append((keys[key[start:end]], before + start, end - start))
        before += len(key)
    matches = dictionary.make_matcher().match(text, "en")
    assert [(match.term, match.start, match.words) for match in matches] == expected


def test_terms_do_not_reach_over_the_end_of_a_segment():
    assert find(make_dictionary("hot dog"), "hot, dog") == []


def test_every_form_of_a_term_is_found():
    assert find(make_dictionary("sloths"), "one sloth, two SLOTHS") == [("sloths", 1, False), ("sloths", 3, False)]


def test_whole_segments_are_told_from_parts():
    matches = make_dictionary("dog").make_matcher().match("dog, big dog", "en")
    assert [match.whole for match in matches] == [True, False]


def test_terms_of_scripts_without_spaces_are_found_anywhere_in_a_run():
    dictionary = make_dictionary("笑顔", "顔", language="ja")
    assert find(dictionary, "素敵な笑顔です", "ja") == [("笑顔", 3, False), ("顔", 4, True)]


def test_a_language_that_the_dictionary_lacks_matches_nothing():
    assert find(make_dictionary("dog"), "dog", "fr") == []


@pytest.mark.parametrize(("french", "expected"), [(50, "fr"), (5, "en")])
def test_a_word_of_an_unknown_language_goes_to_the_language_where_it_is_commoner(french, expected):
    dictionary = Dictionary(
        [Term("chat", "en", {"chat": 10}, 10), Term("chat", "fr", {"chat": french}, french)], {"en": 100, "fr": 100}
    )
    (match,) = dictionary.make_matcher().match("chat", "und")
    assert dictionary.terms[match.term].language == expected


def test_a_text_of_an_unknown_language_may_have_terms_of_several():
    dictionary = Dictionary([Term("dog", "en", {"dog": 1}, 1), Term("hund", "de", {"hund": 1}, 1)], {})
    assert [term for term, _, _ in find(dictionary, "hund dog", "und")] == ["hund", "dog"]


def test_a_text_without_words_matches_nothing():
    assert Matcher([(0, "en", ("dog",))], {0: 0.1}).match("  ...  ", "und") == []
