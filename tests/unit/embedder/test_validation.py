"""The measures of validation, by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from services.embedder.model import TaskSpec  # noqa: E402
from services.embedder.targets import encode  # noqa: E402
from services.embedder.validation import measure_labels, measure_retrieval, summarise  # noqa: E402

TASKS = (TaskSpec("a", "metric", ("x",), "a"), TaskSpec("b", "classes", ("x",), "b"))


def test_retrieval_asks_only_what_can_be_answered() -> None:
    """Two pairs and a single picture: four questions, and the single one stands nearer to one of them."""
    embeddings = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [-0.7, 0.7], [0.1, 0.99]])
    labels = torch.tensor([0, 0, 1, 1, 2])
    measures = measure_retrieval(embeddings, labels)
    assert measures["p_at_1"] == pytest.approx(3 / 4)
    assert measures["r_at_10"] == 1.0


def test_a_picture_never_finds_itself() -> None:
    """Identical pictures of different labels find each other, and that is wrong."""
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert measure_retrieval(embeddings, torch.tensor([0, 1, 0, 1]))["p_at_1"] == 0.0


def test_without_a_pair_nothing_is_measured() -> None:
    """Every label on one picture."""
    assert measure_retrieval(torch.eye(3), torch.tensor([0, 1, 2])) == {}


def test_binary_codes_are_measured_by_signs() -> None:
    """Where the signs say the opposite of the angles, both are told."""
    embeddings = torch.tensor([[9.0, 1.0], [9.0, -1.0], [1.0, 2.0], [0.1, -9.0]])
    measures = measure_retrieval(embeddings, torch.tensor([0, 0, 1, 2]))
    assert measures["p_at_1"] == 1.0
    assert measures["binary_p_at_1"] == 0.0


def test_label_measures_by_hand() -> None:
    """Average precision over labels that anyone has; recall among the ten best of twelve."""
    lists = [["l0"], ["l0", "l11"], []]
    vocabulary = [f"l{n}" for n in range(12)]
    targets = encode(lists, vocabulary)
    scores = torch.zeros(2, 12)
    scores[:, :10] = torch.arange(10, 0, -1)
    scores[0, 0], scores[1, 0] = 20, 30
    measures = measure_labels(scores, targets, np.array([0, 1]))
    assert measures["r_at_10"] == pytest.approx((1 + 1 / 2) / 2)
    assert measures["map"] == pytest.approx((1 + 1 / 2) / 2)  # of l0; of l11, whose scores are equal


def test_the_best_state_is_chosen_by_what_was_asked_for() -> None:
    """A measure by name, or the mean of each task's first; nothing where nothing is known."""
    measures = {"a/p_at_1": 0.2, "a/r_at_10": 0.9, "b/accuracy": 0.6}
    assert summarise(measures, TASKS, "") == pytest.approx(0.4)
    assert summarise(measures, TASKS, "a/r_at_10") == 0.9
    assert summarise({}, TASKS, "") is None
    assert summarise(measures, TASKS, "c/map") is None
