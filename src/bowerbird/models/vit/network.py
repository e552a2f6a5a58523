"""The Vision Transformer: pictures in, one vector a picture or all tokens out.

Legend: B pictures, H W pixels, P = rows * columns patches, D width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.errors import ConfigInvalid
from bowerbird.models.vit.blocks import Block
from bowerbird.models.vit.config import PositionResize, VitConfig
from bowerbird.models.vit.stems import build_stem


@dataclass(frozen=True)
class Tokens:
    """What a picture becomes.

    Attributes:
        patches: (B, P, D), after the last LayerNorm, row by row.
        grid: (rows, columns), P their product.
        class_token: (B, D), after the last LayerNorm; None without one.
        registers: (B, R, D), after the last LayerNorm.
        intermediate: (B, P, D) patches after each block that was asked for, not normalised.
    """

    patches: Tensor
    grid: tuple[int, int]
    class_token: Tensor | None
    registers: Tensor
    intermediate: tuple[Tensor, ...]


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, with the options of `VitConfig`.

    Deviation: the class token has no position of its own. A learned vector that is always added to another learned
    vector says nothing more; `bowerbird.models.checkpoints` adds up the two of a published checkpoint.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        self.stem = build_stem(config)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width)) if config.class_token else None
        self.registers = nn.Parameter(torch.empty(1, config.registers, config.width)) if config.registers else None
        self.positions = nn.Parameter(torch.empty(1, rows, columns, config.width))
        self.pre_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.pre_norm else nn.Identity()
        slope = config.drop_path / max(1, config.depth - 1)
        self.blocks = nn.ModuleList(Block(config, slope * number) for number in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.apply(_initialise)
        for tokens in (self.class_token, self.registers, self.positions):
            if tokens is not None:
                nn.init.trunc_normal_(tokens, std=0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, D) float: one vector a picture, pooled and normalised as the configuration says.

        Args:
            pictures: (B, 3, H, W) float, normalised; any size that the patches cover.
        Raises:
            ConfigInvalid: they do not cover it.
        """
        tokens, _, _ = self._encode(pictures, ())
        patches = tokens[:, self.config.prefix :]
        if self.config.pool == "class":
            return self.norm(tokens[:, 0])
        if self.config.pool == "mean":
            return self.norm(patches).mean(1)
        return self.norm(patches.mean(1))

    def forward_tokens(self, pictures: Tensor, *, layers: Sequence[int] | None = None) -> Tokens:
        """All tokens of each picture.

        Args:
            pictures: as of `forward`.
            layers: blocks whose patches are wanted too, from 0; negative ones count from the last.
        Raises:
            ConfigInvalid: the patches do not cover the pictures, or there is no such block.
        """
        depth = self.config.depth
        wanted = tuple(layer + depth if layer < 0 else layer for layer in layers or ())
        if any(not 0 <= layer < depth for layer in wanted):
            raise ConfigInvalid(f"layers must be in [-{depth}, {depth}), got {list(layers or ())}")
        tokens, grid, intermediate = self._encode(pictures, wanted)
        tokens, prefix = self.norm(tokens), self.config.prefix
        return Tokens(
            patches=tokens[:, prefix:],
            grid=grid,
            class_token=tokens[:, 0] if self.config.class_token else None,
            registers=tokens[:, int(self.config.class_token) : prefix],
            intermediate=intermediate,
        )

    def layer_ids(self) -> dict[str, int]:
        """Depth of each parameter by its name: 0 before the first block, its number from 1 in a block, then depth + 1.

        For learning rates that shrink towards the input (Bao et al. 2022, BEiT).
        """
        ids = {}
        for name, _ in self.named_parameters():
            block = re.match(r"blocks\.(\d+)\.", name)
            last = self.config.depth + 1 if name.startswith("norm.") else 0
            ids[name] = int(block[1]) + 1 if block else last
        return ids

    def _encode(self, pictures: Tensor, layers: tuple[int, ...]) -> tuple[Tensor, tuple[int, int], tuple[Tensor, ...]]:
        """Tokens (B, prefix + P, D) after the last block, the grid, and the patches after the blocks asked for."""
        height, width = pictures.shape[-2:]
        if isinstance(height, int) and isinstance(width, int):  # in an export they may be symbols
            self.config.grid_of(height, width)
        maps = self.stem(pictures)
        grid = (maps.shape[2], maps.shape[3])
        tokens = maps.flatten(2).transpose(1, 2) + self._positions(grid)
        prefix = [
            part.expand(tokens.shape[0], -1, -1) for part in (self.class_token, self.registers) if part is not None
        ]
        tokens = self.pre_norm(torch.cat([*prefix, tokens], 1) if prefix else tokens)
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in layers:
                outputs[number] = tokens[:, self.config.prefix :]
        return tokens, grid, tuple(outputs[layer] for layer in layers)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, P, D): as stored, or interpolated for another grid."""
        positions = self.positions
        if not all(isinstance(side, int) for side in grid) or grid != self.config.grid:
            positions = resize_positions(positions, grid, self.config.position_resize)
        return positions.flatten(1, 2)


def resize_positions(positions: Tensor, grid: tuple[int, int], how: PositionResize) -> Tensor:
    """Positions interpolated for another grid; exactly the same for the same grid.

    Args:
        positions: (1, rows, columns, D).
        grid: (rows', columns').
        how: see `VitConfig.position_resize`.
    Returns:
        (1, rows', columns', D).
    """
    mode, _, antialias = how.partition("_")
    maps = positions.permute(0, 3, 1, 2).float()
    maps = functional.interpolate(maps, size=grid, mode=mode, align_corners=False, antialias=bool(antialias))
    return maps.permute(0, 2, 3, 1).to(positions.dtype)


def _initialise(module: nn.Module) -> None:
    """Truncated normals of deviation 0.02 for linear maps, of 1 / sqrt(fan in) for convolutions; biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
