"""The linear probe: it finds a plane where there is one, and nothing where there is none."""

import numpy as np
import pytest

pytest.importorskip("torch")

from pipelines.evidence.probe import fit_and_predict


def test_two_classes_on_a_line_are_parted_in_the_middle() -> None:
    """With points at -2, -1 and 1, 2 the border is at 0, as symmetry asks."""
    points = np.array([[-2.0], [-1.0], [1.0], [2.0]], np.float32)
    queries = np.array([[-0.01], [0.01], [-9.0], [9.0]], np.float32)
    assert fit_and_predict(points, np.array([0, 0, 1, 1]), queries).tolist() == [0, 1, 0, 1]


def test_scale_and_shift_of_the_embedding_do_not_matter() -> None:
    """A probe reads what a plane can read, whatever the units."""
    generator = np.random.default_rng(0)
    points, labels = generator.standard_normal((200, 8)).astype(np.float32), generator.integers(0, 3, 200)
    points[np.arange(200), labels] += 3
    queries = points[:50] + 0.1
    plain = fit_and_predict(points, labels, queries)
    assert (plain == labels[:50]).mean() > 0.9
    assert (fit_and_predict(points * 100 + 7, labels, queries * 100 + 7) == plain).mean() >= 0.98  # float32 rounding


def test_random_labels_cannot_be_foretold() -> None:
    """On new points the probe is at chance: it has not seen the answers."""
    generator = np.random.default_rng(1)
    points = generator.standard_normal((400, 16)).astype(np.float32)
    labels = generator.integers(0, 4, 400)
    assert (fit_and_predict(points[:200], labels[:200], points[200:]) == labels[200:]).mean() < 0.4
