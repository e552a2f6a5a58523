"""The losses against their formulas written out with loops, and that no label means no gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import ArgumentInvalid

torch = pytest.importorskip("torch")

from services.embedder import losses  # noqa: E402
from services.embedder.losses import RaggedLabels  # noqa: E402

CLASSES = 7
repeatable = settings(derandomize=True, deadline=None, max_examples=30)

confidences = st.sampled_from([0.0, 0.25, 0.5, 1.0])
label_lists = st.lists(
    st.lists(st.tuples(st.integers(0, CLASSES - 1), confidences), max_size=5), min_size=1, max_size=6
)


def random(*shape: int, seed: int = 0, dtype: Any = torch.float32) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def split(lists: list[list[tuple[int, float]]]) -> tuple[list[list[int]], list[list[float]]]:
    """Labels and confidences apart."""
    return [[label for label, _ in each] for each in lists], [[weight for _, weight in each] for each in lists]


def softmax(scores: Any) -> Any:
    exponentials = (scores - scores.max()).exp()
    return exponentials / exponentials.sum()


Ragged = Callable[..., Any]
RAGGED: dict[str, Ragged] = {"khot": losses.khot_softmax, "sigmoid": losses.sigmoid_loss}


@pytest.mark.parametrize("weighted", [False, True])
@given(lists=label_lists, seed=st.integers(0, 100))
@repeatable
def test_the_khot_softmax_is_the_cross_entropy_with_the_mean_target(
    weighted: bool, lists: list[list[tuple[int, float]]], seed: int
) -> None:
    """-sum_c y_c log p_c with y of 1/k, or of the share of the confidences; duplicates count once."""
    logits = random(len(lists), CLASSES, seed=seed)
    labels, weights = split(lists)
    expected = []
    for scores, row in zip(logits, lists, strict=True):
        target = torch.zeros(CLASSES)
        for label, weight in row:
            target[label] = max(float(target[label]), weight if weighted else 1.0)
        if target.sum() > 0:
            expected.append(-(target / target.sum() * softmax(scores).log()).sum())

    actual = losses.khot_softmax(logits, RaggedLabels.from_lists(labels, weights if weighted else None))

    assert float(actual) == pytest.approx(float(sum(expected)) / max(len(expected), 1), abs=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@given(lists=label_lists, seed=st.integers(0, 100))
@repeatable
def test_the_sigmoid_loss_is_the_sum_of_binary_cross_entropies(
    weighted: bool, lists: list[list[tuple[int, float]]], seed: int
) -> None:
    """The target is the confidence, or 1; a picture without labels is no picture of negatives."""
    logits = random(len(lists), CLASSES, seed=seed)
    labels, weights = split(lists)
    expected = []
    for scores, row in zip(logits, lists, strict=True):
        target = torch.zeros(CLASSES)
        for label, weight in row:
            target[label] = max(float(target[label]), weight if weighted else 1.0)
        if target.sum() > 0:
            chance = torch.sigmoid(scores)
            expected.append(-(target * chance.log() + (1 - target) * (1 - chance).log()).sum())

    actual = losses.sigmoid_loss(logits, RaggedLabels.from_lists(labels, weights if weighted else None))

    assert float(actual) == pytest.approx(float(sum(expected)) / max(len(expected), 1), abs=1e-5)


@given(lists=label_lists, seed=st.integers(0, 100))
@repeatable
def test_the_names_of_labels_and_the_order_of_a_list_do_not_matter(
    lists: list[list[tuple[int, float]]], seed: int
) -> None:
    """Renaming all labels and turning each list around changes nothing."""
    logits = random(len(lists), CLASSES, seed=seed)
    renamed = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    labels, weights = split(lists)
    others = [[int(renamed[label]) for label in reversed(row)] for row in labels]
    turned = torch.empty_like(logits)
    turned[:, renamed] = logits
    for loss in RAGGED.values():
        before = loss(logits, RaggedLabels.from_lists(labels, weights))
        after = loss(turned, RaggedLabels.from_lists(others, [row[::-1] for row in weights]))

        torch.testing.assert_close(after, before)


def single(labels: list[int]) -> Any:
    return torch.tensor(labels, dtype=torch.int64)


def of_classes(loss: Callable[..., Any], logits: Any, labels: list[int], **options: Any) -> Any:
    return loss(logits, single(labels), **options)


def of_lists(loss: Ragged, logits: Any, labels: list[int], **options: Any) -> Any:
    return loss(logits, RaggedLabels.from_lists([[label] if label >= 0 else [] for label in labels]), **options)


def by_weights(logits: Any, labels: Any, **options: Any) -> Any:
    return losses.class_balanced_loss(logits, labels, torch.linspace(0.5, 2, CLASSES), **options)


def to_proxies(embeddings: Any, labels: Any, **options: Any) -> Any:
    return losses.norm_softmax(embeddings, random(CLASSES, CLASSES, seed=5, dtype=embeddings.dtype), labels, **options)


EVERY = {
    "softmax": partial(of_classes, losses.softmax_loss),
    "balanced": partial(of_classes, by_weights),
    "norm": partial(of_classes, to_proxies),
    "khot": partial(of_lists, losses.khot_softmax),
    "sigmoid": partial(of_lists, losses.sigmoid_loss),
}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)


@every_loss
def test_a_batch_without_labels_has_exactly_no_loss_and_no_gradient(loss: Callable[..., Any]) -> None:
    """Zero and not NaN, with a graph that a step of all tasks can go back through."""
    inputs = random(4, CLASSES).requires_grad_()

    for denominator in (None, 0.0, 8.0):
        value = loss(inputs, [-1] * 4, denominator=denominator)
        (gradient,) = torch.autograd.grad(value, inputs)

        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros_like(gradient))


@every_loss
def test_pictures_without_a_label_have_no_part_in_it(loss: Callable[..., Any]) -> None:
    """Their gradient is zero, and the others' is what it would be without them."""
    inputs = random(5, CLASSES).requires_grad_()
    kept = inputs.detach()[[0, 2, 3]].requires_grad_()

    value, alone = loss(inputs, [3, -1, 0, 6, -1]), loss(kept, [3, 0, 6])
    value.backward()
    alone.backward()

    torch.testing.assert_close(value, alone)
    torch.testing.assert_close(inputs.grad[[0, 2, 3]], kept.grad)
    assert torch.equal(inputs.grad[[1, 4]], torch.zeros(2, CLASSES))


@every_loss
def test_parts_of_a_batch_add_up_to_the_whole(loss: Callable[..., Any]) -> None:
    """With the count of the whole as denominator, losses of unequal parts sum to the loss of all."""
    inputs, labels = random(6, CLASSES), [3, -1, 0, 6, -1, 2]

    whole = loss(inputs, labels)
    parts = [loss(inputs[a:b], labels[a:b], denominator=4) for a, b in ((0, 1), (1, 2), (2, 6))]

    torch.testing.assert_close(sum(parts), whole)


@every_loss
def test_the_gradients_are_those_of_the_formula(loss: Callable[..., Any]) -> None:
    """Finite differences agree."""
    inputs = random(3, CLASSES, dtype=torch.float64).requires_grad_()

    assert torch.autograd.gradcheck(lambda x: loss(x, [3, -1, 0]), (inputs,))


def test_weights_of_pictures_make_a_weighted_mean() -> None:
    """A weight of two is the picture twice; a picture without label has none."""
    logits = random(3, CLASSES)
    once = losses.softmax_loss(logits, single([1, 4, -1]), weights=torch.tensor([2.0, 1.0, 9.0]))
    twice = losses.softmax_loss(logits[[0, 0, 1]], single([1, 1, 4]))

    torch.testing.assert_close(once, twice)


def test_class_weights_balance_what_a_class_gives() -> None:
    """With beta near 1 every class weighs the same over the training set; with 0 every picture does."""
    counts = torch.tensor([1000, 100, 10, 0])

    balanced = losses.class_weights(counts, beta=1 - 1e-7)
    plain = losses.class_weights(counts, beta=0)

    assert (balanced * counts).tolist() == pytest.approx([370, 370, 370, 0], rel=1e-3)
    assert plain.tolist() == [1, 1, 1, 0]
    with pytest.raises(ArgumentInvalid, match="beta"):
        losses.class_weights(counts, beta=1)
    with pytest.raises(ArgumentInvalid, match="got none"):
        losses.class_weights(torch.zeros(3))


def test_balancing_lets_a_rare_class_weigh_even_in_a_batch_of_its_own() -> None:
    """Divided by the weights, a batch of one class would lose its weight again."""
    logits, weights = random(2, 2), torch.tensor([0.5, 8.0])

    plain = losses.softmax_loss(logits, single([1, 1]))
    balanced = losses.class_balanced_loss(logits, single([1, 1]), weights)

    torch.testing.assert_close(balanced, 8 * plain)


def test_norm_softmax_sees_directions_only() -> None:
    """Lengths of embeddings and proxies do not matter, and the temperature divides cosines."""
    embeddings, proxies, labels = random(4, 6), random(CLASSES, 6, seed=1), single([0, 3, 6, 2])
    cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], proxies[None], dim=2)
    expected = torch.stack([-softmax(row / 0.05)[label].log() for row, label in zip(cosines, labels, strict=True)])

    for scale in (1.0, 1e-3, 40.0):
        actual = losses.norm_softmax(embeddings * scale, proxies / scale, labels)
        torch.testing.assert_close(actual, expected.mean(), rtol=1e-4, atol=1e-4)


def test_a_subset_of_proxies_is_the_softmax_over_these_classes() -> None:
    """Other proxies get no gradient; all of them is the loss without a subset."""
    embeddings, labels = random(3, 6), single([5, -1, 2])
    proxies = random(CLASSES, 6, seed=1).requires_grad_()
    some, everyone = torch.tensor([0, 2, 5]), torch.arange(CLASSES)

    value = losses.norm_softmax(embeddings, proxies, labels, proxy_ids=some)
    value.backward()
    expected = losses.norm_softmax(embeddings, proxies[some], single([2, -1, 1]))

    torch.testing.assert_close(value, expected)
    assert torch.equal(proxies.grad.abs().sum(1) > 0, torch.isin(everyone, some))
    torch.testing.assert_close(
        losses.norm_softmax(embeddings, proxies, labels, proxy_ids=everyone),
        losses.norm_softmax(embeddings, proxies, labels),
    )


def test_a_batch_class_outside_the_subset_is_refused() -> None:
    """A picture's own class must compete, or its loss means nothing."""
    for subset in ([0, 5], [0, 6], []):
        with pytest.raises(ArgumentInvalid, match="proxy_ids"):
            losses.norm_softmax(random(1, 6), random(CLASSES, 6), single([3]), proxy_ids=single(subset))


@given(labels=st.lists(st.integers(-1, 99), max_size=12), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@repeatable
def test_drawn_proxies_have_the_batch_and_a_share_of_the_rest(labels: list[int], share: float) -> None:
    """Ascending, distinct, every class of the batch among them, and the same from the same generator."""
    drawn = [
        losses.draw_proxies(single(labels), classes=100, share=share, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    ids = drawn[0].tolist()

    assert ids == drawn[1].tolist() == sorted(set(ids))
    assert {label for label in labels if label >= 0} <= set(ids) <= set(range(100))
    assert round(100 * share) <= len(ids) <= round(100 * share) + len(labels)


def test_a_small_share_of_few_classes_is_one() -> None:
    """Else a part of a batch without labels of the task would have no class at all, and stop the run."""
    drawn = losses.draw_proxies(single([-1, -1]), classes=4, share=0.1)
    assert len(drawn) == 1
    assert losses.norm_softmax(random(2, 6), random(4, 6), single([-1, -1]), proxy_ids=drawn) == 0


def test_new_proxies_are_uniform_and_short() -> None:
    """U(-1/sqrt(d), 1/sqrt(d)) has the standard deviation 1/sqrt(3 d)."""
    proxies = losses.init_proxies_(torch.empty(2000, 16), torch.Generator().manual_seed(0))

    assert float(proxies.abs().max()) <= 0.25
    assert float(proxies.std()) == pytest.approx((3 * 16) ** -0.5, rel=0.02)


def test_autocast_does_not_round_the_logits() -> None:
    """Under bfloat16 autocast the loss is still that of float32."""
    embeddings, proxies, labels = random(4, 64), random(CLASSES, 64, seed=1), single([0, 3, 6, 2])
    expected = losses.norm_softmax(embeddings, proxies, labels)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = losses.norm_softmax(embeddings, proxies, labels)

    assert actual.dtype == torch.float32
    assert float(actual) == float(expected)


def test_lists_come_to_one_form() -> None:
    """Duplicates keep the largest confidence, labels ascend, and a confidence of 0 is no label."""
    targets = RaggedLabels.from_lists([[3, 1, 3], [], [4], [0]], [[0.25, 0.5, 0.75], [], [0.0], [1.0]])

    assert targets.offsets.tolist() == [0, 2, 2, 2, 3]
    assert targets.ids.tolist() == [1, 3, 0]
    assert targets.weights is not None
    assert targets.weights.tolist() == [0.5, 0.75, 1.0]
    assert targets.rows.tolist() == [0, 0, 3]
    assert targets.labelled.tolist() == [True, False, False, True]
    assert targets.shares().tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert len(targets.to("cpu")) == 4


@pytest.mark.parametrize(
    ("offsets", "ids", "weights", "fault"),
    [
        ([0, 2], [1], None, "offsets"),
        ([1, 1], [1], None, "offsets"),
        ([], [], None, "offsets"),
        ([0, 2, 1, 3], [1, 2, 3], None, "ascending"),
        ([0, 1], [-1], None, "ids"),
        ([0, 1], [1], [-0.5], "weights"),
        ([0, 1], [1], [float("nan")], "weights"),
        ([0, 1], [1], [0.5, 0.5], "weights"),
    ],
)
def test_malformed_lists_are_refused(
    offsets: list[int], ids: list[int], weights: list[float] | None, fault: str
) -> None:
    """The message names the array at fault."""
    with pytest.raises(ArgumentInvalid, match=fault):
        RaggedLabels.from_arrays(single(offsets), single(ids), None if weights is None else torch.tensor(weights))


def test_lists_of_confidences_have_the_lengths_of_their_labels() -> None:
    """Equal totals are not enough."""
    with pytest.raises(ArgumentInvalid, match="weights"):
        RaggedLabels.from_lists([[1], [2, 3]], [[0.5, 0.5], [0.5]])
