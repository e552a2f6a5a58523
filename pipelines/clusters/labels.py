"""From the labels that pictures carry to named clusters of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from bowerbird.errors import ArgumentInvalid
from pipelines.clusters.grouping import Balancer, FloatArray, IntArray, add_noise, group_vectors, shuffle_groups

Control = Literal["none", "random-merge", "noise"]
CONTROLS: tuple[Control, ...] = get_args(Control)
Encode = Callable[[Sequence[str]], FloatArray]

_FORMAT = 1  # of the algorithm: another one gives other versions


@dataclasses.dataclass(frozen=True)
class ClusterSettings:
    """How labels are clustered.

    Attributes:
        share: clusters that k-means begins with, as a share of the labels.
        min_pictures: of a cluster; smaller ones are merged, since a class is not learnt from a handful of pictures.
        max_pictures: of a cluster; larger ones are split, but a single label may have any number.
        seed: of everything random.
        control: what must not help: `random-merge`: the clusters with other labels of the same frequency in them, so
            that their bounds hold nearly; `noise`: clusters of noisy vectors.
        noise: of the control `noise`: length of what is added to vectors of length 1.
    """

    share: float = 0.25
    min_pictures: int = 20
    max_pictures: int = 500
    seed: int = 0
    control: Control = "none"
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ArgumentInvalid(f"share: expected a part of the labels in (0, 1], got {self.share}")
        if not 1 <= self.min_pictures <= self.max_pictures:
            raise ArgumentInvalid(
                f"min_pictures, max_pictures: expected 1 <= min <= max, got {self.min_pictures} and {self.max_pictures}"
            )
        if self.control not in CONTROLS:
            raise ArgumentInvalid(f"control: expected {', '.join(CONTROLS)}, got {self.control!r}")
        if not self.noise >= 0:
            raise ArgumentInvalid(f"noise: expected 0 or more, got {self.noise}")


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Labels and their clusters.

    Attributes:
        cluster_of: name of the cluster by label; a cluster is called after its most frequent label.
        pictures: number of pictures by label.
        sizes: number of different pictures by cluster.
        metadata: `version`, which changes with everything that the clusters depend on, and those things.
    """

    cluster_of: dict[str, str]
    pictures: dict[str, int]
    sizes: dict[str, int]
    metadata: dict[str, Any]

    def map(self, labels: Sequence[str]) -> list[str]:
        """Clusters of a picture's labels, each once, in order of first appearance; unknown labels have none."""
        return list(dict.fromkeys(self.cluster_of[label] for label in labels if label in self.cluster_of))


def cluster_labels(
    labels: Sequence[Sequence[str]], encode: Encode, settings: ClusterSettings, *, encoder_sha256: str
) -> Clusters:
    """Clusters of all labels: spherical k-means of their text vectors, weighted by log(1 + pictures), then balanced.

    Args:
        labels: of each picture.
        encode: text vectors, (N, D) float32, unit length; `bowerbird.models.text.TextEncoder.encode`.
        settings: how.
        encoder_sha256: of what `encode` computes with; a part of the version.
    Raises:
        ArgumentInvalid: there is no label.
    Source: Beal et al., Billion-Scale Pretraining with Vision Transformers, 2022 (abstract: clustering helps the long
        tail). The paper does not say how; the recipe is ours.
    """
    pictures = _index(labels)
    names = sorted(pictures)
    counts = np.array([len(pictures[name]) for name in names], np.int64)
    weights = np.log1p(counts).astype(np.float32)
    vectors = encode(names)
    if settings.control == "noise":
        vectors = add_noise(vectors, settings.noise, seed=settings.seed)
    start = group_vectors(vectors, weights, max(1, round(settings.share * len(names))), seed=settings.seed)
    balancer = Balancer(
        vectors,
        weights,
        [pictures[name] for name in names],
        min_pictures=settings.min_pictures,
        max_pictures=settings.max_pictures,
        seed=settings.seed,
    )
    groups = balancer.balance(start)
    if settings.control == "random-merge":
        groups = shuffle_groups(groups, counts, seed=settings.seed)
    return _describe(names, groups, pictures, _make_metadata(pictures, settings, encoder_sha256))


def _index(labels: Sequence[Sequence[str]]) -> dict[str, IntArray]:
    """Numbers of the pictures by label, ascending; blank labels mean nothing and are left out."""
    found: dict[str, list[int]] = {}
    for picture, of_picture in enumerate(labels):
        for label in dict.fromkeys(of_picture):
            if label.strip():
                found.setdefault(label, []).append(picture)
    if not found:
        raise ArgumentInvalid("expected pictures with labels to cluster, got none; look at the table and its columns")
    return {label: np.array(pictures, np.int64) for label, pictures in found.items()}


def _describe(
    names: Sequence[str], groups: IntArray, pictures: dict[str, IntArray], metadata: dict[str, Any]
) -> Clusters:
    members: dict[int, list[str]] = {}
    for name, group in zip(names, groups.tolist(), strict=True):
        members.setdefault(group, []).append(name)
    title_of: dict[int, str] = {}
    sizes: dict[str, int] = {}
    for group, labels in sorted(members.items()):
        title_of[group] = title = min(labels, key=lambda name: (-len(pictures[name]), name))
        sizes[title] = len(np.unique(np.concatenate([pictures[name] for name in labels])))
    cluster_of = {name: title_of[group] for name, group in zip(names, groups.tolist(), strict=True)}
    counts = {name: len(pictures[name]) for name in names}
    return Clusters(cluster_of, counts, sizes, {**metadata, "labels": len(names), "clusters": len(sizes)})


def _make_metadata(pictures: dict[str, IntArray], settings: ClusterSettings, encoder_sha256: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name in sorted(pictures):
        digest.update(f"{json.dumps(name)} {pictures[name].tolist()}\n".encode())
    inputs = {
        "format": _FORMAT,
        "inputs_sha256": digest.hexdigest(),
        "encoder_sha256": encoder_sha256,
        **dataclasses.asdict(settings),
    }
    version = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    return {"version": version, **inputs}
