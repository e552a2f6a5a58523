import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.dictionary import Dictionary, Term, add_vectors, load_dictionary, save_dictionary

from .conftest import make_dictionary

TERMS = [
    Term("sloths", "en", {"sloths": 7, "sloth": 3}, 9, 0.25),
    Term("hot dog", "en", {"hot dog": 2}, 2, 0.0),
    Term("faultier", "de", {"faultier": 4, "faultiere": 1}, 5),
]
DICTIONARY = Dictionary(TERMS, {"en": 100, "de": 50})


def test_a_dictionary_comes_back_from_parquet_as_it_was(tmp_path):
    loaded = load_dictionary(save_dictionary(DICTIONARY, tmp_path / "d.parquet"))
    assert loaded.sha256 == DICTIONARY.sha256
    assert [term.canonical for term in loaded.terms] == ["sloths", "hot dog", "faultier"]
    assert loaded.terms[0].spellings == {"sloths": 7, "sloth": 3}
    assert loaded.terms[1].category_entropy == 0.0
    assert math.isnan(loaded.terms[2].category_entropy)


def test_a_tsv_for_people_keeps_terms_and_counts(tmp_path):
    path = save_dictionary(DICTIONARY, tmp_path / "d.tsv")
    assert path.read_text().splitlines()[:3] == [
        "term\tcanonical\tlanguage\tfrequency\tdocuments\tcategory_entropy",
        "sloths\tsloths\ten\t7\t9\t0.25",
        "sloth\tsloths\ten\t3\t\t",
    ]
    loaded = load_dictionary(path)
    assert [term.spellings for term in loaded.terms] == [term.spellings for term in TERMS]
    assert [term.documents for term in loaded.terms] == [9, 2, 5]


def test_two_columns_are_enough_to_import(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text("term\tcanonical\nCats\tcat\nkitties\tcat\ncat\tcat\nHot-Dog\t\n")
    dictionary = load_dictionary(path)
    assert [(term.canonical, term.language, sorted(term.spellings)) for term in dictionary.terms] == [
        ("cat", "en", ["cat", "cats", "kitties"]),
        ("hot dog", "en", ["hot dog"]),
    ]
    found = dictionary.make_matcher().match("Kitties with a hot dog", "en")
    assert [match.term for match in found] == [0, 1]
    assert np.isnan(dictionary.compute_idf()).all()


def test_a_changed_dictionary_has_another_digest():
    assert Dictionary(TERMS[:2], DICTIONARY.documents).sha256 != DICTIONARY.sha256
    assert Dictionary(TERMS, {"en": 101, "de": 50}).sha256 != DICTIONARY.sha256


def test_an_empty_dictionary_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "d.tsv").write_text("term\tcanonical\n")
    for make in (lambda: Dictionary([], {}), lambda: load_dictionary(tmp_path / "d.tsv")):
        with pytest.raises(ArgumentInvalid, match="empty one; lower the cuts"):
            make()


def test_files_that_are_no_dictionaries_are_named(tmp_path):
    pq.write_table(pa.table({"word": ["dog"]}), tmp_path / "columns.parquet")
    (tmp_path / "bytes.tsv").write_bytes(b"term\tcanonical\ncaf\xe9\t\n")
    (tmp_path / "number.tsv").write_text("term\tcanonical\tfrequency\ndog\tdog\tmany\n")
    (tmp_path / "text.parquet").write_text("no")
    for name in ("columns.parquet", "bytes.tsv", "number.tsv", "text.parquet", "missing.tsv", "d.xls"):
        with pytest.raises(ArgumentInvalid, match=name):
            load_dictionary(tmp_path / name)
    with pytest.raises(ArgumentInvalid, match=r"d\.json"):
        save_dictionary(DICTIONARY, tmp_path / "d.json")


def test_idf_is_one_for_the_rarest_and_comparable_across_languages():
    dictionary = Dictionary(
        [Term("a", "en", {"a": 0}, 0), Term("b", "en", {"b": 100}, 100), Term("c", "de", {"c": 0}, 0)],
        {"en": 100, "de": 1000},
    )
    np.testing.assert_allclose(dictionary.compute_idf(), [1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(dictionary.compute_shares(), [0, 1, 0])


def test_vectors_are_kept_for_the_languages_of_the_encoder(tmp_path):
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return np.eye(len(texts), 4, dtype=np.float32)

    dictionary = add_vectors(DICTIONARY, encode, "encoder-1", ["en"])
    assert encoded == ["sloths", "hot dog"]
    assert dictionary.sha256 != DICTIONARY.sha256
    loaded = load_dictionary(save_dictionary(dictionary, tmp_path / "d.parquet"))
    assert loaded.sha256 == dictionary.sha256
    assert loaded.encoder == "encoder-1"
    np.testing.assert_array_equal(loaded.vectors, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    with pytest.raises(ArgumentInvalid, match="expected terms in fr, got de, en"):
        add_vectors(DICTIONARY, encode, "encoder-1", ["fr"])


def test_languages_are_those_of_the_terms():
    assert DICTIONARY.languages == ["de", "en"]
    assert len(make_dictionary("a b", "c d")) == 2
