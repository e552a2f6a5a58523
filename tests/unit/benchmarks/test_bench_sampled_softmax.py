"""The contenders of the softmax benchmark compute what they are said to, and its world has the answer it claims."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import bench_sampled_softmax  # noqa: E402
from benchmarks.label_world import LABELS, LABELS_EACH, LabelWorld  # noqa: E402


def test_all_contenders_are_the_dense_softmax_where_they_take_all_rows() -> None:
    """Another loss would be another contest."""
    bench_sampled_softmax.check(labels=200)


@pytest.mark.parametrize("name", bench_sampled_softmax.contenders(200))
def test_a_step_moves_rows_and_gives_the_embeddings_a_gradient(name: str) -> None:
    """Each contender does the whole step, and as many rows as it says."""
    embeddings, targets = bench_sampled_softmax.make_batch(200)
    contender = bench_sampled_softmax.contenders(200)[name]()
    rows = contender.head.weight if hasattr(contender, "head") else contender.rows
    before = rows.detach().clone()

    contender.step(embeddings, targets)

    moved = int((rows.detach() != before).any(1).sum())
    assert embeddings.grad is not None
    assert bool((embeddings.grad != 0).any(1).all())
    assert moved == 200 if name.startswith("dense") else moved < 200


def test_the_world_knows_its_answer() -> None:
    """Posteriors sum to 1, and nothing has a smaller cross-entropy or a better first label than they."""
    world = LabelWorld()
    truth = world.judge(world.posterior.log())
    blurred = world.judge((0.5 * world.posterior + 0.5 / LABELS).log())
    best = LABELS_EACH * world.posterior.max(1).values.mean().item()

    assert np.allclose(world.posterior.sum(1), 1, atol=1e-5)
    assert truth["cross_entropy"] < blurred["cross_entropy"]
    assert truth["precision_at_1"] == pytest.approx(best, abs=1e-4)
