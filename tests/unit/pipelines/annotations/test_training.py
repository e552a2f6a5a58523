from collections import Counter

import numpy as np
import pytest

from bowerbird.corpora.splits import split_of
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.scorer import ScorerOptions
from pipelines.annotations.tables import PictureRow, TextRow
from pipelines.annotations.training import describe, examine, format_report, judge, place_group, to_plain, train

from .conftest import NOISE, THINGS, make_dictionary, make_rows

DICTIONARY = make_dictionary(*THINGS, *NOISE)
OPTIONS = ScorerOptions(rounds=20, leaves=4, min_leaf=5, threads=1)


def judge_rows(rows, english, pictures=None, fields=("title*",), counts=None):
    return judge(rows, pictures or {}, DICTIONARY, english, fields, Counter() if counts is None else counts)


def test_terms_that_the_label_fields_say_are_relevant(english):
    rows = [TextRow("p", "title", "two boats at sea", "en"), TextRow("p", "tags", "boat, cat, free", "en")]
    counts = Counter()
    judged, names, kinds = judge_rows(rows, english, counts=counts)
    assert judged.labels.tolist() == [1, 0, 0]
    assert kinds == ("tags",)
    assert judged.table.shape == (3, len(names))
    assert counts == {"relevant": 1, "not said to be relevant": 2, "not judged": 0}


def test_the_label_field_never_is_evidence(english):
    rows = [TextRow("p", "title", "a boat", "en"), TextRow("p", "tags", "cat", "en")]
    judged, names, _ = judge_rows(rows, english)
    assert judged.labels.tolist() == [0]
    assert "from:title" not in names


def test_a_segment_that_repeats_the_label_is_no_evidence(english):
    rows = [TextRow("p", "title", "Boat", "en"), TextRow("p", "tags", "boats, cat, free boat", "en")]
    judged, names, _ = judge_rows(rows, english)
    assert judged.labels.tolist() == [0, 0, 1]
    assert judged.table[2, names.index("count")] == 1


def test_a_segment_that_repeats_a_label_of_several_segments_is_no_evidence(english):
    rows = [TextRow("p", "title", "boat: cat, dog", "en"), TextRow("p", "tags", "Boat cat dogs, dog cat", "en")]
    judged, names, _ = judge_rows(rows, english)
    assert judged.labels.tolist() == [1, 1]
    assert judged.table[:, names.index("count")].tolist() == [1, 1]


def test_silent_labels_judge_nothing(english):
    counts = Counter()
    rows = [TextRow("p", "title", "img 7", "en"), TextRow("p", "tags", "cat", "en")]
    rows += [TextRow("q", "title", "a cat", "en"), TextRow("q", "tags", "nothing known", "en")]
    assert len(judge_rows(rows, english, counts=counts)[0].labels) == 0
    assert counts["without labels"] == 1
    assert counts["without evidence"] == 1


def test_labels_in_one_language_do_not_judge_terms_of_another():
    dictionary = make_dictionary("hund", language="de")
    dictionary = type(dictionary)([*dictionary.terms, *make_dictionary("dog", "cat").terms], {"de": 100, "en": 100})
    rows = [TextRow("p", "title", "a dog", "en"), TextRow("p", "tags:de", "hund"), TextRow("p", "tags:en", "cat")]
    counts = Counter()
    judged, _, _ = judge(rows, {}, dictionary, LanguageDetector(["en", "de"]), ("title*",), counts)
    assert judged.languages.tolist() == ["en"]
    assert counts["not judged"] == 1


def test_equal_pictures_of_a_group_count_once(english):
    rows = [
        TextRow(picture, field, text, "en")
        for picture in ("p", "q", "r")
        for field, text in (("title", "a boat"), ("tags", "boat, cat"))
    ]
    pictures = {name: PictureRow(name, group="g") for name in ("p", "q")}
    counts = Counter()
    judged, _, _ = judge_rows(rows, english, pictures, counts=counts)
    assert counts["repeated"] == 1
    assert len(set(judged.groups.tolist())) == 2


def test_groups_are_split_like_the_corpus():
    for concept in ("apple", "boat", "cat", "dog", "egg", "kite", "sun"):
        place = place_group(concept)
        assert split_of(concept) == ("test" if place < 0.2 else "validation" if place < 0.3 else "train")


def test_the_scorer_beats_its_baselines_on_groups_it_has_not_seen_and_is_calibrated(english):
    judged, names, kinds = judge_rows(make_rows(400), english)
    scorer = train(judged, names, kinds, OPTIONS)
    report = examine(scorer, judged, {"rows": 1})
    ours = report.measures["scorer"]
    assert ours["AUC"].value > max(report.measures[name]["AUC"].value for name in ("idf", "tf_idf", "sources"))
    assert ours["AUC"].low > 0.9
    assert ours["calibration error"].value < 0.1
    assert set(report.by_language) == {"en"}
    assert report.counts["examined groups"] == len({p for p in range(400) if place_group(f"{p}.png") < 0.2})
    described = describe(scorer, report, ("title*",), "digest")
    assert described.trained_on == to_plain(report)
    assert "average precision" in format_report(report, described)


def test_no_group_is_on_two_sides(english):
    pictures = {f"{number}.png": PictureRow(f"{number}.png", group=f"g{number % 7}") for number in range(40)}
    judged, _, _ = judge_rows(make_rows(40), english, pictures)
    for group in np.unique(judged.groups):
        assert len(np.unique(judged.places[judged.groups == group])) == 1


@pytest.mark.parametrize("fields", [("title",), ("tit*",)])
def test_label_fields_are_patterns(english, fields):
    assert judge_rows(make_rows(5), english, fields=fields)[2] == ("keywords", "tags")
