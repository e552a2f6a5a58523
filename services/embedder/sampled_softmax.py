"""Softmax cross-entropy over the candidates of a step, corrected for their sampling.

Shapes: B pictures of all ranks together, b of this rank, N labels, C candidates of a step on this rank, E entries
(picture, label), D dimensions.

With unit vectors x_i of pictures and p_j of labels (Zhai & Wu, BMVC 2019), and y_ij = 1/k on the k labels of a picture
or each label's share of their confidences,

    s_ij = x_i.p_j / T - log q_j        l_i = log sum_j exp(s_ij) - sum_j y_ij s_ij       over the candidates j

where q_j is the chance that j is among the candidates, given the batch: 1 for the batch's own labels, which always
are, and known exactly for those drawn (`negatives`). The sum of the exponentials then has the expectation of the sum
over all N labels; without the log q (PartialFC, CVPR 2022) it is about N / S too small, as if negatives were rare. The
logarithm of the sum, and so the gradient, keeps a bias that vanishes as S grows: sampled softmax is consistent, not
unbiased (Bengio & Senecal, 2008). With S = N it is the full softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bowerbird.errors import ArgumentInvalid

from .losses import TEMPERATURE, RaggedLabels, as_wide, full_precision
from .negatives import Candidates, NegativeSampler


def sampled_softmax(
    embeddings: Tensor,
    proxies: Tensor,
    targets: RaggedLabels,
    sampler: NegativeSampler,
    *,
    step: int,
    temperature: float = TEMPERATURE,
    denominator: float | None = None,
) -> Tensor:
    """Scalar loss of one process, the rows an ordinary parameter; from some 10^5 labels see `sharded_softmax`.

    Args:
        embeddings: (B, D) float, of any length but 0.
        proxies: (N, D) float; its gradient is dense, and 0 outside the candidates.
        targets: of B pictures, on the CPU; a picture with an empty list has no part in the loss.
        sampler: over N labels.
        step: of the optimiser; decides, with the sampler's seed, which labels are drawn.
        denominator: what the sum of l_i is divided by; None is the number of labelled pictures.

    Raises:
        ArgumentInvalid: a label of N or more.
    """
    entries = Entries.of(targets)
    entries.check_below(len(proxies))
    chosen = sampler.choose(entries.ids.numpy(), step=step, start=0, stop=len(proxies))
    rows = proxies[torch.from_numpy(chosen.ids).to(proxies.device)]
    return cross_entropy(embeddings, rows, chosen, entries, temperature=temperature, denominator=denominator)


@dataclass(frozen=True, eq=False)
class Entries:
    """The pairs (picture, label) of all ranks, and which pictures are this rank's; on the CPU.

    Attributes:
        pictures: (E,) int64 in [0, B), those of rank 0 first.
        ids: (E,) int64, the labels.
        shares: (E,) float32, y; the shares of a picture sum to 1.
        own: this rank's pictures among the B.
        count: B.
    """

    pictures: Tensor
    ids: Tensor
    shares: Tensor
    own: slice
    count: int

    @classmethod
    def of(cls, targets: RaggedLabels) -> Self:
        """Those of one process."""
        return cls(targets.rows, targets.ids, targets.shares(), slice(0, len(targets)), len(targets))

    @classmethod
    def gather(cls, targets: RaggedLabels, rank: int, world_size: int, *, device: torch.device) -> Self:
        """Those of all ranks; a collective call.

        Raises:
            ArgumentInvalid: on every rank, if one has another number of pictures.
        """
        if world_size == 1:
            return cls.of(targets)
        sizes = _all_gather(torch.tensor([len(targets), len(targets.ids)], device=device), world_size)
        if len(set(sizes[:, 0].tolist())) > 1:
            raise ArgumentInvalid(f"targets: expected as many pictures on every rank, got {sizes[:, 0].tolist()}")
        first, longest = rank * len(targets), int(sizes[:, 1].max())
        pairs = torch.stack([targets.rows + first, targets.ids]).to(device)
        padding = (0, longest - len(targets.ids))
        everyone = _all_gather(functional.pad(pairs, padding), world_size)
        shares = _all_gather(functional.pad(targets.shares().to(device), padding), world_size)
        real = torch.arange(longest) < sizes[:, 1:]
        pictures, ids = everyone[:, 0][real], everyone[:, 1][real]
        return cls(pictures, ids, shares[real], slice(first, first + len(targets)), world_size * len(targets))

    def check_below(self, labels: int) -> None:
        """Raise ArgumentInvalid if a label is not below N."""
        if len(self.ids) and int(self.ids.max()) >= labels:
            raise ArgumentInvalid(f"targets: expected labels below {labels}, got {int(self.ids.max())}")

    def scales(self, denominator: float | None) -> Tensor:
        """(B,) float32: what each picture's loss is multiplied by; 0 for one without labels."""
        labelled = torch.zeros(self.count).index_fill_(0, self.pictures, 1)
        return labelled / ((float(labelled.sum()) if denominator is None else denominator) or 1.0)


def cross_entropy(
    embeddings: Tensor,
    rows: Tensor,
    candidates: Candidates,
    entries: Entries,
    *,
    temperature: float,
    denominator: float | None,
) -> Tensor:
    """This rank's share of the loss; a collective call, forward, if a process group is initialised.

    Its gradients are those of the sum of all ranks' shares: for the rows they are complete, for the embeddings they
    are this rank's part, and the parts of all ranks add up.

    Args:
        embeddings: (B, D) float, of all ranks.
        rows: (C, D) float, of the candidates that this rank has; C may be 0.
        candidates: of this rank; every label of the entries is a candidate on exactly one rank.
        denominator: what the sum of l_i is divided by; None is the number of labelled pictures of all ranks.
    """
    places = np.searchsorted(candidates.ids, entries.ids.numpy())
    here = np.append(candidates.ids, -1)[places] == entries.ids.numpy()
    columns, kept, device = torch.from_numpy(places[here]), torch.from_numpy(here), embeddings.device
    with full_precision(embeddings):
        unit = functional.normalize(as_wide(embeddings), dim=1) / temperature
        loss: Tensor = _CrossEntropy.apply(
            unit,
            functional.normalize(as_wide(rows), dim=1),
            torch.from_numpy(candidates.log_q).to(device),
            entries.pictures[kept].to(device),
            columns.to(device),
            entries.shares[kept].to(device, unit.dtype),
            entries.scales(denominator).to(device, unit.dtype),
            entries.own,
        )
    return loss


def gather_rows(rows: Tensor, rank: int, world_size: int) -> Tensor:
    """(world_size * b, D): the rows (b, D) of all ranks; their gradients are added up and come back. Collective."""
    gathered: Tensor = rows if world_size == 1 else _Gather.apply(rows, rank, world_size)
    return gathered


class _CrossEntropy(torch.autograd.Function):
    """The loss over columns that are spread over ranks, with its gradient in closed form: ds_ij = g_i (p_ij - y_ij).

    One (B, C) matrix is kept from forward to backward; autograd through logsumexp would keep two and make a third.
    """

    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        rows: Tensor,
        log_q: Tensor,
        pictures: Tensor,
        columns: Tensor,
        shares: Tensor,
        scales: Tensor,
        own: slice,
    ) -> Tensor:
        scores = torch.addmm(-log_q.to(unit.dtype), unit, rows.T)
        positives = scores.new_zeros(len(unit)).index_add_(0, pictures, shares * scores[pictures, columns])
        top = scores.amax(1) if len(rows) else scores.new_full((len(unit),), -torch.inf)
        _all_reduce(top, "max")
        exponentials = scores.sub_(top[:, None]).exp_()
        sums = torch.stack([exponentials.sum(1), positives])
        _all_reduce(sums, "sum")
        ctx.save_for_backward(unit, rows, exponentials, sums[0], pictures, columns, shares, scales)
        losses = scales * (sums[0].log() + top - sums[1])
        return losses[own].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        unit, rows, exponentials, sums, pictures, columns, shares, scales = ctx.saved_tensors
        scales = scales * gradient
        scores = exponentials * (scales / sums)[:, None]
        scores.index_put_((pictures, columns), -shares * scales[pictures], accumulate=True)
        return scores @ rows, scores.T @ unit, None, None, None, None, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.own = slice(rank * len(rows), (rank + 1) * len(rows))
        return _all_gather(rows, world_size, cpu=False).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        _all_reduce(gradient, "sum")  # not a reduce-scatter, which gloo lacks; B x D is small beside the scores
        return gradient[ctx.own], None, None


def _all_gather(tensor: Tensor, world_size: int, *, cpu: bool = True) -> Tensor:
    """(world_size, ...): the tensors of all ranks, which have equal shapes."""
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size)]
    distributed.all_gather(parts, tensor.contiguous())
    gathered = torch.stack(parts)
    return gathered.cpu() if cpu else gathered


def _all_reduce(tensor: Tensor, operation: str) -> None:
    """Replace the tensor by the maximum or the sum of all ranks' tensors."""
    if distributed.is_initialized():
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX if operation == "max" else distributed.ReduceOp.SUM)
