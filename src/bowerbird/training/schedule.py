"""Learning rates: warm-up and cosine over steps, decay over layers; and what weight decay leaves alone.

All are pure functions of the step and the model, so nothing of a schedule has to be saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

NEVER_DECAYED = ("class_token", "registers", "positions")  # and whatever has one axis: biases, norms, factors


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Factor of the learning rate in (0, 1]: linear up to 1 over `warmup` steps, then half a cosine towards 0.

    The first step already moves (1 / warmup), and the last still does, because a step at rate 0 is wasted.

    Args:
        step: that is about to be taken, from 0.
        total: steps of the run.
        warmup: steps, at most `total`.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def group_parameters(
    module: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    layer_ids: Mapping[str, int] | None = None,
    factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser, with names; each also carries `base_rate`, its rate at the schedule's peak.

    A parameter n layers below the top learns at `learning_rate * layer_decay ** n` (Bao et al. 2022, BEiT; usual since
    for fine-tuning Vision Transformers). Biases, norms, tokens and position embeddings are not decayed.

    Args:
        layer_ids: parameter name -> depth, 0 the lowest; names that are missing are on top and learn at the full rate.
        factors: prefix of parameter names -> factor of their rate.
    """
    depths = dict(layer_ids or {})
    top = 1 + max(depths.values(), default=-1)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = learning_rate * layer_decay ** (top - depths.get(name, top))
        rate *= math.prod(factor for prefix, factor in (factors or {}).items() if name.startswith(prefix))
        decay = 0.0 if parameter.ndim <= 1 or name.endswith(NEVER_DECAYED) else weight_decay
        empty = {"params": [], "lr": rate, "base_rate": rate, "weight_decay": decay}
        groups.setdefault((rate, decay), empty)["params"].append((name, parameter))
    return list(groups.values())


def set_rates(groups: list[dict[str, Any]], factor: float) -> None:
    """Set the learning rate of every group to `factor` of its rate at the peak."""
    for group in groups:
        group["lr"] = group["base_rate"] * factor
