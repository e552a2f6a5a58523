"""From network outputs to boxes: against a slow and obvious version, and the corners of the space."""

from __future__ import annotations

import numpy as np
import pytest

from bowerbird.models.zoo import DetectorSpec, InputSpec
from services.detector.postprocess import MAX_CANDIDATES, AnchorGrid, FloatArray, find_objects

SIZE = InputSpec(64, 32, "bgr", (0, 0, 0), (1, 1, 1))
SPEC = DetectorSpec(labels=("a", "b", "c"), strides=(8, 16), bins=5, min_score=0.4, max_iou=0.5)
GRID = AnchorGrid.build(SPEC, SIZE)
POINTS = 8 * 4 + 4 * 2
SURE = 30.0  # a logit that leaves nothing to the other bins


def sure_of(*bins: int) -> FloatArray:
    """(20,) logits that put all weight of each side on one bin."""
    logits = np.zeros((4, SPEC.bins), np.float32)
    logits[np.arange(4), list(bins)] = SURE
    return logits.ravel()


def find(scores: FloatArray, distances: FloatArray, **options: object) -> list[tuple[int, float, list[float]]]:
    """(class, score, box in pixels) of the objects found."""
    settings = {"min_score": 0.4, "max_iou": 0.5, "max_detections": 20} | options
    found = find_objects(scores, distances, GRID, SIZE, **settings)  # type: ignore[arg-type]
    boxes = found.boxes * np.array([64, 32, 64, 32], np.float32)
    return list(zip(found.classes.tolist(), found.scores.tolist(), boxes.tolist(), strict=True))


def empty() -> tuple[FloatArray, FloatArray]:
    return np.zeros((POINTS, 3), np.float32), np.zeros((POINTS, 20), np.float32)


def test_points_lie_in_the_middle_of_their_cells_row_by_row() -> None:
    """The grid follows the output: the levels in order, each row by row."""
    assert GRID.points.shape == (POINTS, 3)
    assert GRID.points[[0, 1, 8, 31, 32, 39], :2].tolist() == [[4, 4], [12, 4], [4, 12], [60, 28], [8, 8], [56, 24]]
    assert GRID.points[[0, 31, 32], 2].tolist() == [8, 8, 16]


def test_nothing_above_the_threshold_is_nothing_found() -> None:
    """No candidate is a valid answer."""
    assert find(*empty()) == []


def test_a_certain_distance_counts_strides() -> None:
    """All weight on bin k puts the side k strides from the point."""
    scores, distances = empty()
    scores[9, 1] = 0.9  # center (12, 12), stride 8
    distances[9] = sure_of(1, 0, 2, 1)

    [(class_, score, box)] = find(scores, distances)

    assert (class_, box) == (1, [4.0, 12.0, 28.0, 20.0])
    assert score == pytest.approx(0.9)


def test_an_even_distribution_means_the_middle_bin() -> None:
    """The distance is the expectation over bins: 2 strides of 5 even bins."""
    scores, distances = empty()
    scores[32 + 1, 0] = 0.9  # center (24, 8), stride 16: 2 strides reach beyond the picture

    [(_, _, box)] = find(scores, distances)

    assert box == [0.0, 0.0, 56.0, 32.0]


def test_a_box_without_area_is_left_out() -> None:
    """All distances zero make no object."""
    scores, distances = empty()
    scores[0, 0] = 0.9
    distances[0] = sure_of(0, 0, 0, 0)

    assert find(scores, distances) == []


def test_the_threshold_is_inclusive() -> None:
    """A candidate at exactly the threshold stays."""
    scores, distances = empty()
    scores[9, 1] = 0.5
    distances[9] = sure_of(1, 1, 1, 1)

    assert len(find(scores, distances, min_score=0.5)) == 1
    assert find(scores, distances, min_score=0.5001) == []


def test_suppression_is_per_class() -> None:
    """Of two equal boxes the better one stays within a class; both stay in two classes."""
    scores, distances = empty()
    distances[9] = distances[10] = sure_of(2, 2, 2, 2)
    distances[10] = sure_of(3, 2, 1, 2)  # the same box from the next point
    scores[9, 0], scores[10, 0], scores[10, 2] = 0.6, 0.7, 0.5

    assert [(class_, round(score, 2)) for class_, score, _ in find(scores, distances)] == [(0, 0.7), (2, 0.5)]


def test_one_point_may_show_two_classes() -> None:
    """Every class above the threshold is a candidate, not only the best of a point."""
    scores, distances = empty()
    scores[9] = [0.5, 0.9, 0.7]
    distances[9] = sure_of(1, 1, 1, 1)

    assert [class_ for class_, _, _ in find(scores, distances)] == [1, 2, 0]


def test_unwanted_classes_are_no_candidates() -> None:
    """A class filter applies before suppression and before the bound."""
    scores, distances = empty()
    scores[9] = [0.5, 0.9, 0.7]
    distances[9] = sure_of(1, 1, 1, 1)
    wanted = np.array([True, False, True])

    assert [class_ for class_, _, _ in find(scores, distances, wanted=wanted, max_detections=1)] == [2]


def test_the_best_candidates_are_considered() -> None:
    """When more pass the threshold than suppression looks at, the best of them are taken."""
    count = MAX_CANDIDATES + 200
    spec = DetectorSpec(("a",), (8,), 5, 0.4, 0.5)
    size = InputSpec(8 * count, 8, "bgr", (0, 0, 0), (1, 1, 1))
    scores = np.linspace(0.5, 0.9, count, dtype=np.float32)[:, None]
    distances = np.tile(sure_of(0, 0, 0, 0) + sure_of(0, 0, 1, 1), (count, 1))

    found = find_objects(
        scores, distances, AnchorGrid.build(spec, size), size, min_score=0.4, max_iou=0.5, max_detections=300
    )

    np.testing.assert_array_equal(found.scores, scores[::-1][:300, 0])


def test_the_whole_equals_a_slow_and_obvious_version() -> None:
    """Random outputs give the same objects as loops over points, classes, sides and pairs."""
    random = np.random.default_rng(0)
    for _ in range(10):
        scores = random.random((POINTS, 3), np.float32)
        distances = random.normal(0, 2, (POINTS, 20)).astype(np.float32)
        expected = find_slowly(scores, distances, min_score=0.5, max_iou=0.4)[:20]

        found = find(scores, distances, min_score=0.5, max_iou=0.4)

        assert [entry[0] for entry in found] == [entry[0] for entry in expected]
        np.testing.assert_allclose([entry[1] for entry in found], [entry[1] for entry in expected])
        np.testing.assert_allclose([entry[2] for entry in found], [entry[2] for entry in expected], atol=1e-3)


def find_slowly(
    scores: FloatArray, distances: FloatArray, *, min_score: float, max_iou: float
) -> list[tuple[int, float, list[float]]]:
    candidates = []
    for point in range(POINTS):
        box = []
        for side in range(4):
            weights = np.exp(distances[point, side * 5 : side * 5 + 5].astype(np.float64))
            expected = sum(k * weight for k, weight in enumerate(weights)) / weights.sum() * GRID.points[point, 2]
            center, limit = GRID.points[point, side % 2], (64, 32)[side % 2]
            box.append(min(max(center + (expected if side >= 2 else -expected), 0.0), limit))
        candidates += [(class_, float(scores[point, class_]), box) for class_ in range(3)]
    kept: list[tuple[int, float, list[float]]] = []
    for candidate in sorted((c for c in candidates if c[1] >= min_score), key=lambda c: -c[1]):
        if all(candidate[0] != other[0] or overlap(candidate[2], other[2]) <= max_iou for other in kept):
            kept.append(candidate)
    return kept


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0
