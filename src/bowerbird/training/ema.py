"""An exponential moving average of a model's weights, which validates and serves better than the last step's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

WARM_UP = 10


class Ema:
    """Shadows of every floating-point parameter and buffer of a model; the rest is taken as it is.

    Attributes:
        shadows: name in the state dict -> tensor of the same shape, type and device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """
        Args:
            decay: in [0, 1): what a step keeps of the average; 0: the average is the model.
        """
        self.decay = decay
        self._model = model
        self.shadows: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after optimiser step `step`, counted from 0.

        Early steps keep less, (1 + step) / (10 + step) at most, or the average would be one of random initial weights.
        """
        keep = min(self.decay, (1 + step) / (WARM_UP + step))
        live = self._model.state_dict()
        torch._foreach_lerp_(list(self.shadows.values()), [live[name] for name in self.shadows], 1 - keep)

    @contextlib.contextmanager
    def swap(self) -> Iterator[None]:
        """While entered, the model has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        live = self._model.state_dict()
        for name, shadow in self.shadows.items():
            kept = live[name].clone()
            live[name].copy_(shadow)
            shadow.copy_(kept)
