"""The sharded softmax: equal on any number of ranks, saved by some and loaded by others, updated where a step was."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt

torch = pytest.importorskip("torch")

from services.embedder import losses, sharded_softmax  # noqa: E402
from services.embedder.losses import RaggedLabels  # noqa: E402
from services.embedder.sharded_softmax import ShardedSoftmax  # noqa: E402
from tests.unit.embedder import softmax_ranks  # noqa: E402

ROOT = Path(__file__).parents[3]
RANKS_DIFFER = 1e-6  # of float32 sums in another order
LABELS, DIMENSION = 50, 8
TARGETS = [[3, 7], [], [49], [7]]

Results = dict[str, npt.NDArray[Any]]


def embeddings(count: int = len(TARGETS), seed: int = 0) -> Any:
    return torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(seed))


def train(head: ShardedSoftmax, steps: int, *, first: int = 0) -> None:
    for step in range(first, first + steps):
        head(embeddings(seed=step), RaggedLabels.from_lists(TARGETS), step=step).backward()
        head.update(0.1)


def run_ranks(world: int, folder: Path, state: Path | None = None) -> Results:
    """What the ranks of a world computed: losses and gradients of the backbone summed, rows end to end."""
    command = [sys.executable, softmax_ranks.__file__, str(world), str(folder), *([str(state)] if state else [])]
    only = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    subprocess.run(command, env=os.environ | only, check=True)  # it ends by itself, with whatever hangs
    parts = [dict(np.load(folder / f"{rank}-of-{world}.npz")) for rank in range(world)]
    assert all(part.pop("refuses") for part in parts)
    return {name: join(name)([part[name] for part in parts]) for name in parts[0]}


def join(name: str) -> Any:
    return sum if name.startswith(("loss", "backbone")) else np.concatenate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder: Path) -> Results:
    """What one process computes, without a process group."""
    return softmax_ranks.compute(0, 1, folder, None)


@pytest.fixture(scope="module")
def four(folder: Path) -> Results:
    return run_ranks(4, folder)


def assert_same(actual: Results, expected: Results) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=RANKS_DIFFER, err_msg=name)


def test_two_ranks_compute_what_one_process_does(folder: Path, alone: Results) -> None:
    """Losses, gradients of a shared layer and of the rows, in full and sampled, and three updates."""
    assert np.abs(alone["backbone 0.20"]).max() > 0.01

    assert_same(run_ranks(2, folder), alone)


def test_four_ranks_of_which_one_has_no_labels(alone: Results, four: Results) -> None:
    """A rank without a label, and without a candidate, takes part in everything."""
    assert_same(four, alone)


@pytest.mark.usefixtures("four")
def test_what_four_ranks_saved_three_and_one_go_on_with(folder: Path, tmp_path: Path) -> None:
    """Every bit of rows and optimiser is there, and the same gradients and steps follow."""
    state = folder / "state-of-4"
    head = softmax_ranks.make_head(softmax_ranks.RATE)
    head.load_shards(state)
    one = softmax_ranks.compute(0, 1, tmp_path, state)

    three = run_ranks(3, tmp_path, state)

    assert len(list(state.iterdir())) == 4
    saved = [np.load(folder / f"{rank}-of-4.npz") for rank in range(4)]
    assert np.array_equal(head.weight, np.concatenate([part["weight"] for part in saved]))
    assert np.array_equal(head.squares, np.concatenate([part["squares"] for part in saved]))
    assert_same(three, one)


def test_the_full_softmax_is_the_dense_one() -> None:
    """At a rate of 1, value and gradients are those of all logits at once."""
    head, targets = ShardedSoftmax(LABELS, DIMENSION), RaggedLabels.from_lists(TARGETS)
    ours, theirs = embeddings().requires_grad_(), embeddings().requires_grad_()
    rows = head.weight.clone().requires_grad_()

    value = head(ours, targets, step=0)
    expected = losses.khot_softmax(losses.cosine_logits(theirs, rows), targets)
    value.backward()
    expected.backward()

    torch.testing.assert_close(value, expected)
    for actual, gradient in ((ours.grad, theirs.grad), (head._pending[0][1].grad, rows.grad)):
        assert (actual - gradient).abs().max() <= 1e-6 * gradient.abs().max()
    torch.testing.assert_close(head.logits(ours), losses.cosine_logits(theirs.detach(), rows.detach()))


def test_an_update_touches_the_rows_of_its_step_only() -> None:
    """All others keep every bit, and the touched ones move by Adagrad's rule."""
    head = ShardedSoftmax(LABELS, DIMENSION, sample_rate=0.1)
    before = head.weight.clone()
    head(embeddings(), RaggedLabels.from_lists(TARGETS), step=0).backward()
    places, rows = head._pending[0]
    gradient = rows.grad.clone()

    head.update(0.5)

    touched = torch.isin(torch.arange(LABELS), places)
    assert 5 <= len(places) <= 8
    assert torch.equal(head.weight[~touched], before[~touched])
    assert torch.equal(head.squares > 0, touched)
    expected = before[places] - 0.5 * gradient / gradient.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(head.weight[places], expected)
    assert not list(head.parameters())
    assert not head.state_dict()


def test_micro_batches_add_up_to_one_step() -> None:
    """Two losses with the count of both, and one update, are the loss of both."""
    whole, parts = ShardedSoftmax(LABELS, DIMENSION), ShardedSoftmax(LABELS, DIMENSION)
    inputs = embeddings()

    whole(inputs, RaggedLabels.from_lists(TARGETS), step=0).backward()
    for half in (slice(0, 2), slice(2, 4)):
        parts(inputs[half], RaggedLabels.from_lists(TARGETS[half]), step=0, denominator=3).backward()
    for head in (whole, parts):
        head.update(0.1)

    torch.testing.assert_close(parts.weight, whole.weight)
    torch.testing.assert_close(parts.squares, whole.squares)


def test_a_step_that_is_given_up_leaves_no_trace() -> None:
    """Neither a discarded loss nor one without gradients moves a row."""
    head, targets = ShardedSoftmax(LABELS, DIMENSION), RaggedLabels.from_lists(TARGETS)
    before = head.weight.clone()

    head(embeddings(), targets, step=0).backward()
    head.discard()
    head.update(0.1)
    with torch.no_grad():
        head(embeddings(), targets, step=0)
    head.update(0.1)
    head(embeddings(), targets, step=0)  # never gone back through
    head.update(0.1)

    assert torch.equal(head.weight, before)


def test_a_batch_without_labels_moves_nothing() -> None:
    """The loss is exactly 0, and so are the gradients, with any denominator."""
    head = ShardedSoftmax(LABELS, DIMENSION, sample_rate=0.2)
    before = head.weight.clone()
    for denominator in (None, 0.0, 4.0):
        inputs = embeddings().requires_grad_()
        loss = head(inputs, RaggedLabels.from_lists([[]] * 4), step=0, denominator=denominator)
        loss.backward()
        head.update(0.1)

        assert loss.item() == 0
        assert torch.equal(inputs.grad, torch.zeros_like(inputs))
    assert torch.equal(head.weight, before)


def test_a_head_of_one_label_has_nothing_to_learn() -> None:
    """The softmax over one label is 1 whatever the picture is."""
    head = ShardedSoftmax(1, DIMENSION, sample_rate=0.1)

    assert head(embeddings(2), RaggedLabels.from_lists([[0], []]), step=0).item() == 0


def test_first_rows_do_not_depend_on_where_a_shard_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any range of labels starts with what it would be in the whole; uniform, and short."""
    monkeypatch.setattr(sharded_softmax, "INIT_BLOCK", 7)
    whole = sharded_softmax._init_rows(0, 40, 16, seed=1)

    for start, stop in ((0, 3), (3, 20), (7, 14), (20, 40), (5, 5)):
        assert torch.equal(sharded_softmax._init_rows(start, stop, 16, seed=1), whole[start:stop])
    assert 0.2 < float(whole.abs().max()) <= 0.25
    assert float(whole.std()) == pytest.approx((3 * 16) ** -0.5, rel=0.1)
    assert not torch.equal(sharded_softmax._init_rows(0, 40, 16, seed=2), whole)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state of two ranks, made from files of one: rows 0 to 20 and 20 to 50."""
    head = ShardedSoftmax(LABELS, DIMENSION)
    for start, stop in ((0, 20), (20, LABELS)):
        part = ShardedSoftmax(LABELS, DIMENSION)
        part.start, part.stop = start, stop
        part.weight, part.squares = head.weight[start:stop], head.squares[start:stop]
        part.save_shard(tmp_path / "state")
    return tmp_path / "state"


def test_a_resumed_head_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Two steps, a save, and two more by another object are four steps."""
    four, two, resumed = (ShardedSoftmax(LABELS, DIMENSION, sample_rate=0.2) for _ in range(3))
    train(four, 4)
    train(two, 2)
    two.save_shard(tmp_path)
    resumed.load_shards(tmp_path)
    train(resumed, 2, first=2)

    assert torch.equal(resumed.weight, four.weight)
    assert torch.equal(resumed.squares, four.squares)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    """As for any other file, so that the state is given up on all ranks."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))
    try:
        with pytest.raises(OSError, match="rows-") as caught:
            ShardedSoftmax(LABELS, DIMENSION).save_shard(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG


def test_a_missing_doubled_or_damaged_file_is_told(state: Path) -> None:
    """Nothing is guessed: every row comes from exactly one readable file."""
    head = ShardedSoftmax(LABELS, DIMENSION)
    last = state / "rows-0000000020-0000000050.safetensors"
    head.load_shards(state)

    kept = last.read_bytes()
    last.write_bytes(kept[:100])
    with pytest.raises(ModelFileCorrupt, match="rows-0000000020"):
        head.load_shards(state)
    last.unlink()
    with pytest.raises(ModelFileCorrupt, match="end at"):
        head.load_shards(state)
    last.write_bytes(kept)
    shutil.copy(last, state / "rows-0000000030-0000000050.safetensors")
    with pytest.raises(ModelFileCorrupt, match="once each"):
        head.load_shards(state)
    with pytest.raises(ModelFileCorrupt):
        head.load_shards(state / "nowhere")


def test_the_state_of_another_head_is_refused(state: Path) -> None:
    """The message has both shapes."""
    with pytest.raises(ArgumentInvalid, match="51 labels x 8, got 50 x 8"):
        ShardedSoftmax(LABELS + 1, DIMENSION).load_shards(state)


def test_wrong_arguments_are_refused() -> None:
    """With the name of what is wrong."""
    for labels, dimension, rate, fault in ((0, 8, 1.0, "label"), (5, 0, 1.0, "dimension"), (5, 8, 0.0, "sample_rate")):
        with pytest.raises(ArgumentInvalid, match=fault):
            ShardedSoftmax(labels, dimension, sample_rate=rate)
    head = ShardedSoftmax(LABELS, DIMENSION)
    with pytest.raises(ArgumentInvalid, match="labels below 50, got 50"):
        head(embeddings(1), RaggedLabels.from_lists([[LABELS]]), step=0)
    with pytest.raises(ArgumentInvalid, match="embeddings"):
        head(embeddings(2), RaggedLabels.from_lists([[1]]), step=0)
