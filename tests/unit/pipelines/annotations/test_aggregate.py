import pytest

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.aggregate import AggregateOptions, Annotation, aggregate

COPIES = [
    [Annotation(1, 0.8, ("tags",)), Annotation(2, 0.4, ("title",))],
    [Annotation(1, 0.5, ("tags", "title"))],
    [],
    [],
]


@pytest.mark.parametrize(
    ("combination", "scores"),
    [("max", {1: 0.8, 2: 0.4}), ("mean", {1: 0.325, 2: 0.1}), ("noisy-or", {1: 0.9, 2: 0.4})],
)
def test_copies_are_put_together(combination, scores):
    found = aggregate(COPIES, AggregateOptions(combination, min_score=0))
    assert {one.term: one.score for one in found} == pytest.approx(scores)
    assert found[0].sources == ("tags", "title")


def test_the_best_annotations_above_the_threshold_are_kept():
    copy = [Annotation(term, score, ("tags",)) for term, score in ((4, 0.5), (3, 0.5), (2, 0.9), (1, 0.1))]
    assert [one.term for one in aggregate([copy], AggregateOptions(min_score=0.5))] == [2, 3, 4]
    assert [one.term for one in aggregate([copy], AggregateOptions(min_score=0, max_terms=2))] == [2, 3]


@pytest.mark.parametrize("wrong", [{"combination": "sum"}, {"min_score": 1.5}, {"max_terms": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ArgumentInvalid, match="expected a combination"):
        AggregateOptions(**wrong)
