"""How other projects name the parameters of a Vision Transformer, and the same tensors under our names.

Legend: P positions, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bowerbird.errors import ArgumentInvalid


@dataclass(frozen=True)
class Layout:
    """Where a project keeps what.

    Attributes:
        name: of the project.
        block: pattern before the number of a block.
        marks: parameters that this layout has and no other; of block 0 where one begins with "0.".
        outer: names outside the blocks -> ours; modules without their ".weight" and ".bias".
        inner: the same inside a block.
        config: what a checkpoint does not say: values of `VitConfig` that the project uses.
    """

    name: str
    block: str
    marks: tuple[str, ...]
    outer: Mapping[str, str]
    inner: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Translation:
    """A checkpoint under our names.

    Attributes:
        layout: of the checkpoint.
        tensors: by our names and in our shapes, but for `positions`: (1, P, D), where P may count other tokens too;
            (1, rows, columns, D) in our own layout.
        foreign: keys of the checkpoint that are not of the backbone: classifiers, text towers.
        unknown: keys inside its blocks that our blocks do not have.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    foreign: tuple[str, ...]
    unknown: tuple[str, ...]


_TIMM_INNER = {
    "norm1": "attention.norm",
    "attn.qkv": "attention.inner.qkv",
    "attn.proj": "attention.inner.projection",
    "ls1.gamma": "attention.factor",
    "norm2": "perceptron.norm",
    "mlp.fc1": "perceptron.inner.expand",
    "mlp.fc2": "perceptron.inner.contract",
    "ls2.gamma": "perceptron.factor",
}
_TIMM_OUTER = {
    "cls_token": "class_token",
    "reg_token": "registers",
    "register_tokens": "registers",
    "pos_embed": "positions",
    "patch_embed.proj": "stem.projection",
    "norm": "norm",
}
_HUGGINGFACE_OUTER = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection": "stem.projection",
    "layernorm": "norm",
}
# Files keep the older names of the attention's parts; newer releases of transformers have others in memory.
_HUGGINGFACE_INNER = {
    "attention.attention.query": "attention.inner.query",
    "attention.attention.key": "attention.inner.key",
    "attention.attention.value": "attention.inner.value",
    "attention.output.dense": "attention.inner.projection",
    "attention.q_proj": "attention.inner.query",
    "attention.k_proj": "attention.inner.key",
    "attention.v_proj": "attention.inner.value",
    "attention.o_proj": "attention.inner.projection",
    "mlp.fc1": "perceptron.inner.expand",
    "mlp.fc2": "perceptron.inner.contract",
}

LAYOUTS = (
    Layout("bowerbird", "blocks.", ("positions", "0.attention.inner.qkv.weight"), {}, {}),
    Layout(
        "dinov2",
        r"blocks\.(?:\d+\.(?=\d))?",  # files of its training keep the blocks in chunks: blocks.CHUNK.NUMBER
        ("patch_embed.proj.weight", "mask_token", "0.attn.qkv.weight"),
        _TIMM_OUTER,
        _TIMM_INNER,
    ),
    Layout(
        "timm",
        r"blocks\.",
        ("patch_embed.proj.weight", "0.attn.qkv.weight"),
        {**_TIMM_OUTER, "norm_pre": "pre_norm", "fc_norm": "norm"},
        _TIMM_INNER,
        {"position_resize": "bicubic_antialias"},
    ),
    Layout(
        "open_clip",
        r"transformer\.resblocks\.",
        ("conv1.weight", "0.attn.in_proj_weight"),
        {
            "class_embedding": "class_token",
            "positional_embedding": "positions",
            "conv1": "stem.projection",
            "ln_pre": "pre_norm",
            "ln_post": "norm",
        },
        {
            "ln_1": "attention.norm",
            "attn.in_proj_weight": "attention.inner.qkv.weight",
            "attn.in_proj_bias": "attention.inner.qkv.bias",
            "attn.out_proj": "attention.inner.projection",
            "ls_1.gamma": "attention.factor",
            "ln_2": "perceptron.norm",
            "mlp.c_fc": "perceptron.inner.expand",
            "mlp.c_proj": "perceptron.inner.contract",
            "ls_2.gamma": "perceptron.factor",
        },
        {"norm_epsilon": 1e-5, "position_resize": "bicubic_antialias"},
    ),
    Layout(
        "huggingface_vit",
        r"(?:encoder\.layer|layers)\.",
        ("embeddings.patch_embeddings.projection.weight", "0.layernorm_before.weight"),
        _HUGGINGFACE_OUTER,
        {
            **_HUGGINGFACE_INNER,
            "layernorm_before": "attention.norm",
            "layernorm_after": "perceptron.norm",
            "intermediate.dense": "perceptron.inner.expand",
            "output.dense": "perceptron.inner.contract",
        },
        {"norm_epsilon": 1e-12},
    ),
    Layout(
        "huggingface_dinov2",
        r"encoder\.layer\.",
        ("embeddings.patch_embeddings.projection.weight", "0.norm1.weight"),
        {**_HUGGINGFACE_OUTER, "embeddings.register_tokens": "registers"},
        {
            **_HUGGINGFACE_INNER,
            "norm1": "attention.norm",
            "layer_scale1.lambda1": "attention.factor",
            "norm2": "perceptron.norm",
            "layer_scale2.lambda1": "perceptron.factor",
        },
    ),
    Layout(
        "huggingface_clip",
        r"encoder\.layers\.",
        ("embeddings.patch_embedding.weight", "0.layer_norm1.weight"),
        {
            "embeddings.class_embedding": "class_token",
            "embeddings.position_embedding.weight": "positions",
            "embeddings.patch_embedding": "stem.projection",
            "pre_layrnorm": "pre_norm",  # sic
            "post_layernorm": "norm",
        },
        {
            "layer_norm1": "attention.norm",
            "self_attn.q_proj": "attention.inner.query",
            "self_attn.k_proj": "attention.inner.key",
            "self_attn.v_proj": "attention.inner.value",
            "self_attn.out_proj": "attention.inner.projection",
            "layer_norm2": "perceptron.norm",
            "mlp.fc1": "perceptron.inner.expand",
            "mlp.fc2": "perceptron.inner.contract",
        },
        {"norm_epsilon": 1e-5, "activation": "quick_gelu"},
    ),
)


def translate(tensors: Mapping[str, Tensor]) -> Translation:
    """The checkpoint under our names; see `Translation`. Biases that it does not have are zero, which is the same.

    Raises:
        ArgumentInvalid: it is of no layout that we know, or of several backbones.
    """
    layout, prefix = _detect(tensors)
    ours: dict[str, Tensor] = {}
    foreign, unknown = [], []
    for key, tensor in tensors.items():
        name = _rename(layout, key.removeprefix(prefix)) if key.startswith(prefix) else None
        if name is not None:
            ours[name] = tensor
        elif re.match(re.escape(prefix) + layout.block + r"\d+\.", key):
            unknown.append(key)
        else:
            foreign.append(key)
    _join_attention(ours)
    _add_zero_biases(ours)
    for name in ("class_token", "registers", "positions"):
        if name in ours and ours[name].ndim < 3:
            ours[name] = ours[name].reshape(1, -1, ours[name].shape[-1])
    return Translation(layout, ours, tuple(sorted(foreign)), tuple(sorted(unknown)))


def _detect(tensors: Mapping[str, Tensor]) -> tuple[Layout, str]:
    """The first layout whose marks all stand in the checkpoint, and what stands before each of its names."""
    for layout in LAYOUTS:
        patterns = [layout.block + re.escape(mark) if mark[0] == "0" else re.escape(mark) for mark in layout.marks]
        prefixes = [
            {match[1] for key in tensors if (match := re.fullmatch(rf"((?:.+\.)?){pattern}", key))}
            for pattern in patterns
        ]
        found = sorted(set.intersection(*prefixes))
        if len(found) > 1:
            raise ArgumentInvalid(
                f"the checkpoint holds several backbones, under {', '.join(found)}; keep the tensors of one of them"
            )
        if found:
            return layout, found[0]
    some = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(tensors.items())[:8]) or "no tensors"
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise ArgumentInvalid(f"not a Vision Transformer of a layout that is known ({known}); it has {some}")


def _rename(layout: Layout, key: str) -> str | None:
    """Our name for a key without its prefix; None if our networks have no such parameter."""
    if layout.name == "bowerbird":
        return key
    block = re.fullmatch(layout.block + r"(\d+)\.(.+)", key)
    if block is None:
        return _look_up(layout.outer, key)
    name = _look_up(layout.inner, block[2])
    return None if name is None else f"blocks.{block[1]}.{name}"


def _look_up(table: Mapping[str, str], key: str) -> str | None:
    """The name of a parameter, or of its module with the kind of parameter after it."""
    if key in table:
        return table[key]
    module, _, kind = key.rpartition(".")
    return f"{table[module]}.{kind}" if module in table and kind in ("weight", "bias") else None


def _join_attention(ours: dict[str, Tensor]) -> None:
    """Queries, keys and values that came apart become the one map that our attention has."""
    for first in [name for name in ours if ".query." in name]:
        names = [first.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(name in ours for name in names):
            ours[first.replace(".query.", ".qkv.")] = torch.cat([ours.pop(name) for name in names])


def _add_zero_biases(ours: dict[str, Tensor]) -> None:
    for name in [name for name in ours if name.endswith(".weight")]:
        ours.setdefault(name.removesuffix("weight") + "bias", ours[name].new_zeros(len(ours[name])))
