"""The ranks of a sharded softmax, a process each, over gloo: `python softmax_ranks.py WORLD FOLDER [STATE]`.

Every rank has its part of one batch behind a shared linear layer. What it computes goes to FOLDER/RANK-of-WORLD.npz.
The ranks are forked by this program and not by a test, which may have threads, so that torch is imported once for all.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from bowerbird.errors import ArgumentInvalid
from services.embedder.losses import RaggedLabels
from services.embedder.sharded_softmax import ShardedSoftmax

LABELS, DIMENSION, FEATURES = 37, 8, 5
STEPS, RATE = 3, 0.2
# Rank 0 of 4 has no label at all, and labels 0 and 36 are on the first and the last rank.
LISTS = [[], [], [], [0, 36], [5], [5, 6, 7, 8, 9], [36], [], [20], [12, 13], [0], [30, 1]]
CONFIDENCES = [[1.0 / (place + 1) for place, _ in enumerate(each)] for each in LISTS]
FREQUENCIES = [1000 // (label + 1) for label in range(LABELS)]
TIMEOUT_S = 60


def make_batch(rank: int, world: int) -> tuple[torch.Tensor, RaggedLabels]:
    """Features (12 / world, 5) and labels of a rank's pictures."""
    own = slice(len(LISTS) * rank // world, len(LISTS) * (rank + 1) // world)
    features = torch.randn(len(LISTS), FEATURES, generator=torch.Generator().manual_seed(1))
    return features[own], RaggedLabels.from_lists(LISTS[own], CONFIDENCES[own])


def make_backbone() -> torch.Tensor:
    return torch.randn(DIMENSION, FEATURES, generator=torch.Generator().manual_seed(2)).requires_grad_()


def make_head(rate: float) -> ShardedSoftmax:
    return ShardedSoftmax(LABELS, DIMENSION, sample_rate=rate, temperature=0.2, seed=3, frequencies=FREQUENCIES)


def run_step(
    head: ShardedSoftmax, features: torch.Tensor, targets: RaggedLabels, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The share of the loss, the gradient of the backbone, and that of all rows of this rank (0 where none came)."""
    backbone = make_backbone()
    loss = head(features @ backbone.T, targets, step=step)
    loss.backward()
    gradient = torch.zeros_like(head.weight)
    for places, rows in head._pending:
        gradient[places] += rows.grad
    assert backbone.grad is not None
    return loss.detach(), backbone.grad, gradient


def compute(rank: int, world: int, folder: Path, state: Path | None) -> dict[str, np.ndarray[Any, Any]]:
    """Everything that must not depend on the number of ranks; the losses and the backbone's gradients add up."""
    features, targets = make_batch(rank, world)
    results = {}
    for rate in (1.0, RATE, 1 / LABELS):  # the last has one candidate that is not the batch's: most ranks have none
        parts = run_step(make_head(rate), features, targets, step=7)
        results |= {f"{name} {rate:.2f}": part for name, part in zip(("loss", "backbone", "rows"), parts, strict=True)}
    head = make_head(RATE)
    if state is not None:
        head.load_shards(state)
    for step in range(STEPS):
        run_step(head, features, targets, step)
        head.update(0.1)
    head.save_shard(folder / f"state-of-{world}")
    results |= {"weight": head.weight, "squares": head.squares}
    return {name: np.asarray(tensor) for name, tensor in results.items()}


def refuses_unequal_batches(rank: int) -> bool:
    """Whether this rank hears that the other one has more pictures."""
    pictures = 2 + rank
    try:
        make_head(RATE)(torch.ones(pictures, DIMENSION), RaggedLabels.from_lists([[1]] * pictures), step=0)
    except ArgumentInvalid as error:
        return "as many pictures on every rank" in error.message
    return False


def run_rank(rank: int, world: int, folder: Path, state: Path | None) -> None:
    """Meet the other ranks, compute, write."""
    torch.set_num_threads(1)
    meeting, timeout = f"file://{folder}/meeting-of-{world}", timedelta(seconds=TIMEOUT_S)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=timeout)
    results = compute(rank, world, folder, state)
    results["refuses"] = np.asarray(refuses_unequal_batches(rank))
    np.savez(folder / f"{rank}-of-{world}.npz", **results)
    distributed.destroy_process_group()


def main() -> int:
    """0 if every rank ended well."""
    world, folder = int(sys.argv[1]), Path(sys.argv[2])
    state = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    fork = multiprocessing.get_context("fork").Process
    ranks = [fork(target=run_rank, args=(rank, world, folder, state), daemon=True) for rank in range(world)]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + TIMEOUT_S
    for process in ranks:
        process.join(max(deadline - time.monotonic(), 0))  # one that hangs is ended with this program
    return 0 if all(process.exitcode == 0 for process in ranks) else 1


if __name__ == "__main__":
    sys.exit(main())
