"""Loading a checkpoint into a Vision Transformer, and finding out what Vision Transformer it is of.

Legend: P positions of patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bowerbird.errors import ArgumentInvalid
from bowerbird.models.checkpoints.files import read_tensors
from bowerbird.models.checkpoints.layouts import translate
from bowerbird.models.vit import VisionTransformer, VitConfig, resize_positions

_NAMED = 8  # keys in a message
# What a network may have of its own beside a checkpoint: tokens that it is still to learn.
_MAY_BE_MISSING = frozenset({"class_token", "registers"})
# What it may leave: the class token, where the patches alone are read.
_MAY_BE_LEFT = frozenset({"class_token"})


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        layout: whose names it has; see `bowerbird.models.checkpoints.LAYOUTS`.
        missing: parameters of the network that it does not have; they keep their values.
        unexpected: its keys that the network has no place for: classifiers, text towers.
        resized: what was interpolated, as "positions: 16 x 16 -> 14 x 14".
    """

    layout: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    resized: tuple[str, ...]


def load_backbone(network: VisionTransformer, source: Path | str | Mapping[str, Tensor]) -> LoadReport:
    """Give a network the weights of a checkpoint; all of them or, with an error, none.

    Positions are interpolated to the network's grid. The position of a class token is added to the token.

    Args:
        network: of the same architecture; its size of pictures, its pool, registers and class token may differ.
        source: a safetensors file, or its tensors by name.
    Raises:
        ModelNotFound, ModelFileCorrupt: see `read_tensors`.
        ArgumentInvalid: a pickle, an unknown layout, or another architecture; the message names keys and shapes.
    """
    translation = translate(source if isinstance(source, Mapping) else read_tensors(source))
    tensors = dict(translation.tensors)
    config = network.config
    grid = _separate_positions(tensors, config.grid)
    resized: tuple[str, ...] = ()
    if grid != config.grid:
        tensors["positions"] = resize_positions(tensors["positions"], config.grid, config.position_resize)
        resized = (f"positions: {grid[0]} x {grid[1]} -> {config.grid[0]} x {config.grid[1]}",)
    state = network.state_dict()
    _drop_needless_biases(tensors, state)
    _check(tensors, state, translation.unknown)
    with torch.no_grad():
        for name, target in state.items():
            if name in tensors:
                target.copy_(tensors[name])
    left = [name for name in tensors if name not in state]
    missing = tuple(name for name in state if name not in tensors)
    return LoadReport(translation.layout.name, missing, (*left, *translation.foreign), resized)


def infer_config(tensors: Mapping[str, Tensor], **known: Any) -> VitConfig:
    """The network that a checkpoint is of.

    What tensors do not show is as its project usually has it: heads of 64, the activation, the epsilon of the norms,
    square pictures. Where that is wrong, say so: OpenAI's own weights in open_clip's layout need
    `activation="quick_gelu"`.

    Args:
        tensors: of the checkpoint, by name.
        known: values of `VitConfig` that are known.
    Raises:
        ArgumentInvalid: an unknown layout, or one of our own with another stem than "patch".
        ConfigInvalid: a value in `known` is not allowed.
    """
    translation = translate(tensors)
    ours = dict(translation.tensors)
    patches = ours.get("stem.projection.weight")
    if patches is None or patches.ndim != 4 or patches.shape[1] != 3:
        raise ArgumentInvalid('only checkpoints with the stem "patch" say what network they are of')
    size = int(patches.shape[-1])
    stride = known.get("patch_stride") or size
    grid = _separate_positions(ours, None)
    width = len(ours["norm.weight"])
    pooled_late = any(key.split(".")[-2:-1] == ["fc_norm"] for key in tensors)
    values = {
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in ours if name.startswith("blocks.")),
        "heads": max(1, width // 64),
        "mlp_ratio": len(ours["blocks.0.perceptron.inner.expand.bias"]) / width,
        "patch_size": size,
        "image_size": [(side - 1) * stride + size for side in grid],
        "class_token": "class_token" in ours,
        "registers": ours["registers"].shape[1] if "registers" in ours else 0,
        "pool": "norm_of_mean" if pooled_late else "class" if "class_token" in ours else "mean",
        "layer_scale": 1e-5 if "blocks.0.attention.factor" in ours else None,
        "pre_norm": "pre_norm.weight" in ours,
        **translation.layout.config,
    }
    if values["pre_norm"] and translation.layout.name == "timm":
        values["norm_epsilon"] = 1e-5
    if values["registers"] and translation.layout.name in ("dinov2", "huggingface_dinov2"):
        values["position_resize"] = "bicubic_antialias"
    return VitConfig.from_dict({**values, **known})


def _separate_positions(tensors: dict[str, Tensor], expected: tuple[int, int] | None) -> tuple[int, int]:
    """(rows, columns) of the patches, after which `positions` is (1, rows, columns, D).

    Positions of the class token and of registers are added to those tokens. Unless the checkpoint says it, as ours do,
    the grid is the expected one if the count fits, else a square.
    """
    positions = tensors.get("positions")
    if positions is None:
        raise ArgumentInvalid("the checkpoint has no learned positions, so it is not of one of our networks")
    if positions.ndim == 4:
        return positions.shape[1], positions.shape[2]
    classes = int("class_token" in tensors)
    registers = tensors["registers"].shape[1] if "registers" in tensors else 0
    others, grid = _find_grid(positions.shape[1], (classes, 0, classes + registers), expected)
    if others and classes:
        tensors["class_token"] = tensors["class_token"] + positions[:, :1]
    if others > classes:
        tensors["registers"] = tensors["registers"] + positions[:, classes:others]
    tensors["positions"] = positions[:, others:].unflatten(1, grid)
    return grid


def _find_grid(count: int, others: tuple[int, ...], expected: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """How many of the positions are of other tokens, and the grid of the rest."""
    if expected:
        for number in others:
            if count - number == math.prod(expected):
                return number, expected
    for number in others:
        side = math.isqrt(count - number)
        if side * side == count - number:
            return number, (side, side)
    raise ArgumentInvalid(
        f"the checkpoint has {count} positions, neither a square of patches nor the grid of the network; give the "
        "network the image_size that it was trained with. Where a network has other learned tokens than a class token "
        "and registers, it is not of ours"
    )


def _drop_needless_biases(tensors: dict[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Leave biases that are zero where the network has none."""
    for name in [name for name in tensors if name.endswith(".bias") and name not in state]:
        if not tensors[name].any():
            del tensors[name]


def _check(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], unknown: tuple[str, ...]) -> None:
    """Refuse another architecture."""
    faults = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(target.shape)}"
        for name, target in state.items()
        if name in tensors and tensors[name].shape != target.shape
    ]
    faults += [
        f"{name} {tuple(state[name].shape)} is missing"
        for name in state
        if name not in tensors and name not in _MAY_BE_MISSING
    ]
    faults += [
        f"{name} {tuple(tensors[name].shape)} has no place"
        for name in tensors
        if name not in state and name not in _MAY_BE_LEFT
    ]
    faults += [f"{name} has no place" for name in unknown]
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise ArgumentInvalid(f"the checkpoint is of another architecture: {'; '.join(faults[:_NAMED])}{more}")
