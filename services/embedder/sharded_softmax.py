"""A softmax head of millions of labels: rows sharded over ranks, negatives sampled, updates only where a step was.

Shapes: b pictures of this rank, N labels, n rows of this rank, C candidates of a step on this rank, D dimensions. The
loss is that of `sampled_softmax`, over the candidates of all ranks.

Memory of a rank: 4 n (D + 1) bytes for weights and optimiser; in a step 8 B C bytes for scores and their gradient with
B the pictures of all ranks, and 16 D C for the candidates' rows, their unit vectors and the gradients of both. Without
sampling, frequencies or ranks nothing else grows with N; the sampler adds 8 N bytes if it is given frequencies.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt

from .losses import TEMPERATURE, RaggedLabels, cosine_logits
from .negatives import NegativeSampler
from .sampled_softmax import Entries, cross_entropy, gather_rows

INIT_BLOCK = 65_536  # rows that share a generator: a rank makes about its own only, and all worlds the same ones
EPSILON = 1e-10
OS_ERROR = re.compile(r"os error (\d+)")
FILE = re.compile(r"rows-(\d{10})-(\d{10})\.safetensors")


class ShardedSoftmax(nn.Module):
    """The head; rank r of w has the rows [r N / w, (r + 1) N / w), w being that of the initialised process group, or 1.

    The rows are buffers and not parameters: `update` is their optimiser, so that no dense one, no average of weights
    and no norm runs over all of them (10^6 x 128 rows of AdamW cost as much as the softmax saves). It is Adagrad with
    one sum a row (Duchi et al., JMLR 2011, with the mean square of a row as in the embedding tables of recommenders,
    Mudigere et al., ISCA 2022). Adam would have to decay the moments for the steps that a row was not there, or be
    wrong for rare labels; Adagrad has nothing to decay, gives rare labels long steps and frequent ones short ones, does
    not depend on the scale of the loss, and takes 4 bytes a row. There is no weight decay: only directions count.

    Args:
        labels: N.
        dimension: D.
        sample_rate: S / N, in (0, 1]; 1 is the full softmax.
        temperature: T.
        seed: of the first rows and of the draws.
        frequencies: (N,) pictures of each label in the training set, or None; see `negatives`.
        corrected: False drops the log q, to measure what it is worth.

    Raises:
        ArgumentInvalid: a number is out of range.
    """

    weight: Tensor  # (n, D) float32
    squares: Tensor  # (n,) float32, Adagrad's sums

    def __init__(
        self,
        labels: int,
        dimension: int,
        *,
        sample_rate: float = 1.0,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        frequencies: npt.ArrayLike | None = None,
        corrected: bool = True,
    ) -> None:
        super().__init__()
        if labels < 1 or dimension < 1:
            raise ArgumentInvalid(f"expected at least one label and dimension, got {labels} and {dimension}")
        if not 0 < sample_rate <= 1:
            raise ArgumentInvalid(f"sample_rate: expected above 0 and at most 1, got {sample_rate}")
        self.labels, self.dimension, self.temperature = labels, dimension, temperature
        samples = max(1, round(sample_rate * labels))
        self.sampler = NegativeSampler(labels, samples, seed=seed, frequencies=frequencies, corrected=corrected)
        grouped = distributed.is_initialized()
        self.rank = distributed.get_rank() if grouped else 0
        self.world_size = distributed.get_world_size() if grouped else 1
        self.start, self.stop = (labels * part // self.world_size for part in (self.rank, self.rank + 1))
        self.register_buffer("weight", _init_rows(self.start, self.stop, dimension, seed), persistent=False)
        self.register_buffer("squares", torch.zeros(self.stop - self.start), persistent=False)
        self._pending: list[tuple[Tensor, Tensor]] = []  # places (C,) int64 and rows (C, D) with their gradient

    def forward(
        self, embeddings: Tensor, targets: RaggedLabels, *, step: int, denominator: float | None = None
    ) -> Tensor:
        """This rank's share of the loss, a scalar; gradients are those of the sum of all ranks' shares.

        A collective call: every rank makes it, with as many pictures, and goes back through it.

        Args:
            embeddings: (b, D) float, of any length but 0, on the device of the rows.
            targets: of b pictures, on the CPU; a picture with an empty list has no part in the loss.
            step: of the optimiser; decides, with the seed, which labels are drawn.
            denominator: what the sum of the pictures' losses is divided by; None is the number of labelled pictures of
                all ranks.

        Raises:
            ArgumentInvalid: a label of N or more, another shape than expected, or unequal batches of the ranks.
        """
        expected = (len(targets), self.dimension)
        if embeddings.shape != expected:
            raise ArgumentInvalid(f"embeddings: expected the shape {expected}, got {tuple(embeddings.shape)}")
        entries = Entries.gather(targets, self.rank, self.world_size, device=embeddings.device)
        entries.check_below(self.labels)
        chosen = self.sampler.choose(entries.ids.numpy(), step=step, start=self.start, stop=self.stop)
        places = torch.from_numpy(chosen.ids - self.start).to(self.weight.device)
        rows = self.weight[places]
        if torch.is_grad_enabled():
            self._pending.append((places, rows.requires_grad_()))
        everyone = gather_rows(embeddings, self.rank, self.world_size)
        return cross_entropy(everyone, rows, chosen, entries, temperature=self.temperature, denominator=denominator)

    @torch.no_grad()
    def update(self, learning_rate: float) -> None:
        """Move the rows of the losses since the last update, whose gradients add up; the other rows are not touched."""
        pending = [(places, rows.grad) for places, rows in self._pending if rows.grad is not None]
        self.discard()
        if not pending:
            return
        places, gradient = pending[0] if len(pending) == 1 else _add_up(pending)
        squares = self.squares[places] + gradient.square().mean(1)
        self.squares[places] = squares
        self.weight.index_add_(0, places, gradient * (-learning_rate / (squares.sqrt() + EPSILON))[:, None])

    def discard(self) -> None:
        """Forget the losses since the last update, as when a step is given up."""
        self._pending.clear()

    @torch.no_grad()
    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, n) float32: cosines of embeddings (B, D) and this rank's rows, divided by the temperature."""
        return cosine_logits(embeddings, self.weight, self.temperature)

    def save_shard(self, directory: Path, *, rank: int = 0, world_size: int = 1, optimizer: object = None) -> None:  # noqa: ARG002
        """Write this rank's rows and Adagrad's sums to a file that is named by their range.

        Args:
            directory: of this state alone, common to all ranks; made if missing.
            rank, world_size, optimizer: not used; other sharded modules may need them.
        Raises:
            OSError: it cannot be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight.contiguous(), "squares": self.squares.contiguous()}
        metadata = {"labels": str(self.labels), "dimension": str(self.dimension)}
        path = directory / f"rows-{self.start:010}-{self.stop:010}.safetensors"
        try:
            save_file(tensors, path, metadata)
        except SafetensorError as error:  # it tells the system's error in words only
            number = OS_ERROR.search(str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error

    def load_shards(self, directory: Path, *, rank: int = 0, world_size: int = 1, optimizer: object = None) -> None:  # noqa: ARG002
        """Fill this rank's rows and sums from files that any number of ranks wrote; every bit is as it was.

        Raises:
            ModelFileCorrupt: the files do not hold every row once, or one cannot be read.
            ArgumentInvalid: they are of a head with other labels or another dimension.
        """
        self.discard()
        for start, stop, path in _find_files(directory, self.labels, self.dimension):
            first, last = max(start, self.start), min(stop, self.stop)
            if first >= last:
                continue
            mine, theirs = slice(first - self.start, last - self.start), slice(first - start, last - start)
            with _open(path) as file:
                self.weight[mine] = file.get_slice("weight")[theirs].to(self.weight.device)
                self.squares[mine] = file.get_slice("squares")[theirs].to(self.squares.device)


def _init_rows(start: int, stop: int, dimension: int, seed: int) -> Tensor:
    """(stop - start, D) float32 rows of U(-1/sqrt(D), 1/sqrt(D)), the same for a label whatever the range is."""
    bound = 1 / math.sqrt(dimension)  # Zhai & Wu's code
    rows = np.empty((stop - start, dimension), np.float32)
    for block in range(start // INIT_BLOCK, -(-stop // INIT_BLOCK)):
        first, last = max(start, block * INIT_BLOCK), min(stop, (block + 1) * INIT_BLOCK)
        drawn = np.random.default_rng([seed, block]).random((last - block * INIT_BLOCK, dimension), np.float32)
        rows[first - start : last - start] = drawn[first - block * INIT_BLOCK :] * (2 * bound) - bound
    return torch.from_numpy(rows)


def _add_up(pending: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Distinct places (C,), and the sums (C, D) of the gradients that several losses have there."""
    places, inverse = torch.unique(torch.cat([each for each, _ in pending]), return_inverse=True)
    gradients = torch.cat([gradient for _, gradient in pending])
    return places, gradients.new_zeros(len(places), gradients.shape[1]).index_add_(0, inverse, gradients)


def _find_files(directory: Path, labels: int, dimension: int) -> list[tuple[int, int, Path]]:
    """First row, row after the last, and path of the files of a head of this shape, in order.

    Raises:
        as `ShardedSoftmax.load_shards`.
    """
    named = ((FILE.fullmatch(path.name), path) for path in sorted(directory.glob("*")))
    files = [(int(match[1]), int(match[2]), path) for match, path in named if match]
    for _, _, path in files:
        with _open(path) as file:
            metadata = file.metadata() or {}
        found = tuple(int(metadata.get(name, -1)) for name in ("labels", "dimension"))
        if found != (labels, dimension):
            raise ArgumentInvalid(
                f"{path}: expected the head's {labels} labels x {dimension}, got {found[0]} x {found[1]}"
            )
    ends = [0, *(stop for _, stop, _ in files)]
    if [*(start for start, _, _ in files), labels] != ends:
        raise ModelFileCorrupt(f"{directory}: expected rows 0 to {labels} once each, got files that end at {ends[1:]}")
    return files


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The safetensors file, its faults turned into ours."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelFileCorrupt(f"{path}: cannot be read: {error}; restore it from a copy") from error
