"""The network with its optimiser: what one step does, on one process or many, on a whole batch or in parts.

A step adds up the losses of all tasks over one mixed batch. Each task's loss is a mean over the pictures of the
*global* batch that have its label, and that number is known before anything is computed. So parts of the batch,
micro-batches and ranks alike, contribute sums that add up to the same gradient however the batch is divided.

The backward pass goes in two stages, from each loss to the embeddings and then once through the backbone. That costs
nothing and shows how strongly each task pulls at the embedding they share.

Legend: B pictures of the global batch, b of this rank, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.models.vit import HybridStem
from bowerbird.training import precision, schedule
from bowerbird.training.distributed import Rank, all_reduce_gradients, sum_over_ranks
from bowerbird.training.draws import IntArray, mix
from bowerbird.training.ema import Ema
from bowerbird.training.loader import Batch

from .distill import Distiller
from .losses import (
    class_balanced_loss,
    class_weights,
    draw_proxies,
    khot_softmax,
    norm_softmax,
    sigmoid_loss,
    softmax_loss,
)
from .model import MultiTaskEmbedder, TaskSpec
from .targets import Targets, count_labels
from .train_config import TrainConfig

DISTILLATION = "distillation"
SEED_BITS = 63


class NotFinite(Exception):  # noqa: N818 (named after the fault, as all of ours)
    """A loss or gradient is NaN or infinite; the weights are those of before the step."""


@dataclass(frozen=True)
class StepReport:
    """What a step measured, over all ranks.

    Attributes:
        losses: mean loss of each task that had a label in the batch.
        gradient_norms: of each of those losses, weighted, with respect to all embeddings of the batch.
        gradient_norm: of the whole gradient, before clipping.
        flags: how many ranks raised theirs.
    """

    losses: dict[str, float]
    gradient_norms: dict[str, float]
    gradient_norm: float
    flags: int


class Learner:
    """The network, the optimiser, the average of the weights, and the number of steps taken."""

    def __init__(
        self,
        model: MultiTaskEmbedder,
        targets: Mapping[str, Targets],
        config: TrainConfig,
        rank: Rank,
        distiller: Distiller | None = None,
    ) -> None:
        """
        Args:
            model: on the device of the rank.
            targets: the labels of the training pictures for each of its tasks.
        """
        self.model, self.targets, self.config, self.rank = model, targets, config, rank
        self.distiller = distiller
        self.step = 0
        self.dtype = torch.float32
        options = config.optimizer
        if not options.stem_rate and isinstance(model.backbone.stem, HybridStem):
            model.backbone.stem.features.requires_grad_(requires_grad=False)
        self._learned = nn.ModuleDict(
            {"model": model} if distiller is None else {"model": model, "distiller": distiller}
        )
        self._parameters = [parameter for parameter in self._learned.parameters() if parameter.requires_grad]
        groups = schedule.group_parameters(
            self._learned,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            layer_decay=options.layer_decay,
            layer_ids={f"model.backbone.{name}": depth for name, depth in model.backbone.layer_ids().items()},
            factors={
                "model.backbone.": options.backbone_rate,
                "model.backbone.stem.features.": options.stem_rate,
                "model.heads.": options.head_rate,
            },
        )
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, options.beta2), fused=True)
        self.ema = Ema(model, options.ema) if options.ema else None
        self._class_weights = {
            task.name: class_weights(torch.from_numpy(_count(targets, task)), beta=each.balance).to(rank.device)
            for task, each in zip(model.config.tasks, config.tasks, strict=True)
            if each.balance
        }

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All that learns, by name."""
        return dict(self._learned.items())

    def choose_precision(self, pictures: Tensor) -> None:
        """Measure, where that is asked for, in which format the network is faster on these pictures."""

        def try_step(dtype: torch.dtype) -> None:
            with precision.autocast(self.rank.device, dtype):
                embeddings = self.model.embed(pictures)
            embeddings.square().mean().backward()
            self._learned.zero_grad()

        state = {name: tensor.clone() for name, tensor in self.model.named_buffers() if name in self.model.state_dict()}
        chosen = precision.choose(self.rank.device, self.config.optimizer.precision, try_step)
        self.model.load_state_dict(state, strict=False)  # statistics of batch norms that the trial moved
        votes = sum_over_ranks(torch.tensor(float(chosen == torch.bfloat16), device=self.rank.device), self.rank)
        self.dtype = torch.bfloat16 if int(votes) == self.rank.world_size else torch.float32

    def take_step(self, batch: Batch, *, flag: bool = False) -> StepReport:
        """Learn from the batch; what was measured.

        Args:
            batch: b pictures of this rank; all ranks have as many.
            flag: anything that the other ranks have to know.
        Raises:
            NotFinite: on every rank, when it is so on any; nothing was changed.
        """
        self.model.train()
        counts = self._count_labelled(batch.indices)
        sums = torch.zeros(len(self._names), 2, dtype=torch.float64, device=self.rank.device)
        for number, part in enumerate(self._split(len(batch.indices))):
            seed = mix(self.config.seed, self.step, number, self.rank.rank)
            torch.manual_seed(int(seed) >> (64 - SEED_BITS))
            sums += self._backward(batch.pictures[part], batch.indices[part], counts)
        report = self._reduce(sums, counts, flag=flag)
        self._update(report.gradient_norm)
        return report

    def _count_labelled(self, rows: IntArray) -> dict[str, int]:
        """Pictures of the global batch with a label of each task; of those that are there, some of which stand in."""
        own = {name: targets.count(rows) for name, targets in self.targets.items()}
        if self.rank.world_size == 1:  # no GPU is waited for
            return own
        everyone = sum_over_ranks(torch.tensor(list(own.values()), device=self.rank.device), self.rank)
        return dict(zip(own, everyone.tolist(), strict=True))

    @property
    def _names(self) -> list[str]:
        return [*(task.name for task in self.model.config.tasks), *([DISTILLATION] if self.distiller else [])]

    def _split(self, count: int) -> Iterator[slice]:
        size = self.config.optimizer.micro_batch_size or count
        return (slice(start, start + size) for start in range(0, count, size))

    def _backward(self, pictures: Tensor, rows: IntArray, counts: Mapping[str, int]) -> Tensor:
        """(tasks, 2) float64: this part's share of each loss, and its gradient's squared norm at the embeddings."""
        with precision.autocast(self.rank.device, self.dtype):
            embeddings = self.model(pictures.to(self.rank.device, non_blocking=True))
        shared = embeddings.detach().requires_grad_()
        gradient = torch.zeros_like(shared)
        measured = []
        for name, loss in self._losses(shared, rows, counts):
            shared.grad = None
            (loss * self._weight_of(name)).backward()
            own = torch.zeros_like(shared) if shared.grad is None else shared.grad
            gradient += own
            measured.append(torch.stack([loss.detach().double(), own.double().square().sum()]))
        embeddings.backward(gradient)
        return torch.stack(measured)

    def _losses(self, embeddings: Tensor, rows: IntArray, counts: Mapping[str, int]) -> Iterator[tuple[str, Tensor]]:
        for task in self.model.config.tasks:
            yield task.name, self._task_loss(task, embeddings, rows, float(counts[task.name]))
        if self.distiller is not None:
            batch_size = float(self.config.optimizer.batch_size)
            yield DISTILLATION, self.distiller(embeddings, torch.from_numpy(rows), denominator=batch_size)

    def _task_loss(self, task: TaskSpec, embeddings: Tensor, rows: IntArray, denominator: float) -> Tensor:
        targets, head = self.targets[task.name], self.model.heads[task.name]
        if task.is_sharded:
            loss: Tensor = head(embeddings, targets.take(rows), step=self.step, denominator=denominator or 1.0)
            return loss
        if task.kind == "multilabel":
            lists = targets.take(rows).to(embeddings.device)
            function = sigmoid_loss if task.loss == "sigmoid" else khot_softmax
            return function(head(embeddings), lists, denominator=denominator)
        labels = targets.take_first(rows).to(embeddings.device)
        if task.name in self._class_weights:
            return class_balanced_loss(
                head(embeddings), labels, self._class_weights[task.name], denominator=denominator
            )
        if task.sample_rate < 1:
            drawn = draw_proxies(labels, classes=len(task.labels), share=task.sample_rate)
            return norm_softmax(embeddings, head.weight, labels, proxy_ids=drawn, denominator=denominator)
        return softmax_loss(head(embeddings), labels, denominator=denominator)

    def _weight_of(self, name: str) -> float:
        if name != DISTILLATION:
            return next(task.weight for task in self.model.config.tasks if task.name == name)
        last = self.config.distill.steps or self.config.optimizer.steps
        return self.config.distill.weight * max(0.0, 1 - self.step / last)

    def _reduce(self, sums: Tensor, counts: Mapping[str, int], *, flag: bool) -> StepReport:
        """Gradients added up over ranks, and the figures of the step."""
        all_reduce_gradients(self._parameters, self.rank)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in self._parameters]).double()
        raised = torch.tensor([float(flag)], dtype=torch.float64, device=sums.device)
        total = sum_over_ranks(torch.cat([sums.flatten(), raised]), self.rank)
        *values, flags, gradient_norm = torch.cat([total, norm[None]]).tolist()  # here a GPU is waited for
        if not np.isfinite([*values, gradient_norm]).all():
            self._forget_gradients()
            raise NotFinite
        losses = dict(zip(self._names, values[::2], strict=True))
        norms = dict(zip(self._names, np.sqrt(values[1::2]).tolist(), strict=True))
        seen = [name for name in self._names if counts.get(name, 1)]
        return StepReport(
            {name: losses[name] for name in seen}, {name: norms[name] for name in seen}, gradient_norm, int(flags)
        )

    def _update(self, gradient_norm: float) -> None:
        options = self.config.optimizer
        factor = schedule.cosine_with_warmup(self.step, options.steps, round(options.warmup * options.steps))
        schedule.set_rates(self.optimizer.param_groups, factor)
        if options.clip_norm and gradient_norm > options.clip_norm:
            gradients = [parameter.grad for parameter in self._parameters]
            torch._foreach_mul_(gradients, options.clip_norm / gradient_norm)
        self.optimizer.step()
        for head in self._sharded_heads():
            head.update(options.learning_rate * options.head_rate * factor)
        self._forget_gradients()
        if self.ema is not None:
            self.ema.update(self.step)
        self.step += 1

    def _forget_gradients(self) -> None:
        self._learned.zero_grad(set_to_none=True)
        for head in self._sharded_heads():
            head.discard()

    def _sharded_heads(self) -> list[Any]:
        return [self.model.heads[task.name] for task in self.model.config.tasks if task.is_sharded]


def _count(targets: Mapping[str, Targets], task: TaskSpec) -> Any:
    return count_labels(targets[task.name], len(task.labels))
