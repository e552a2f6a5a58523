"""The sizes of every experiment, in one place: small enough that a training takes 1 to 4 minutes on two quiet cores.

They show effects, not the best figures that the network can reach: all arms of a table are trained alike, and what
differs is what the table is about. The served model is trained by `services/embedder/configs`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bowerbird.errors import ArgumentInvalid

SEEDS = 3
BITS = (128, 256, 512, 1024, 2048)
LABEL_SHARES = (0.01, 0.05, 0.25, 1.0)  # of fine-tune labels
DATA_SHARES = (0.25, 0.5, 1.0)
CLUSTER_SHARES = (0.05, 0.1, 0.25, 0.5)  # clusters as a share of the labels
CONTROL_SHARE = 0.1  # at which the controls of clustering are run
SAMPLE_RATES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Recipe:
    """How every arm of a table is trained.

    Attributes:
        image_size: side of the input, pixels.
        backbone: of the Vision Transformer, as section [model] has it.
        dimension: of the embedding.
        batch_size: pictures a step.
        pretrain_steps: on weak labels.
        finetune_steps: on the tasks; a run with several tasks takes as many more, so that each task sees as much.
        learning_rate: at the peak.
        ema: what a step keeps of the averaged weights.
        augmentation: as section [augmentation] has it.
        per_class: pictures of a concept in a batch.
        cnn_size: side of the pictures that the CNN sees, pixels; its card says 224.
        views: augmented versions of each picture for heads on frozen features.
        head_steps: of such a head.
        cluster_pictures: least and most pictures of a cluster.
        noise: length of what the control of clustering adds to text vectors of length 1.
        tail: labels on so many training pictures, both ends included, are the tail.
        head: labels on so many training pictures or more are the head.
    """

    image_size: int = 64
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"preset": "vit-micro", "depth": 4, "stem": "conv"})
    dimension: int = 256
    batch_size: int = 128
    pretrain_steps: int = 400
    finetune_steps: int = 300
    learning_rate: float = 1e-3
    ema: float = 0.98
    augmentation: Mapping[str, Any] = field(default_factory=lambda: {"preset": "strong"})
    per_class: int = 2
    cnn_size: int = 224
    views: int = 6
    head_steps: int = 3000
    cluster_pictures: tuple[int, int] = (20, 500)
    noise: float = 1.0
    tail: tuple[int, int] = (1, 20)
    head: int = 100


FULL = Recipe()
# For --quick: proves the path, on the drawn corpus. Its figures mean nothing but "better than chance".
QUICK = Recipe(
    image_size=32,
    backbone={"preset": "vit-nano", "stem": "conv"},
    dimension=128,
    batch_size=64,
    augmentation={"preset": "light", "flip": 0.0},
    pretrain_steps=30,
    finetune_steps=60,
    cnn_size=64,
    views=2,
    head_steps=200,
    tail=(1, 60),
    head=61,
)


def change(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with some values changed.

    Args:
        changes: `key=value` each, the value as in TOML.
    Raises:
        ArgumentInvalid: there is no such key, or the value is not of its kind.
    """
    known = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
    for one in changes:
        key, _, text = one.partition("=")
        if key not in known:
            raise ArgumentInvalid(f"--set {one}: no such size; known: {', '.join(known)}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ArgumentInvalid(f"--set {one}: expected a value as in TOML: {error}") from error
        old = known[key]
        value = tuple(value) if isinstance(value, list) else float(value) if isinstance(old, float) else value
        if not isinstance(value, Mapping if isinstance(old, Mapping) else type(old)):
            raise ArgumentInvalid(f"--set {one}: expected something like {old!r}")
        changed: dict[str, Any] = {key: value}
        recipe = replace(recipe, **changed)
    return recipe
