"""How good retrieval and classification are, and how sure one can be of it: arrays in, numbers out.

measures      recall, precision, average precision, confusion, classification by neighbours
bootstrap     intervals over concepts and seeds, and of the difference of two models
cross_style   the question that the project asks first: does a drawing find its concept in another style
"""

from bowerbird.evaluation.bootstrap import (
    Comparison,
    Estimate,
    Sample,
    bootstrap_mean,
    compare_samples,
    estimate_sample,
)
from bowerbird.evaluation.cross_style import Pictures, Standings, rank_pairs
from bowerbird.evaluation.measures import (
    average_precision,
    classify_by_neighbours,
    count_confusions,
    expected_recall,
    label_precision,
    rank_truth,
    recall,
)

__all__ = [
    "Comparison",
    "Estimate",
    "Pictures",
    "Sample",
    "Standings",
    "average_precision",
    "bootstrap_mean",
    "classify_by_neighbours",
    "compare_samples",
    "count_confusions",
    "estimate_sample",
    "expected_recall",
    "label_precision",
    "rank_pairs",
    "rank_truth",
    "recall",
]
