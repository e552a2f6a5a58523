import pytest

from pipelines.annotations.words import find_key, fits, join, normalise, segment, split_term


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ｈｏｔ　Ｄｏｇ", "hot dog"),
        ("STRASSE straße", "strasse strasse"),
        ("the baker’s t-shirt", "the baker t shirt"),
        ("snake_case", "snake case"),
    ],
)
def test_spellings_of_the_same_text_become_one(text, words):
    assert normalise(text) == words


def test_composed_and_decomposed_letters_are_the_same():
    assert segment("cafe\u0301") == segment("café")


def test_segments_end_at_commas_sentence_marks_and_spaced_hyphens_but_not_within_words():
    assert segment("Zielony kubek - green mug, T-shirt; o’clock. 3.5 km/h") == [
        ("zielony", "kubek"),
        ("green", "mug"),
        ("t", "shirt"),
        ("o'clock",),
        ("3", "5", "km"),
        ("h",),
    ]
    assert segment(" ,;! ") == []


def test_what_a_program_printed_for_want_of_a_word_is_left_out():
    assert segment("sun, HASH(0xdeadbeef), weather") == [("sun",), ("weather",)]


def test_a_german_verb_is_no_form_of_a_noun():
    assert find_key(("weinen",), "de") != find_key(("wein",), "de")


def test_words_keep_their_vowel_signs():
    assert segment("हिन्दी भाषा") == [("हिन्दी", "भाषा")]


def test_scripts_without_spaces_are_cut_into_characters_and_joined_without_spaces():
    assert segment("笑顔") == [("笑", "顔")]
    assert segment("iPhoneケース") == [("iphone", "ケ", "ー", "ス")]
    assert join(("笑", "顔")) == "笑顔"
    assert join(("hot", "dog")) == "hot dog"
    assert len(segment("น้ำ")[0]) < len("น้ำ")  # marks stay with their letter
    assert split_term("") == ()


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("en", ("sloth", "sloths")),
        ("en", ("child", "children")),
        ("de", ("haus", "häuser")),
        ("es", ("perro", "perros")),
    ],
)
def test_singular_and_plural_share_a_key(language, forms):
    assert len({find_key((form,), language) for form in forms}) == 1


def test_english_participles_are_words_of_their_own():
    assert find_key(("building",), "en") != find_key(("build",), "en")
    assert find_key(("painted",), "en") == ("painted",)


def test_a_language_without_word_lists_keeps_its_words():
    assert find_key(("dogs",), "xx") == ("dogs",)
    assert find_key(("笑", "顔"), "ja") == ("笑", "顔")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("hot", "dog"), True),
        (tuple("abcdef"), True),
        (tuple("abcdefg"), False),
        (tuple("一二三四五六七八"), True),
        (("2013",), False),
        (("img20140312",), False),
        (("x",), False),
        (("犬",), True),
        (("of", "the"), False),
        (("house", "of", "cards"), True),
        ((), False),
    ],
)
def test_what_a_term_may_be(words, expected):
    assert fits(words, "en") is expected


def test_function_words_belong_to_a_language():
    assert fits(("die",), "en")
    assert not fits(("die",), "de")
