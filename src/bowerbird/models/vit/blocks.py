"""The block of a Vision Transformer: attention and a perceptron, each normalised before and added after.

Legend: B pictures, N tokens, D width, h heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.models.vit.config import VitConfig


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): the activation of the first CLIP models."""
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": quick_gelu,
}


class Attention(nn.Module):
    """Multi-head self-attention by torch's fused kernel."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.projection = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        batch, count, width = x.shape
        qkv = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, N, D / h)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.projection(mixed.transpose(1, 2).reshape(batch, count, width))


class Perceptron(nn.Module):
    """Two linear maps with the activation between them."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(hidden, config.width)
        self.activation = _ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.contract(self.activation(self.expand(x)))


class Branch(nn.Module):
    """x + factor * inner(norm(x)); in training a picture skips the branch with the probability `drop`.

    What is kept of a branch is divided by the probability to keep it (Huang et al. 2016, as in DeiT), so evaluation
    needs no correction.
    """

    def __init__(self, inner: nn.Module, config: VitConfig, drop: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.inner = inner
        start = config.layer_scale
        self.factor = None if start is None else nn.Parameter(torch.full((config.width,), start))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        branch = self.inner(self.norm(x))
        if self.factor is not None:
            branch = branch * self.factor
        if self.training and self.drop > 0:
            keep = 1 - self.drop
            branch = branch * (branch.new_empty(x.shape[0], 1, 1).bernoulli_(keep) / keep)
        return x + branch


class Block(nn.Module):
    """Attention, then the perceptron."""

    def __init__(self, config: VitConfig, drop: float) -> None:
        super().__init__()
        self.attention = Branch(Attention(config), config, drop)
        self.perceptron = Branch(Perceptron(config), config, drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.perceptron(self.attention(x))
