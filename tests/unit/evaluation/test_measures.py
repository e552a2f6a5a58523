"""Measures of retrieval and classification, against values computed by hand."""

import numpy as np
import pytest

from bowerbird import evaluation


def test_rank_is_the_position_of_the_right_answer() -> None:
    """The rank counts from 0, and is K for a query whose answer is missing."""
    answers = np.array([[3, 1, 2], [0, 1, 2], [7, 8, -1]])
    assert evaluation.rank_truth(answers, np.array([2, 0, 5])).tolist() == [2, 0, 3]


def test_recall_counts_only_the_first_k() -> None:
    """A right answer at rank k (from 0) is outside the first k."""
    ranks = np.array([0, 1, 9, 10])
    assert evaluation.recall(ranks, 1).tolist() == [1, 0, 0, 0]
    assert evaluation.recall(ranks, 10).tolist() == [1, 1, 1, 0]


def test_label_precision_counts_missing_answers_as_wrong() -> None:
    """A padded answer never matches, even though -1 indexes the last label."""
    labels = np.array([0, 0, 1])
    answers = np.array([[0, 1], [2, -1]])
    assert evaluation.label_precision(answers, labels, np.array([0, 1])).tolist() == [1.0, 0.5]


def test_ties_stand_in_random_order() -> None:
    """The right answer among three equals is first once in three; behind a better item it never is."""
    better, tied = np.array([0, 0, 1, 12]), np.array([0, 2, 2, 0])
    assert evaluation.expected_recall(better, tied, 1).tolist() == [1.0, 1 / 3, 0.0, 0.0]
    assert evaluation.expected_recall(better, tied, 2).tolist() == [1.0, 2 / 3, 1 / 3, 0.0]
    assert evaluation.expected_recall(better, tied, 13).tolist() == [1.0, 1.0, 1.0, 1.0]


def test_average_precision_of_a_hand_computed_ranking() -> None:
    """Relevant items at ranks 1 and 3 give (1/1 + 2/3) / 2; ties count as seen together; no relevant item: NaN."""
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.5, 0.5, 0.5, 0.1], [0.9, 0.8, 0.7, 0.1]])
    relevant = np.array([[True, False, True, False], [True, False, False, True], [False] * 4])
    found = evaluation.average_precision(scores, relevant)
    assert found[:2] == pytest.approx([(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2])
    assert np.isnan(found[2])


def test_average_precision_does_not_depend_on_the_order_of_equals() -> None:
    """With all scores equal it is the share of relevant items, wherever they stand."""
    for relevant in ([True, False, False, False], [False, False, False, True]):
        assert evaluation.average_precision(np.zeros((1, 4)), np.array([relevant])) == pytest.approx([0.25])


def test_neighbours_vote_and_the_nearer_decide_between_equals() -> None:
    """Two far votes beat a near one; one against one goes to the nearer."""
    items = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    labels = np.array([2, 0, 0, 1])
    queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert evaluation.classify_by_neighbours(items, labels, queries, k=3).tolist() == [0, 0]
    assert evaluation.classify_by_neighbours(items, labels, queries, k=2).tolist() == [2, 1]


def test_confusions_count_truth_down_and_prediction_across() -> None:
    """Class 0 taken for 1 stands in row 0, column 1; a class that never comes has a row of zeros."""
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([1, 0, 1, 1, 0])
    assert evaluation.count_confusions(truth, predicted, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
