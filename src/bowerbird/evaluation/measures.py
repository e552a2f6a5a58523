"""Measures of retrieval and classification; arrays in, arrays or numbers out.

Legend: Q queries, K ranks, N items, D dimensions, L labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def rank_truth(answers: IntArray, truth: IntArray) -> IntArray:
    """Rank, from 0, at which the right answer of each query stands; K where it is not among the answers.

    Args:
        answers: (Q, K) int64, best first; -1 where a query has fewer answers.
        truth: (Q,) int64, the right answer of each query, not negative.
    Returns:
        (Q,) int64 in [0, K].
    """
    found = answers == truth[:, None]
    return np.asarray(np.where(found.any(axis=1), found.argmax(axis=1), answers.shape[1]), np.int64)


def recall(ranks: IntArray, k: int) -> FloatArray:
    """(Q,) 1.0 where the one right answer is among the first k, else 0.0; for k = 1 this is also the precision at 1."""
    return (ranks < k).astype(np.float64)


def expected_recall(better: IntArray, tied: IntArray, k: int) -> FloatArray:
    """(Q,) chance that the one right answer is among the first k when equal scores stand in random order.

    Scores of short codes are often equal. To let the right answer win every tie would flatter codes (one that is the
    same for all pictures would be perfect), and to let it lose every tie would be unfair; this is neither.

    Args:
        better: (Q,) items with a better score than the right answer.
        tied: (Q,) other items with the same score.
    """
    return np.clip((k - better.astype(np.float64)) / (tied + 1), 0.0, 1.0)


def label_precision(answers: IntArray, labels: IntArray, query_labels: IntArray) -> FloatArray:
    """(Q,) share of each query's answers that carry the query's label; answers of -1 count as wrong.

    Args:
        answers: (Q, K) int64, positions in `labels`; -1 where a query has fewer answers.
        labels: (N,) int64, label of each item.
        query_labels: (Q,) int64.
    """
    right = (labels[answers] == query_labels[:, None]) & (answers >= 0)
    return np.asarray(right.mean(axis=1), np.float64)


def average_precision(scores: npt.NDArray[np.floating], relevant: BoolArray) -> FloatArray:
    """(L,) average precision of each row: the mean, over its relevant items, of the precision down to that item.

    Items with equal scores stand together: the precision at one of them is that after all of them. A row without a
    relevant item has none (NaN), and must not be counted. The mean of the rest is the mean average precision.

    Args:
        scores: (L, N) finite, larger is better; e.g. one row a label.
        relevant: (L, N) bool.
    """
    result = np.full(len(scores), np.nan)
    for row, (values, wanted) in enumerate(zip(scores, relevant, strict=True)):
        if not wanted.any():
            continue
        order = np.argsort(-values, kind="stable")
        sorted_values, hits = values[order], wanted[order]
        last_of_tie = np.searchsorted(-sorted_values, -sorted_values, side="right") - 1
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        result[row] = precision[last_of_tie][hits].mean()
    return result


def classify_by_neighbours(
    embeddings: npt.NDArray[np.floating], labels: IntArray, queries: npt.NDArray[np.floating], *, k: int
) -> IntArray:
    """(Q,) label that most of the k nearest items have; of equally many, that of the nearer ones.

    Args:
        embeddings: (N, D) of the items; nearness is the inner product.
        labels: (N,) int64, not negative.
        queries: (Q, D).
        k: 1 to N.
    """
    scores = queries @ embeddings.T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(queries), int(labels.max()) + 1))
    # A vote of rank r weighs 1 + a bit that shrinks with r, and all bits together less than one vote.
    weights = 1 + (k - np.arange(k)) / (k * k + 1.0)
    np.add.at(votes, (np.arange(len(queries))[:, None], labels[nearest]), weights)
    return np.asarray(votes.argmax(axis=1), np.int64)


def count_confusions(truth: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """(classes, classes) int64: how often the row's class was taken for the column's."""
    flat = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return np.asarray(flat.reshape(classes, classes), np.int64)
