"""The sampled softmax: at a rate of 1 the full one, at 20 % its gradient, and what the correction is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import ArgumentInvalid

torch = pytest.importorskip("torch")

from services.embedder.losses import RaggedLabels, cosine_logits, khot_softmax  # noqa: E402
from services.embedder.negatives import NegativeSampler  # noqa: E402
from services.embedder.sampled_softmax import sampled_softmax  # noqa: E402
from services.embedder.sharded_softmax import ShardedSoftmax  # noqa: E402

LABELS, DIMENSION = 20, 6
LARGE = 5000
repeatable = settings(derandomize=True, deadline=None, max_examples=30)
label_lists = st.lists(st.lists(st.integers(0, LABELS - 1), max_size=5), min_size=1, max_size=6)


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(lists=label_lists, seed=st.integers(0, 100))
@repeatable
def test_at_a_rate_of_one_it_is_the_full_softmax(lists: list[list[int]], seed: int) -> None:
    """Value and both gradients, with pictures without labels, duplicates of a label, or no label at all."""
    targets = RaggedLabels.from_lists(lists)
    x, p = random(len(lists), DIMENSION, seed=seed).requires_grad_(), random(LABELS, DIMENSION, seed=1).requires_grad_()

    sampled = sampled_softmax(x, p, targets, NegativeSampler(LABELS, LABELS), step=seed)
    full = khot_softmax(cosine_logits(x, p), targets)

    torch.testing.assert_close(sampled, full)
    for actual, expected in zip(*(torch.autograd.grad(loss, (x, p)) for loss in (sampled, full)), strict=True):
        torch.testing.assert_close(actual, expected)


@given(lists=label_lists, seed=st.integers(0, 100), samples=st.integers(1, LABELS))
@repeatable
def test_it_is_the_cross_entropy_over_the_candidates(lists: list[list[int]], seed: int, samples: int) -> None:
    """Written out picture by picture: exp(s) / q summed over the batch's labels and the drawn ones."""
    targets, sampler = RaggedLabels.from_lists(lists), NegativeSampler(LABELS, samples, seed=seed)
    x, p = random(len(lists), DIMENSION, seed=seed), random(LABELS, DIMENSION, seed=1)
    drawn = sampler.draw(3)
    chance = dict(zip(drawn.ids.tolist(), np.exp(drawn.log_q).tolist(), strict=True))
    chance |= {label: 1.0 for row in lists for label in row}
    expected = []
    for scores, row in zip(cosine_logits(x, p, 0.3), lists, strict=True):
        if row:
            total = sum(scores[label].exp() / q for label, q in chance.items())
            expected.append(total.log() - sum(scores[label] for label in set(row)) / len(set(row)))

    actual = sampled_softmax(x, p, targets, sampler, step=3, temperature=0.3)

    assert actual.item() == pytest.approx(float(sum(expected)) / max(len(expected), 1), rel=1e-6, abs=1e-9)


def test_the_gradients_are_those_of_the_formula() -> None:
    """Finite differences agree, sampled, with confidences, and going back twice gives the same."""
    targets = RaggedLabels.from_lists([[1, 5], [], [19], [5, 7]], [[1.0, 0.5], [], [0.3], [0.2, 0.9]])
    x, p = random(4, DIMENSION).requires_grad_(), random(LABELS, DIMENSION, seed=1).requires_grad_()
    sampler = NegativeSampler(LABELS, 7)

    def loss(x: Any, p: Any) -> Any:
        return sampled_softmax(x, p, targets, sampler, step=1, temperature=0.5)

    assert torch.autograd.gradcheck(loss, (x, p), fast_mode=True)
    value = loss(x, p)
    once, again = (torch.autograd.grad(value, p, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, again)
    competing = sampler.choose(targets.ids.numpy(), step=1, start=0, stop=LABELS).ids
    assert set(once.abs().sum(1).nonzero()[:, 0].tolist()) == set(competing.tolist())


def test_pictures_without_a_label_get_no_gradient() -> None:
    """Exactly none, while the others' is that of the batch without them."""
    lists = [[1, 5], [], [19]]
    x, p = random(3, DIMENSION).requires_grad_(), random(LABELS, DIMENSION, seed=1)
    sampler = NegativeSampler(LABELS, 7)

    (gradient,) = torch.autograd.grad(sampled_softmax(x, p, RaggedLabels.from_lists(lists), sampler, step=0), x)
    kept = x.detach()[[0, 2]].requires_grad_()
    alone = sampled_softmax(kept, p, RaggedLabels.from_lists([lists[0], lists[2]]), sampler, step=0)

    assert torch.equal(gradient[1], torch.zeros(DIMENSION, dtype=torch.float64))
    torch.testing.assert_close(gradient[[0, 2]], torch.autograd.grad(alone, kept)[0])


def test_a_label_beyond_the_rows_is_refused() -> None:
    """With the label and the number of rows."""
    with pytest.raises(ArgumentInvalid, match="labels below 20, got 20"):
        sampled_softmax(random(1, 6), random(20, 6), RaggedLabels.from_lists([[20]]), NegativeSampler(20, 5), step=0)


@dataclass
class Trained:
    """A head that has seen some steps of a Zipf world, and a batch: between the first step and the last."""

    embeddings: Any
    proxies: Any
    targets: RaggedLabels
    frequencies: Any


@pytest.fixture(scope="module")
def trained() -> Trained:
    """5,000 labels of Zipf frequencies x 128, pictures of 3 labels and noise, 30 steps of the full softmax."""
    labels, dimension, pictures, steps = LARGE, 128, 32, 30
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(labels, dimension, generator=generator)
    chance = 1 / (torch.randperm(labels, generator=generator) + 1.0)
    head = ShardedSoftmax(labels, dimension)
    for step in range(steps):
        drawn = torch.multinomial(chance.expand(pictures, labels), 3, generator=generator)
        noise = 0.1 * torch.randn(pictures, dimension, generator=generator)
        embeddings = torch.nn.functional.normalize(truth[drawn], dim=2).sum(1) + noise
        targets = RaggedLabels.from_lists(drawn.tolist())
        head(embeddings, targets, step=step).backward()
        head.update(0.02)
    return Trained(embeddings, head.weight, targets, (chance * 1e4).numpy())


def measure_cosines(trained: Trained, sampler: NegativeSampler, *, draws: int = 12) -> dict[str, float]:
    """Cosines to the full gradient: the mean of the draws' cosines, and the cosine of the draws' mean gradient.

    A draw's gradient of the proxies has no rows for most labels, yet nearly all of its length is in the batch's own.
    """
    x, p = trained.embeddings.clone().requires_grad_(), trained.proxies.clone().requires_grad_()
    full = torch.autograd.grad(khot_softmax(cosine_logits(x, p), trained.targets), (x, p))
    each: list[list[Any]] = [[], []]
    for step in range(draws):
        loss = sampled_softmax(x, p, trained.targets, sampler, step=step)
        for gradients, gradient in zip(each, torch.autograd.grad(loss, (x, p)), strict=True):
            gradients.append(gradient)
    cosines = {}
    for name, gradients, expected in zip(("embeddings", "proxies"), each, full, strict=True):
        cosines[f"{name}, each draw"] = float(np.mean([cosine(gradient, expected) for gradient in gradients]))
        cosines[f"{name}, mean"] = cosine(sum(gradients), expected)
    return cosines


def cosine(a: Any, b: Any) -> float:
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.fixture(scope="module")
def corrected(trained: Trained) -> dict[str, float]:
    return measure_cosines(trained, NegativeSampler(LARGE, LARGE // 5, frequencies=trained.frequencies))


def test_a_fifth_of_the_labels_has_the_gradient_of_all(trained: Trained, corrected: dict[str, float]) -> None:
    """Above 0.99 of the cosine with the correction; without it, visibly less, and the mean of draws does not help."""
    sampler = NegativeSampler(LARGE, LARGE // 5, frequencies=trained.frequencies, corrected=False)
    plain = measure_cosines(trained, sampler)

    assert min(corrected.values()) > 0.99, corrected
    assert max(plain.values()) < 0.95, plain


def test_frequencies_bring_the_draws_nearer_to_the_full_gradient(trained: Trained, corrected: dict[str, float]) -> None:
    """Frequent labels are the hard negatives, so drawing them more often is better than uniform draws."""
    uniform = measure_cosines(trained, NegativeSampler(LARGE, LARGE // 5))

    for name in ("embeddings, each draw", "proxies, each draw"):
        assert corrected[name] > uniform[name] + 0.005, (corrected, uniform)
