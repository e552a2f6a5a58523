import numpy as np
import pytest

from pipelines.annotations.dictionary import Dictionary, Term
from pipelines.annotations.features import FeatureMaker, collect_evidence, find_kind, list_kinds
from pipelines.annotations.tables import TextRow

from .conftest import make_dictionary

ROWS = [
    TextRow("p", "title", "a big dog", "en"),
    TextRow("p", "keywords:en", "dog, animal"),
    TextRow("p", "keywords:de", "hund"),
]
DICTIONARY = Dictionary(
    [
        Term("dog", "en", {"dog": 10}, 10, 0.5),
        Term("animal", "en", {"animal": 50}, 50),
        Term("big dog", "en", {"big dog": 2}, 2),
        Term("hund", "de", {"hund": 1}, 1),
    ],
    {"en": 100, "de": 10},
)


def make(dictionary, rows, english, kinds=("keywords", "title"), hidden=frozenset()):
    """Rows of features by canonical term."""
    maker = FeatureMaker(dictionary, kinds)
    evidence = collect_evidence(rows, dictionary.make_matcher(), english, hidden)
    table = maker.make(evidence)
    return {
        dictionary.terms[term].canonical: dict(zip(maker.names, row.tolist(), strict=True))
        for term, row in zip(evidence, table, strict=True)
    }


def test_each_feature_of_a_term_is_what_it_says(english):
    found = make(DICTIONARY, ROWS, english)
    assert set(found) == {"dog", "animal", "big dog", "hund"}
    dog = found["dog"]
    idf = np.log(101 / 11) / np.log(101)
    assert dog["count"] == 2
    assert dog["sources"] == 2
    assert dog["kinds"] == 2
    assert dog["first"] == 0
    assert dog["whole"] == 1
    assert dog["nested"] == 0
    assert dog["words"] == 1
    assert dog["characters"] == 3
    assert dog["category_entropy"] == 0.5
    assert dog["candidates"] == 4
    assert dog["language_known"] == 1
    assert dog["idf"] == pytest.approx(idf)
    assert dog["tf_idf"] == pytest.approx(2 / 5 * idf)
    assert (dog["from:title"], dog["from:keywords"]) == (1, 1)
    assert (found["hund"]["from:title"], found["hund"]["from:keywords"]) == (0, 1)
    assert np.isnan(found["animal"]["category_entropy"])
    assert found["animal"]["first"] == 0.5
    assert max(found, key=lambda term: found[term]["tf_idf_rank"]) == max(found, key=lambda term: found[term]["tf_idf"])


def test_a_term_only_within_longer_ones_is_nested(english):
    found = make(DICTIONARY, ROWS[:1], english)
    assert found["dog"]["nested"] == 1
    assert found["big dog"]["nested"] == 0
    assert found["big dog"]["words"] == 2


def test_hidden_segments_are_taken_out_with_all_terms_in_them(english):
    rows = [TextRow("p", "tags", "Big Dogs, animal", "en")]
    assert set(make(DICTIONARY, rows, english, hidden=frozenset({("big", "dog")}))) == {"animal"}


def test_cosine_is_with_the_other_terms_of_the_language(english):
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 0], [1, 0]], np.float32)
    dictionary = Dictionary(DICTIONARY.terms, DICTIONARY.documents, vectors, "test")
    found = make(dictionary, ROWS, english)
    assert found["dog"]["cosine"] == pytest.approx(0.6)
    assert found["animal"]["cosine"] == pytest.approx(0.6)
    assert np.isnan(found["big dog"]["cosine"])  # it has no vector
    assert np.isnan(found["hund"]["cosine"])  # it is alone in its language
    assert np.isnan(make(DICTIONARY, ROWS, english)["dog"]["cosine"])  # no vectors at all


def test_a_dictionary_without_counts_leaves_idf_open(english):
    found = make(make_dictionary("dog", documents=0), ROWS, english)
    assert np.isnan(found["dog"]["idf"])
    assert found["dog"]["count"] == 2


def test_a_picture_without_terms_has_no_rows(english):
    assert make(DICTIONARY, [TextRow("p", "title", "nothing of the kind", "en")], english) == {}


def test_kinds_are_fields_without_their_language():
    assert find_kind("keywords:de") == "keywords"
    assert list_kinds(["title", "keywords:de", "keywords:fr"]) == ["keywords", "title"]
