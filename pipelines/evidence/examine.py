"""From embeddings to the measures of the tables; every measure is a sample over clusters, so that models can be paired.

All of them look at pictures that no arm was trained on: those of test concepts, or of the held-out style.

Legend: N pictures of the table, D dimensions, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import numpy.typing as npt

from bowerbird.corpora import concept_family
from bowerbird.evaluation import Pictures, Sample, rank_pairs
from bowerbird.vectors import normalize, pack_code

from .probe import fit_and_predict

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Samples = dict[str, Sample]


@dataclass(frozen=True)
class Subjects:
    """The pictures of a table, as far as measures ask.

    Attributes:
        styles, concepts: (N,), empty where there is none.
        labels: (N,) annotations of each picture.
        is_test: (N,) bool: the concept is a test concept.
        trains: (N,) bool: the picture may be trained on.
        held_out: the style that nobody trains on.
        compared: the styles of cross-style retrieval, the held-out one among them.
    """

    styles: Sequence[str]
    concepts: Sequence[str]
    labels: Sequence[Sequence[str]]
    is_test: BoolArray
    trains: BoolArray
    held_out: str
    compared: Sequence[str]


@dataclass(frozen=True)
class Representation:
    """What a model makes of the pictures.

    Attributes:
        embeddings: (N, D) float32 before they are brought to unit length: their signs are the code; NaN for pictures
            that nothing asks for.
        scores: (N, C) float32 of each head, by task; likewise.
        classes: labels of each head, by task.
        unsigned: True where signs mean nothing (features of a network without a centred embedding); no codes then.
    """

    embeddings: FloatArray
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unsigned: bool = False


def measure_retrieval(subjects: Subjects, model: Representation) -> Samples:
    """P@1 and R@10 of cross-style retrieval, on unseen concepts and on the unseen style with unseen concepts."""
    codes = None if model.unsigned else pack_code(model.embeddings)
    pictures = Pictures(subjects.styles, subjects.concepts, normalize(model.embeddings), codes)
    unseen = {concept for concept, is_test in zip(subjects.concepts, subjects.is_test, strict=True) if is_test}
    trained = [style for style in subjects.compared if style != subjects.held_out]
    crossings = tuple(pair for style in trained for pair in ((subjects.held_out, style), (style, subjects.held_out)))
    samples: Samples = {}
    for name, pairs in (("concepts", tuple(permutations(trained, 2))), ("style", crossings)):
        standings = rank_pairs(pictures, pairs, keep=unseen.__contains__)
        if not standings.concepts:
            continue
        samples[f"{name} P@1"] = standings.sample(standings.recall(1), concept_family)
        samples[f"{name} R@10"] = standings.sample(standings.recall(10), concept_family)
        if codes is not None:
            samples[f"{name} P@1 binary"] = standings.sample(standings.code_recall(1), concept_family)
    return samples


def find_bands(subjects: Subjects, tail: tuple[int, int], head: int) -> dict[str, set[str]]:
    """Labels of the tail and of the head, by the number of training pictures that carry them."""
    trained = (labels for labels, trains in zip(subjects.labels, subjects.trains, strict=True) if trains)
    counts = Counter(label for labels in trained for label in set(labels))
    return {
        "tail": {label for label, count in counts.items() if tail[0] <= count <= tail[1]},
        "head": {label for label, count in counts.items() if count >= head},
    }


def measure_labels(subjects: Subjects, model: Representation, bands: Mapping[str, set[str]]) -> Samples:
    """Recall@1 and linear probe of the labels of each band; a cluster is a label, so every label counts.

    Recall@1 of a label: of the test pictures that carry it, how many have a nearest neighbour, among the test pictures
    of other styles, that carries it as well. Asked of labels that stand on pictures of two styles at least.
    """
    rows = np.flatnonzero(subjects.is_test).tolist()
    embeddings = normalize(model.embeddings[rows])
    styles = np.array([subjects.styles[row] for row in rows])
    carried = [set(subjects.labels[row]) for row in rows]
    nearest = _find_nearest_of_other_styles(embeddings, styles)
    samples: Samples = {}
    for band, labels in bands.items():
        places = _group_by_label(carried, styles, labels)
        if not places:
            continue
        hits = [np.mean([label in carried[nearest[place]] for place in members]) for label, members in places.items()]
        samples[f"{band} recall@1"] = Sample.of(np.array(hits, np.float64), np.arange(len(hits)))
        probed = _probe_labels(embeddings, styles, places)
        if probed is not None:
            samples[f"{band} probe"] = probed
    return samples


def measure_classes(
    model: Representation, task: str, truth: Sequence[str | None], rows: IntArray, clusters: Sequence[str]
) -> Samples:
    """Accuracy of a head on these rows, those without a label or with one that the head lacks left out.

    Args:
        truth: (N,) the label of each picture.
        clusters: (N,) what is resampled.
    """
    names = {name: number for number, name in enumerate(model.classes[task])}
    asked = [row for row in rows.tolist() if truth[row] in names]
    predicted = model.scores[task][asked].argmax(axis=1)
    hits = np.array([names[str(truth[row])] for row in asked]) == predicted
    return {f"{task} accuracy": _cluster(hits.astype(np.float64), [clusters[row] for row in asked])}


def measure_annotations(model: Representation, task: str, subjects: Subjects, clusters: Sequence[str]) -> Samples:
    """How often the best scored label of a test picture is one that it carries; clusters as in `measure_classes`."""
    rows = np.flatnonzero(subjects.is_test).tolist()
    known = set(model.classes[task])
    asked = [row for row in rows if known & set(subjects.labels[row])]
    best = model.scores[task][asked].argmax(axis=1)
    hits = [model.classes[task][place] in subjects.labels[row] for place, row in zip(best, asked, strict=True)]
    return {f"{task} P@1": _cluster(np.array(hits, np.float64), [clusters[row] for row in asked])}


def _cluster(values: npt.NDArray[np.float64], names: Sequence[str]) -> Sample:
    _, clusters = np.unique(names, return_inverse=True)
    return Sample.of(values, np.asarray(clusters, np.int64))


def _find_nearest_of_other_styles(embeddings: FloatArray, styles: npt.NDArray[np.str_]) -> IntArray:
    """(n,) position of the picture of another style with the largest inner product."""
    nearest = np.empty(len(embeddings), np.int64)
    for start in range(0, len(embeddings), 1024):
        some = slice(start, start + 1024)
        scores = embeddings[some] @ embeddings.T
        scores[styles[some][:, None] == styles[None]] = -np.inf
        nearest[some] = scores.argmax(axis=1)
    return nearest


def _group_by_label(
    carried: Sequence[set[str]], styles: npt.NDArray[np.str_], labels: set[str]
) -> dict[str, list[int]]:
    """Positions of the pictures of each label that stands on pictures of two styles or more, by label."""
    places: dict[str, list[int]] = {}
    for place, own in enumerate(carried):
        for label in own & labels:
            places.setdefault(label, []).append(place)
    return {label: places[label] for label in sorted(places) if len(set(styles[places[label]])) > 1}


def _probe_labels(
    embeddings: FloatArray, styles: npt.NDArray[np.str_], places: Mapping[str, list[int]]
) -> Sample | None:
    """Accuracy by label of a probe that was fitted on half of the styles and asked about the other half.

    A picture with several labels of the band counts for the rarest of them.
    """
    label_of: dict[int, str] = {}
    for label in sorted(places, key=lambda each: (-len(places[each]), each)):  # rarer ones come later and stay
        label_of |= dict.fromkeys(places[label], label)
    order = {style: number for number, style in enumerate(sorted(set(styles.tolist())))}
    fitted = [place for place in label_of if order[str(styles[place])] % 2 == 0]
    known = sorted({label_of[place] for place in fitted})
    asked = [place for place in label_of if order[str(styles[place])] % 2 and label_of[place] in known]
    if len(known) < 2 or not asked:
        return None
    number = {label: position for position, label in enumerate(known)}
    predicted = fit_and_predict(
        embeddings[fitted], np.array([number[label_of[place]] for place in fitted]), embeddings[asked]
    )
    truth = np.array([number[label_of[place]] for place in asked])
    hits = (predicted == truth).astype(np.float64)
    present = np.unique(truth)  # every label counts alike
    means = np.array([hits[truth == label].mean() for label in present])
    return Sample.of(means, np.arange(len(means)))
