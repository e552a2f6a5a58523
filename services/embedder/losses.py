"""The losses of the embedder's tasks; a picture without a label of the task gives that task no gradient.

Shapes: B pictures, C classes or labels, D dimensions of the embedding. Every loss is computed in float32 (float64
stays), whatever autocast says: at a temperature of 0.05 the rounding of bfloat16 moves a logit by up to 0.06.

All losses reduce alike. With l_i the loss of picture i, m_i = 1 if it has a label and else 0, and w_i its weight (1 if
none are given):

    denominator None:      sum_i m_i w_i l_i / sum_i m_i w_i      the mean over the pictures that have the label
    denominator a number:  sum_i m_i w_i l_i / denominator        for a batch in parts: the count over all of them

The second form makes micro-batches and ranks add up to exactly the gradient of the whole batch. Where no picture has a
label, the loss is 0 with a gradient of 0, so that a step without labels of one task is a step like any other (the mean
over the pictures that have the label is the multi-task rule of Zhai et al., KDD 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from bowerbird.errors import ArgumentInvalid

TEMPERATURE = 0.05  # Zhai & Wu, BMVC 2019
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class RaggedLabels:
    """The label lists of B pictures, end to end; picture i has the entries offsets[i] to offsets[i + 1].

    Make it with `from_lists` or `from_arrays`, which check and bring to one form: a label stands once in a list (the
    largest confidence of duplicates counts: a confidence is no count), ids ascend, and a label of confidence 0 is none.

    Attributes:
        offsets: (B + 1,) int64, from 0, not descending.
        ids: (E,) int64, E = offsets[B], each in [0, C).
        weights: (E,) float32, above 0, the confidences; None if all are equal.
    """

    offsets: Tensor
    ids: Tensor
    weights: Tensor | None = None

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]], weights: Sequence[Sequence[float]] | None = None) -> Self:
        """The lists of B pictures; an empty one is a picture without labels.

        Raises:
            ArgumentInvalid: a list of confidences has another length than its list of labels, or as `from_arrays`.
        """
        if weights is not None and [len(each) for each in weights] != [len(each) for each in lists]:
            raise ArgumentInvalid("weights: expected one confidence for each label; some list is shorter or longer")
        offsets = torch.tensor([0, *(len(each) for each in lists)], dtype=torch.int64).cumsum(0)
        ids = torch.tensor([label for each in lists for label in each], dtype=torch.int64)
        flat = None if weights is None else torch.tensor([w for each in weights for w in each], dtype=torch.float32)
        return cls.from_arrays(offsets, ids, flat)

    @classmethod
    def from_arrays(cls, offsets: Tensor, ids: Tensor, weights: Tensor | None = None) -> Self:
        """The labels in Arrow's form of a list column.

        Args:
            offsets: (B + 1,) int64; ids: (E,) int64; weights: (E,) float or None.

        Raises:
            ArgumentInvalid: the offsets do not end at E or descend, a label is negative, or a confidence is negative
                or not finite.
        """
        lengths = _check_ragged(offsets, ids, weights)
        rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        if weights is not None:
            kept = weights > 0
            rows, ids, weights = rows[kept], ids[kept], weights[kept].float()
        span = int(ids.max()) + 1 if len(ids) else 1
        keys, place = torch.unique(rows * span + ids, return_inverse=True)  # sorted by picture, then label
        if weights is not None:
            weights = torch.zeros(len(keys)).scatter_reduce(0, place, weights, "amax")
        starts = torch.searchsorted(keys, torch.arange(len(lengths) + 1) * span)
        return cls(starts, keys % span, weights)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def labelled(self) -> Tensor:
        """(B,) bool: the picture has a label."""
        return self.offsets.diff() > 0

    @property
    def rows(self) -> Tensor:
        """(E,) int64: the picture of each entry."""
        count = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(count, self.offsets.diff(), output_size=len(self.ids))

    def shares(self) -> Tensor:
        """(E,) float32: 1/k for each of a picture's k labels, or its share of the picture's confidences; sums to 1."""
        if self.weights is None:
            return 1 / self.offsets.diff()[self.rows].float()
        total = torch.zeros(len(self), device=self.weights.device).index_add_(0, self.rows, self.weights)
        return self.weights / total[self.rows]

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        weights = None if self.weights is None else self.weights.to(device, non_blocking=True)
        return type(self)(self.offsets.to(device, non_blocking=True), self.ids.to(device, non_blocking=True), weights)


def softmax_loss(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, denominator: float | None = None
) -> Tensor:
    """Scalar cross-entropy l_i = -log softmax(s_i)[y_i].

    Args:
        logits: (B, C) float.
        labels: (B,) int64 in [0, C), or -1 for none.
        weights: (B,) float32, of the pictures, or None.
        denominator: see the module.
    """
    losses = functional.cross_entropy(as_wide(logits), labels, reduction="none", ignore_index=NO_LABEL)
    return _reduce(losses, labels != NO_LABEL, weights, denominator)


def class_weights(counts: Tensor, *, beta: float = 0.999) -> Tensor:
    """(C,) float32 weights proportional to 1 / E_c, E_c = (1 - beta^n_c) / (1 - beta) the effective number of pictures.

    beta = 0 weighs all alike, beta -> 1 by 1 / n_c. Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019. Deviation: the weights are scaled to a mean of 1 over the training pictures and not over the
    classes, so that the learning rate needs no change; a class without pictures has the weight 0.

    Args:
        counts: (C,) pictures of each class in the training set.
        beta: in [0, 1).

    Raises:
        ArgumentInvalid: beta out of range, or there is no picture at all.
    """
    if not 0 <= beta < 1:
        raise ArgumentInvalid(f"beta: expected 0 <= beta < 1, got {beta}")
    counts = counts.double()
    if not counts.sum() > 0:
        raise ArgumentInvalid("counts: expected at least one labelled picture, got none")
    effective = (1 - beta**counts) / (1 - beta)
    weights = torch.where(counts > 0, 1 / effective, 0)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def class_balanced_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor, *, denominator: float | None = None
) -> Tensor:
    """Scalar cross-entropy with the weight of each picture's class, for rare classes (skin tones).

    Deviation from the module's mean: without a denominator it divides by the number of labelled pictures, not by their
    weights, which would undo the balance in a batch of one class.

    Args:
        logits: (B, C) float; labels: (B,) int64, -1 for none; class_weights: (C,) float32 of `class_weights`.
        denominator: see the module.
    """
    labelled = labels != NO_LABEL
    weights = class_weights[labels.clamp(min=0)]
    losses = functional.cross_entropy(as_wide(logits), labels, reduction="none", ignore_index=NO_LABEL) * weights
    return _reduce(losses, labelled, None, denominator)


def khot_softmax(
    logits: Tensor, targets: RaggedLabels, *, weights: Tensor | None = None, denominator: float | None = None
) -> Tensor:
    """Scalar cross-entropy against k labels that share the target: l_i = logsumexp(s_i) - sum_c y_ic s_ic.

    y_ic = 1/k on the k labels of a picture (Mahajan et al., ECCV 2018), or conf_ic / sum_c conf_ic with confidences.

    Args:
        logits: (B, C) float.
        targets: of B pictures, on the device of the logits; an empty list is a picture without labels.
        weights: (B,) float32, of the pictures, or None.
        denominator: see the module.
    """
    logits = as_wide(logits)
    losses = torch.logsumexp(logits, dim=1) - _sum_targets(logits, targets, targets.shares())
    return _reduce(losses, targets.labelled, weights, denominator)


def sigmoid_loss(
    logits: Tensor, targets: RaggedLabels, *, weights: Tensor | None = None, denominator: float | None = None
) -> Tensor:
    """Scalar sum of binary cross-entropies over the labels: l_i = sum_c softplus(s_ic) - y_ic s_ic.

    y_ic = 1 on the picture's labels, or their confidences: with calibrated ones this is the expected loss over what is
    really true of the picture. The head needs a bias that starts near log(k / C), else the C - k negatives make up all
    of the first gradients (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, section 3).

    Args:
        logits: (B, C) float.
        targets: as in `khot_softmax`; confidences at most 1.
        weights: (B,) float32, of the pictures, or None.
        denominator: see the module.
    """
    logits = as_wide(logits)
    shares = torch.ones_like(targets.ids, dtype=logits.dtype) if targets.weights is None else targets.weights
    losses = functional.softplus(logits).sum(1) - _sum_targets(logits, targets, shares)
    return _reduce(losses, targets.labelled, weights, denominator)


def norm_softmax(
    embeddings: Tensor,
    proxies: Tensor,
    labels: Tensor,
    *,
    temperature: float = TEMPERATURE,
    proxy_ids: Tensor | None = None,
    weights: Tensor | None = None,
    denominator: float | None = None,
) -> Tensor:
    """Scalar cross-entropy of x.p_c / (|x| |p_c| T): classification as metric learning, without bias.

    Zhai & Wu, "Classification is a Strong Baseline for Deep Metric Learning", BMVC 2019, section 3.

    Args:
        embeddings: (B, D) float, of any length but 0.
        proxies: (C, D) float, one a class; start them with `init_proxies_`.
        labels: (B,) int64 in [0, C), or -1 for none.
        temperature: T.
        proxy_ids: (S,) int64, ascending: only these classes compete, with every class of the batch (`draw_proxies`).
            As in the paper this is not corrected for the sampling; `sharded_softmax` is.
        weights: (B,) float32, of the pictures, or None.
        denominator: see the module.

    Raises:
        ArgumentInvalid: a class of the batch is not among the proxy_ids.
    """
    if proxy_ids is not None:
        labels, proxies = _find_places(labels, proxy_ids), proxies[proxy_ids]
    logits = cosine_logits(embeddings, proxies, temperature)
    return softmax_loss(logits, labels, weights=weights, denominator=denominator)


def cosine_logits(embeddings: Tensor, proxies: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """(B, C) float32: cosines of embeddings (B, D) and proxies (C, D), divided by the temperature."""
    with full_precision(embeddings):
        unit = functional.normalize(as_wide(embeddings), dim=1)
        logits: Tensor = functional.linear(unit / temperature, functional.normalize(as_wide(proxies), dim=1))
        return logits


def init_proxies_(proxies: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same tensor (C, D), filled from U(-1/sqrt(D), 1/sqrt(D)), as Zhai & Wu's code does."""
    bound = 1 / math.sqrt(proxies.shape[1])
    with torch.no_grad():
        proxies.uniform_(-bound, bound, generator=generator)
    return proxies


def draw_proxies(labels: Tensor, *, classes: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """(S,) int64, ascending: the classes of the batch and a random share of all classes.

    Args:
        labels: (B,) int64, -1 for none.
        classes: C.
        share: of the C classes, drawn without replacement, in [0, 1]; above 0 at least one is, as a batch may have no
            class of its own.
        generator: None is torch's own, of the device of the labels.

    Raises:
        ArgumentInvalid: the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ArgumentInvalid(f"share: expected 0 to 1, got {share}")
    order = torch.randperm(classes, generator=generator, device=labels.device)
    ids: Tensor = torch.unique(torch.cat([labels[labels != NO_LABEL], order[: max(share > 0, round(share * classes))]]))
    return ids


def as_wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """No autocast on the device of the tensor inside the block."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield


def _sum_targets(logits: Tensor, targets: RaggedLabels, shares: Tensor) -> Tensor:
    """(B,) float32: sum_c y_ic s_ic."""
    rows = targets.rows
    return logits.new_zeros(len(logits)).index_add(0, rows, shares * logits[rows, targets.ids])


def _reduce(losses: Tensor, labelled: Tensor, weights: Tensor | None, denominator: float | None) -> Tensor:
    """The scalar of the module's two formulas."""
    shares = labelled.to(losses.dtype) if weights is None else torch.where(labelled, weights, 0)
    total = (torch.where(labelled, losses, 0) * shares).sum()
    if denominator is None:
        divisor = shares.sum()
        return total / torch.where(divisor > 0, divisor, 1)
    return total / (denominator or 1.0)  # a whole batch without labels: 0 / 0 is no loss


def _find_places(labels: Tensor, proxy_ids: Tensor) -> Tensor:
    """(B,) int64: where each label stands among the proxy_ids; -1 stays."""
    if not len(proxy_ids):
        raise ArgumentInvalid("proxy_ids: expected at least one class, got none")
    places = torch.searchsorted(proxy_ids, labels.clamp(min=0)).clamp(max=len(proxy_ids) - 1)
    labelled = labels != NO_LABEL
    if not bool((~labelled | (proxy_ids[places] == labels)).all()):
        raise ArgumentInvalid("proxy_ids: expected every class of the batch, ascending; use draw_proxies")
    return torch.where(labelled, places, NO_LABEL)


def _check_ragged(offsets: Tensor, ids: Tensor, weights: Tensor | None) -> Tensor:
    """(B,) int64 lengths of the lists, or what is wrong with them."""
    if offsets.ndim != 1 or not len(offsets) or int(offsets[0]) != 0 or int(offsets[-1]) != len(ids):
        raise ArgumentInvalid(
            f"offsets: expected B + 1 numbers from 0 to the {len(ids)} labels, got {offsets.tolist()[:8]}"
        )
    lengths = offsets.diff()
    if bool((lengths < 0).any()):
        raise ArgumentInvalid("offsets: expected an ascending sequence")
    if bool((ids < 0).any()):
        raise ArgumentInvalid(f"ids: expected labels from 0, got {int(ids.min())}; leave out what has no id")
    if weights is not None and not (len(weights) == len(ids) and bool((weights.isfinite() & (weights >= 0)).all())):
        raise ArgumentInvalid("weights: expected one finite confidence of 0 or more for each label")
    return lengths
