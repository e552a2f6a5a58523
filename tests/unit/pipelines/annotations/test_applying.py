import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations import applying
from pipelines.annotations.aggregate import AggregateOptions
from pipelines.annotations.applying import ApplyOptions, apply
from pipelines.annotations.scorer import ScorerOptions
from pipelines.annotations.tables import PictureRow, TextRow
from pipelines.annotations.training import describe, examine, judge, train

from .conftest import NOISE, THINGS, make_dictionary, make_rows

DICTIONARY = make_dictionary(*THINGS, *NOISE)
ROWS = make_rows(60, seed=1)


@pytest.fixture(scope="module")
def scorer():
    from pipelines.annotations.language import LanguageDetector

    judged, names, kinds = judge(make_rows(300), {}, DICTIONARY, LanguageDetector(["en"]), ("title*",), Counter())
    bare = train(judged, names, kinds, ScorerOptions(rounds=10, leaves=4, min_leaf=5, threads=1))
    return describe(bare, examine(bare, judged, {}), ("title*",), DICTIONARY.sha256)


@pytest.fixture
def annotate(tmp_path, scorer, english, write_texts):
    """(rows of the table, counts, whether it was written) for some texts."""

    def run(rows=ROWS, pictures=None, **options):
        counts = Counter()
        texts = write_texts(rows)
        wrote = apply(
            texts,
            pictures or {},
            DICTIONARY,
            scorer,
            english,
            tmp_path / "out.parquet",
            ApplyOptions(**options),
            counts,
        )
        return pq.read_table(tmp_path / "out.parquet").to_pylist(), counts, wrote

    return run


def test_the_table_has_the_things_above_the_noise(annotate):
    rows, counts, _ = annotate(labels="hide")
    things = [row["score"] for row in rows if row["term"] in THINGS and "tags" in row["sources"]]
    noise = [row["score"] for row in rows if row["term"] in NOISE]
    assert len(things) == 60
    assert min(things) > max(noise, default=0)
    assert counts["pictures"] == 60
    assert counts["annotations"] == len(rows)
    assert list(rows[0]) == ["picture", "term", "score", "sources", "language"]
    assert all("title" not in row["sources"] for row in rows)


def test_terms_in_label_fields_are_sure_unless_they_are_hidden(annotate):
    rows, _, _ = annotate([TextRow("p", "title", "a boat", "en")])
    assert rows == [{"picture": "p", "term": "boat", "score": 1.0, "sources": ["title"], "language": "en"}]
    assert annotate([TextRow("p", "title", "a boat", "en")], labels="hide")[0] == []


def test_many_parts_give_what_one_gives(annotate):
    whole, _, _ = annotate()
    parts, _, wrote = annotate(part_bytes=1000)
    assert wrote
    assert sorted(parts, key=str) == sorted(whole, key=str)
    pictures = [row["picture"] for row in parts]
    assert len(set(pictures)) == sum(a != b for a, b in zip(pictures, [*pictures[1:], None], strict=True))


def test_the_same_again_does_nothing_and_another_option_writes_again(annotate, tmp_path):
    first, _, wrote = annotate()
    assert wrote
    before = (tmp_path / "out.parquet").stat().st_mtime_ns
    again, counts, wrote = annotate()
    assert not wrote
    assert counts == {"up to date": 1}
    assert again == first
    assert (tmp_path / "out.parquet").stat().st_mtime_ns == before
    assert annotate(aggregate=AggregateOptions(max_terms=1))[2]


def test_a_killed_run_goes_on_with_the_parts_that_are_there(annotate, monkeypatch, tmp_path):
    expected, _, _ = annotate(part_bytes=1000)
    (tmp_path / "out.parquet").unlink()
    score_part = applying._score_part
    scored = []

    def die_at_the_third(*arguments):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(arguments[0])
        score_part(*arguments)

    monkeypatch.setattr(applying, "_score_part", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        annotate(part_bytes=1000)
    assert not (tmp_path / "out.parquet").exists()
    rest = []
    monkeypatch.setattr(applying, "_score_part", lambda *arguments: (rest.append(arguments[0]), score_part(*arguments)))
    rows, counts, _ = annotate(part_bytes=1000)
    assert rows == expected
    assert counts["rows"] == len(ROWS)
    assert not set(rest) & set(scored)
    assert len(rest) > 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_killed_run_with_other_texts_is_not_gone_on_with(annotate, monkeypatch):
    expected, _, _ = annotate(ROWS[:30])
    score_part = applying._score_part
    with monkeypatch.context() as patch:
        patch.setattr(applying, "_score_part", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            annotate()
    assert applying._score_part is score_part
    assert annotate(ROWS[:30])[0] == expected
    assert len(annotate()[0]) > len(expected)


def test_copies_of_a_picture_are_put_together(annotate):
    rows = [
        TextRow("p", "tags", "boat, free", "en"),
        TextRow("q", "keywords", "boat", "en"),
        TextRow("r", "tags", "cat", "en"),
    ]
    pictures = {"p": PictureRow("p", signature="s"), "q": PictureRow("q", signature="s"), "r": PictureRow("r")}
    found, counts, _ = annotate(rows, pictures, aggregate=AggregateOptions(min_score=0))
    assert {row["picture"] for row in found} == {"s", "r"}
    (boat,) = [row for row in found if row["term"] == "boat"]
    assert boat["sources"] == ["keywords", "tags"]
    assert counts["pictures"] == 2


def test_pictures_without_text_and_texts_of_other_pictures_are_counted(annotate):
    pictures = {"0.png": PictureRow("0.png"), "empty.png": PictureRow("empty.png")}
    rows, counts, _ = annotate(ROWS, pictures)
    assert {row["picture"] for row in rows} == {"0.png"}
    assert counts["picture without text"] == 1
    assert counts["text of a picture that the table of pictures lacks"] == len(ROWS) - 3


def test_pictures_without_terms_are_counted(annotate):
    rows, counts, _ = annotate([TextRow("p", "tags", "nothing of the kind", "en")])
    assert rows == []
    assert counts["picture without annotations"] == 1


def test_a_text_in_an_unknown_language_is_matched_all_the_same(annotate):
    rows, _, _ = annotate([TextRow("p", "tags", "boat", "und")])
    assert [row["term"] for row in rows] == ["boat"]


def test_terms_of_other_languages_are_left_out_when_asked(annotate):
    rows = [TextRow("p", "title", "boat, cat", "en")]
    assert len(annotate(rows, languages=("en",))[0]) == 2
    assert annotate(rows, languages=("de",))[0] == []


def test_the_metadata_say_what_the_table_is_made_of(annotate, tmp_path, scorer):
    annotate()
    metadata = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"bowerbird"])
    assert metadata["dictionary"] == DICTIONARY.sha256
    assert metadata["scorer"] == scorer.sha256
    assert metadata["languages"] == ["en"]
    assert metadata["options"]["aggregate"]["max_terms"] == 20
    assert len(metadata["version"]) == 16


def test_a_scorer_of_other_features_and_missing_texts_are_refused(annotate, scorer, english, tmp_path):
    import dataclasses

    other = dataclasses.replace(scorer, kinds=("tags", "keywords", "more"))
    with pytest.raises(ArgumentInvalid, match="from:more"):
        applying.Annotator(DICTIONARY, other, english, ApplyOptions())
    with pytest.raises(ArgumentInvalid, match=r"missing\.csv"):
        apply(tmp_path / "missing.csv", {}, DICTIONARY, scorer, english, tmp_path / "o", ApplyOptions(), Counter())
