"""The weak labels of every picture as clusters of labels: by meaning, by chance, and by meaning with noise."""

from __future__ import annotations

from pipelines.clusters import ClusterSettings, cluster_labels
from pipelines.clusters.labels import Control, Encode

from .examine import Subjects
from .recipes import Recipe

Mapped = list[list[str]]


def map_labels(subjects: Subjects, recipe: Recipe, encode: Encode, share: float, control: Control = "none") -> Mapped:
    """(N,) the clusters that the labels of each picture fall into, each once.

    The clusters are made of the labels of training pictures, once for all seeds of an arm.

    Args:
        encode: text vectors of labels.
        share: clusters to begin with, as a share of the labels.
        control: `random-merge` and `noise` are what must not help.
    """
    trained = [labels for labels, trains in zip(subjects.labels, subjects.trains, strict=True) if trains]
    least, most = recipe.cluster_pictures
    settings = ClusterSettings(share=share, min_pictures=least, max_pictures=most, control=control, noise=recipe.noise)
    clusters = cluster_labels(trained, encode, settings, encoder_sha256="")
    return [clusters.map(labels) for labels in subjects.labels]
