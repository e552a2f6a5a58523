"""The tables: which arms each has, what is measured on them, and which differences decide.

Every arm of a table sees the same pictures for the same number of steps unless the table is about just that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bowerbird.evaluation import count_confusions
from pipelines.clusters.labels import Control
from pipelines.text_encoder import open_text_encoder
from services.embedder.train_config import TaskConfig

from . import recipes
from .bench import SIDE, TEST, TRAIN, Bench, fill_missing, keep_share, mask_rare
from .clustering import map_labels
from .examine import (
    Representation,
    Samples,
    find_bands,
    measure_annotations,
    measure_classes,
    measure_labels,
    measure_retrieval,
)
from .frozen import CnnWithHead, FrozenCnn
from .skin import TypologyAngle
from .study import Comparison, Facts, Source, Study
from .trained import Trained

CONCEPT, LABELS = "metric_concept", "annotations"
ALL_LABELS = 1 - 1e-6  # rate at which a head that samples draws every label


# ---- tasks


def _concepts(bench: Bench, column: str = CONCEPT) -> TaskConfig:
    return TaskConfig("concept", "metric", column=column, per_class=bench.recipe.per_class)


def _weak_labels(column: str = LABELS, *, sample_rate: float = 1.0, **more: Any) -> TaskConfig:
    weights = "annotation_scores" if column == LABELS else ""
    return TaskConfig("annotations", "multilabel", column=column, weights=weights, sample_rate=sample_rate, **more)


def _pretrained(bench: Bench) -> Trained:
    return Trained((_weak_labels(),), bench.recipe.pretrain_steps)


def _finetuned(bench: Bench, **changes: Any) -> Trained:
    return Trained(**{"tasks": (_concepts(bench),), "steps": bench.recipe.finetune_steps, **changes})


# ---- measures


def _retrieval(bench: Bench, _arm: str, model: Representation) -> tuple[Samples, Facts]:
    return measure_retrieval(bench.subjects, model), {}


def _labels(bench: Bench, _arm: str, model: Representation) -> tuple[Samples, Facts]:
    bands = find_bands(bench.subjects, bench.recipe.tail, bench.recipe.head)
    samples = measure_labels(bench.subjects, model, bands) | measure_retrieval(bench.subjects, model)
    return samples, {f"{band} labels": len(labels) for band, labels in bands.items()}


# ---- tables


def plan_cnn(bench: Bench) -> Study:
    """ViT against the CNN as it is, and against the same CNN under the same head."""
    bench.add_column(CONCEPT, mask_rare(bench.plain_concepts, bench.columns[SIDE]))
    decisive = [
        Comparison(measure, baseline, "ViT")
        for measure in ("concepts P@1", "style P@1")
        for baseline in ("CNN as it is", "CNN + metric head")
    ]
    return Study(
        "cnn",
        "+36 % top-1 relevance over the CNN it replaced",
        {
            "CNN as it is": FrozenCnn(),
            "CNN + metric head": CnnWithHead(CONCEPT),
            "ViT": _finetuned(bench, init=_pretrained(bench)),
        },
        _retrieval,
        [*decisive, Comparison("concepts P@1", "CNN as it is", "CNN + metric head")],
        shown=("concepts P@1", "style P@1", "concepts P@1 binary"),
    )


def plan_clusters(bench: Bench) -> Study:
    """Pretraining on raw labels, on clusters of them, on random clusters and on clusters of noisy embeddings."""
    encode, control = open_text_encoder().encode, recipes.CONTROL_SHARE
    arms: dict[str, Source] = {"raw labels": _pretrained(bench)}
    plans: list[tuple[str, float, Control]] = [
        (f"clusters {share:g}", share, "none") for share in recipes.CLUSTER_SHARES
    ]
    plans += [(f"random {control:g}", control, "random-merge"), (f"noise {control:g}", control, "noise")]
    for name, share, kind in plans:
        column = name.replace(" ", "_")
        bench.add_column(column, map_labels(bench.subjects, bench.recipe, encode, share, kind))
        arms[name] = Trained((_weak_labels(column),), bench.recipe.pretrain_steps)
    chosen = f"clusters {control:g}"
    rivals = ("raw labels", f"random {control:g}", f"noise {control:g}")
    measures = ("tail recall@1", "tail probe", "head recall@1", "head probe")
    return Study(
        "clusters",
        "clustering helps the long tail",
        arms,
        _labels,
        [Comparison(measure, rival, chosen) for measure in measures for rival in rivals],
        shown=measures,
    )


def plan_pretraining(bench: Bench) -> Study:
    """Pretrained against scratch, with few fine-tune labels and with all."""
    arms: dict[str, Source] = {}
    places: dict[str, float] = {}
    base = mask_rare(bench.plain_concepts, bench.columns[SIDE])
    shares = [share for share in recipes.LABEL_SHARES if _count_labels(bench, keep_share(base, share)) > 1]
    for share in shares:
        column = f"concept_{share:g}"
        bench.add_column(column, keep_share(base, share))
        for name, start in (("scratch", None), ("pretrained", _pretrained(bench))):
            arms[f"{name} {share:.0%}"] = _finetuned(bench, tasks=(_concepts(bench, column),), init=start)
            places[f"{name} {share:.0%}"] = share
    return Study(
        "pretraining",
        "weak pretraining helps",
        arms,
        _retrieval,
        [
            Comparison(measure, f"scratch {share:.0%}", f"pretrained {share:.0%}")
            for measure in ("concepts P@1", "style P@1")
            for share in shares
        ],
        axis=("share of the fine-tune labels", places),
        shown=("concepts P@1", "style P@1"),
    )


def plan_data_size(bench: Bench) -> Study:
    """A quarter, a half and all of the pictures, for pretraining and fine-tuning alike."""
    bench.add_column(CONCEPT, mask_rare(bench.plain_concepts, bench.columns[SIDE]))
    arms: dict[str, Source] = {
        f"{share:.0%} of the pictures": _finetuned(
            bench, share=share, init=Trained((_weak_labels(),), bench.recipe.pretrain_steps, share=share)
        )
        for share in recipes.DATA_SHARES
    }
    names = list(arms)
    return Study(
        "data-size",
        "more data helps",
        arms,
        _retrieval,
        [Comparison("concepts P@1", less, more) for less, more in pairwise(names)],
        axis=("share of the training pictures", dict(zip(names, recipes.DATA_SHARES, strict=True))),
        shown=("concepts P@1", "style P@1"),
    )


def plan_binary(bench: Bench) -> Study:
    """Codes of several lengths: one network a length, as the code is the sign of its embedding."""
    bench.add_column(CONCEPT, mask_rare(bench.plain_concepts, bench.columns[SIDE]))
    arms: dict[str, Source] = {
        f"{bits:,} bits": _finetuned(bench, dimension=bits, init=_pretrained(bench)) for bits in recipes.BITS
    }

    def measure(bench: Bench, arm: str, model: Representation) -> tuple[Samples, Facts]:
        samples, facts = _retrieval(bench, arm, model)
        for name in ("concepts P@1", "style P@1"):
            if name in samples:
                exact, code = samples[name], samples[f"{name} binary"]
                samples[f"{name} lost"] = type(exact)(exact.totals - code.totals, exact.sizes)
        return samples, facts

    return Study(
        "binary",
        "binary codes keep quality",
        arms,
        measure,
        axis=("bits", {f"{bits:,} bits": bits for bits in recipes.BITS}),
        shown=("concepts P@1", "concepts P@1 binary", "concepts P@1 lost"),
    )


def plan_multi_task(bench: Bench) -> Study:
    """One network for all tasks against one a task, and against one whose missing labels are a class of their own.

    The network of all tasks takes as many steps as the single ones together: each task sees as many of its own pictures
    either way, and the two ways cost the same.
    """
    bench.add_column(CONCEPT, mask_rare(bench.plain_concepts, bench.columns[SIDE]))
    singles = {
        "concept": _concepts(bench),
        "category": TaskConfig("category", "classes"),
        "annotations": _weak_labels(),
    }
    if any(bench.columns["tone"]):
        singles["tone"] = TaskConfig("tone", "classes")
    unmasked = []
    for task in singles.values():
        if task.kind == "multilabel":
            unmasked.append(task)
            continue
        column = f"{task.name}_unmasked"
        bench.add_column(column, fill_missing(bench.columns[task.column or task.name]))
        unmasked.append(TaskConfig(task.name, task.kind, column=column, per_class=task.per_class))
    # Colours must stay in all arms alike, since they are what a tone is.
    keep = {"colour": "tone" not in singles, "init": _pretrained(bench)}
    together = len(singles) * bench.recipe.finetune_steps
    arms: dict[str, Source] = {
        f"only {name}": _finetuned(bench, tasks=(task,), **keep) for name, task in singles.items()
    }
    arms["all tasks"] = _finetuned(bench, tasks=tuple(singles.values()), steps=together, **keep)
    arms["all tasks, no masks"] = _finetuned(bench, tasks=tuple(unmasked), steps=together, **keep)
    measures = {
        "concept": "concepts P@1",
        "category": "category accuracy",
        "annotations": "annotations P@1",
        "tone": "tone accuracy",
    }
    return Study(
        "multi-task",
        "one multi-task model is enough",
        arms,
        _measure_tasks,
        [
            Comparison(measures[name], rival, "all tasks")
            for name in singles
            for rival in (f"only {name}", "all tasks, no masks")
        ],
        shown=[measures[name] for name in singles],
    )


def plan_sampled_softmax(bench: Bench) -> Study:
    """Pretraining with all labels in the softmax, and with samples of them, with and without the log-Q correction.

    All arms have the same kind of head, with the same optimiser; that of the first one samples all labels.
    """
    rates = {"all labels": ALL_LABELS} | {f"{rate:.0%}": rate for rate in recipes.SAMPLE_RATES}
    arms: dict[str, Source] = {
        name: Trained((_weak_labels(sample_rate=rate),), bench.recipe.pretrain_steps) for name, rate in rates.items()
    }
    for rate in recipes.SAMPLE_RATES:
        task = _weak_labels(sample_rate=rate, corrected=False)
        arms[f"{rate:.0%}, no log-Q"] = Trained((task,), bench.recipe.pretrain_steps)
    return Study(
        "sampled-softmax",
        "a sample of the labels is enough, if it is corrected",
        arms,
        _labels,
        [
            Comparison(measure, "all labels", arm)
            for measure in ("concepts P@1", "tail recall@1")
            for arm in list(arms)[1:]
        ],
        shown=("concepts P@1", "tail recall@1", "head recall@1"),
    )


def plan_skin_tone(bench: Bench) -> Study:
    """Drawn skin tones, each style left out in turn, beside the angle of the skin's colour."""
    tones, styles = bench.columns["tone"], bench.columns["style"]
    drawn = sorted({style for style, tone in zip(styles, tones, strict=True) if tone})
    arms: dict[str, Source] = {}
    bench.examined = bench.is_toned
    for style in drawn:
        split = f"without_{style}"
        sides = [(TEST if own == style else TRAIN) if tone else "" for own, tone in zip(styles, tones, strict=True)]
        bench.add_column(split, sides)
        task = TaskConfig("tone", "classes", column="tone", balance=0.999)
        arms[f"head, {style} left out"] = _finetuned(bench, tasks=(task,), split=split, colour=False)
        arms[f"ITA, {style} left out"] = TypologyAngle(split)
    return Study(
        "skin-tone",
        "skin tones are told apart, alike for all tones (drawn skin only)",
        arms,
        _measure_tones,
        [Comparison("tone accuracy", f"ITA, {style} left out", f"head, {style} left out") for style in drawn],
        shown=("tone accuracy",),
    )


PLANS: dict[str, Callable[[Bench], Study]] = {
    "cnn": plan_cnn,
    "clusters": plan_clusters,
    "pretraining": plan_pretraining,
    "data-size": plan_data_size,
    "binary": plan_binary,
    "multi-task": plan_multi_task,
    "sampled-softmax": plan_sampled_softmax,
    "skin-tone": plan_skin_tone,
}


def _measure_tasks(bench: Bench, _arm: str, model: Representation) -> tuple[Samples, Facts]:
    """Each task that the arm has learnt, on pictures of test concepts; tones on the held-out style."""
    samples: Samples = {}
    rows = np.flatnonzero(bench.subjects.is_test)
    if "concept" in model.classes:
        samples |= measure_retrieval(bench.subjects, model)
    if "category" in model.classes:
        samples |= measure_classes(model, "category", bench.columns["category"], rows, bench.families)
    if "annotations" in model.classes:
        samples |= measure_annotations(model, "annotations", bench.subjects, bench.families)
    if "tone" in model.classes:
        unseen = np.flatnonzero([style == bench.held_out for style in bench.columns["style"]])
        samples |= measure_classes(model, "tone", bench.columns["tone"], unseen, bench.families)
    return samples, {}


def _measure_tones(bench: Bench, arm: str, model: Representation) -> tuple[Samples, Facts]:
    """Accuracy on the style left out, its confusion matrix (truth down), and the gap between best and worst tone."""
    style = arm.partition(", ")[2].removesuffix(" left out")
    rows = np.flatnonzero([own == style for own in bench.columns["style"]])
    samples = measure_classes(model, "tone", bench.columns["tone"], rows, bench.families)
    names = list(model.classes["tone"])
    asked = [row for row in rows.tolist() if bench.columns["tone"][row] in names]
    truth = np.array([names.index(bench.columns["tone"][row]) for row in asked])
    confusion = count_confusions(truth, model.scores["tone"][asked].argmax(axis=1).astype(np.int64), len(names))
    rates = np.diagonal(confusion) / np.maximum(confusion.sum(axis=1), 1)
    gap = round(float(rates.max() - rates.min()), 4)
    return samples, {"classes": names, "confusion": confusion.tolist(), "gap": gap}


def _count_labels(bench: Bench, concepts: Sequence[str | None]) -> int:
    sides = bench.columns[SIDE]
    return len({concept for concept, side in zip(concepts, sides, strict=True) if concept and side == TRAIN})
