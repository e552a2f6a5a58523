"""Measures of the tables, on representations whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from pipelines.evidence.examine import (
    Representation,
    Subjects,
    find_bands,
    measure_annotations,
    measure_classes,
    measure_labels,
    measure_retrieval,
)

STYLES = ("ink", "oil", "clay", "wax")
CONCEPTS = 24


def make_subjects() -> Subjects:
    """24 concepts in four styles, half of them for the test; labels: one for all, one for six, one for a pair."""
    styles = [style for style in STYLES for _ in range(CONCEPTS)]
    numbers = [number for _ in STYLES for number in range(CONCEPTS)]
    return Subjects(
        styles=styles,
        concepts=[f"thing-{number:02}" for number in numbers],
        labels=[["all", f"group-{number % 6}", f"pair-{number % 12}"] for number in numbers],
        is_test=np.array([number < 12 for number in numbers]),
        trains=np.array([number >= 12 and style != "wax" for number, style in zip(numbers, styles, strict=True)]),
        held_out="wax",
        compared=STYLES,
    )


def represent(subjects: Subjects, noise: float, *, by: str = "concepts", seed: int = 0) -> Representation:
    """Embeddings that are a random vector for each concept (or first style), and noise."""
    generator = np.random.default_rng(seed)
    names = getattr(subjects, by)
    centres = {name: generator.standard_normal(64) for name in sorted(set(names))}
    rows = [centres[name] + noise * generator.standard_normal(64) for name in names]
    return Representation(np.array(rows, np.float32))


def test_a_perfect_model_finds_every_concept_and_one_of_styles_finds_none() -> None:
    """Only test concepts are asked: 12 a pair; the unseen style stands in both directions."""
    subjects = make_subjects()
    good = measure_retrieval(subjects, represent(subjects, 0.05))
    assert good["concepts P@1"].mean == good["style P@1"].mean == good["concepts P@1 binary"].mean == 1.0
    assert good["concepts P@1"].sizes.sum() == 3 * 2 * 12
    assert good["style P@1"].sizes.sum() == 2 * 3 * 12
    bad = measure_retrieval(subjects, represent(subjects, 0.05, by="styles"))
    assert bad["concepts P@1"].mean < 0.3  # chance is 1 / 12
    assert bad["concepts R@10"].mean > bad["concepts P@1"].mean


def test_features_without_signs_have_no_codes() -> None:
    """Signs of what is never negative would be a code of ones."""
    subjects = make_subjects()
    plain = Representation(np.abs(represent(subjects, 0.05).embeddings), unsigned=True)
    assert "concepts P@1 binary" not in measure_retrieval(subjects, plain)


def test_bands_go_by_training_pictures() -> None:
    """Of 36 training pictures 36 carry the common label, 6 each group and 3 each pair; test pictures do not count."""
    bands = find_bands(make_subjects(), tail=(1, 3), head=36)
    assert bands["head"] == {"all"}
    assert bands["tail"] == {f"pair-{number}" for number in range(12)}


def test_labels_are_found_by_a_model_that_knows_the_concepts() -> None:
    """Recall@1 and probe of the tail are perfect for it, and poor for one that only knows the style."""
    subjects = make_subjects()
    bands = find_bands(subjects, tail=(1, 3), head=6)
    good = measure_labels(subjects, represent(subjects, 0.05), bands)
    assert good["tail recall@1"].mean == good["tail probe"].mean == 1.0
    assert good["tail recall@1"].sizes.tolist() == [[1.0] * 12]  # a label is a cluster, and counts once
    bad = measure_labels(subjects, represent(subjects, 0.05, by="styles"), bands)
    assert bad["tail recall@1"].mean < 0.4
    assert bad["tail probe"].mean < 0.4
    assert bad["head recall@1"].mean > bad["tail recall@1"].mean  # one of seven is easier than one of twelve


def test_a_label_in_one_style_only_cannot_be_asked() -> None:
    """Its pictures have no counterpart in another style."""
    subjects = make_subjects()
    labels = [["lonely"] if style == "ink" else [] for style in subjects.styles]
    alone = Subjects(**{**vars(subjects), "labels": labels})
    assert measure_labels(alone, represent(alone, 0.05), {"tail": {"lonely"}}) == {}


def test_accuracy_leaves_out_what_the_head_cannot_know() -> None:
    """Pictures without a label, and with one that was not trained on, are not asked."""
    scores = np.array([[2, 1], [1, 2], [2, 1], [2, 1], [9, 0]], np.float32)
    model = Representation(np.zeros((5, 1), np.float32), {"kind": scores}, {"kind": ("cat", "dog")})
    truth = ["cat", "dog", "dog", None, "fish"]
    sample = measure_classes(model, "kind", truth, np.arange(5), ["a", "a", "b", "b", "c"])["kind accuracy"]
    assert sample.totals.tolist() == [[2.0, 0.0]]
    assert sample.sizes.tolist() == [[2.0, 1.0]]


def test_the_best_annotation_counts_if_the_picture_carries_it() -> None:
    """Asked are the test pictures that carry a label which the head knows."""
    subjects = make_subjects()
    names = [f"group-{number}" for number in range(6)]
    scores = np.array([[float(name in own) for name in names] for own in subjects.labels], np.float32)
    scores[0] = 0  # the first label wins: that is group-0, which picture 0 carries
    scores[1] = [9, 0, 0, 0, 0, 0]  # and picture 1 does not
    model = Representation(np.zeros((len(scores), 1), np.float32), {"words": scores}, {"words": names})
    found = measure_annotations(model, "words", subjects, subjects.concepts)["words P@1"]
    assert found.sizes.sum() == 48
    assert found.totals.sum() == 47
