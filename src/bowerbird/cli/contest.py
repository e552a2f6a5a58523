"""How well named models find a concept in another style, on concepts or on a style that nobody trained on.

Both splits and their words:
 - unseen-concepts: all ordered pairs of the training styles; queries and gallery are pictures of test concepts only.
 - unseen-style: the held-out style against each training style, in both directions. The headline (`strict`) takes test
   concepts only, so neither style nor concept was trained on; beside it stand all concepts.

Every query has one right answer, the same concept in the other style, so P@1 is also R@1. `float` ranks by the inner
product of the embeddings, `binary` by the Hamming distance of the codes alone; equal scores stand in random order.
Intervals are 95 % bootstrap intervals over families of concepts, the unit of the split; models are compared with the
first one on the same resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from bowerbird import corpora
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.show import table
from bowerbird.cli.vectors import Vectors
from bowerbird.corpora import PictureRecord, concept_family, split_of
from bowerbird.evaluation import (
    Comparison,
    Pictures,
    Sample,
    Standings,
    compare_samples,
    estimate_sample,
    rank_pairs,
)

UNSEEN_CONCEPTS, UNSEEN_STYLE = "unseen-concepts", "unseen-style"
SPLITS = (UNSEEN_CONCEPTS, UNSEEN_STYLE)
DEPTHS = {"p_at_1": 1, "r_at_10": 10}


@dataclass(frozen=True)
class Question:
    """Which pairs of styles are compared, and on which concepts.

    Attributes:
        name: key of the report.
        pairs: (query style, gallery style).
        is_wanted: whether a concept takes part.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    is_wanted: Callable[[str], bool]


def plan_questions(split: str, styles: Sequence[str], held_out: str) -> list[Question]:
    """The questions of a split; the first is its headline.

    Args:
        styles: all styles; what is not held out counts as trained on.
    """
    trained = [style for style in styles if style != held_out]
    if split == UNSEEN_CONCEPTS:
        return [Question("unseen_concepts", tuple(permutations(trained, 2)), is_unseen)]
    pairs = tuple(pair for style in trained for pair in ((held_out, style), (style, held_out)))
    return [
        Question("unseen_style_strict", pairs, is_unseen),
        Question("unseen_style_all_concepts", pairs, bool),
    ]


def is_unseen(concept: str) -> bool:
    """Whether no model may have been trained on the concept."""
    return split_of(concept) == "test"


def choose_records(folder: Path, questions: Sequence[Question]) -> list[PictureRecord]:
    """The pictures of a corpus that take part in at least one of the questions.

    Raises:
        ArgumentInvalid: the folder has no records.
        CommandFailed: no picture takes part.
    """
    wanted = {}
    for record in corpora.load(folder):
        for question in questions:
            if any(record.style in pair for pair in question.pairs) and question.is_wanted(record.concept):
                wanted[record.path] = record
    if not wanted:
        raise CommandFailed(
            f"{folder} has no pictures of the styles and concepts asked for; build the demo corpus: "
            f"python -m bowerbird.corpora --out DIR"
        )
    return list(wanted.values())


def measure(
    questions: Sequence[Question], records: Sequence[PictureRecord], found: Sequence[Vectors]
) -> dict[str, Any]:
    """The report as plain values: each model by itself, then each against the first.

    Raises:
        CommandFailed: a question has no concept that two styles share.
    """
    styles, concepts = [record.style for record in records], [record.concept for record in records]
    samples: list[dict[tuple[str, str, str], Sample]] = []
    models = []
    for vectors in found:
        pictures = Pictures(styles, concepts, vectors.embeddings, vectors.codes)
        mine: dict[tuple[str, str, str], Sample] = {}
        answers = {question.name: _answer(question, pictures, mine) for question in questions}
        samples.append(mine)
        models.append(_describe(vectors) | answers)
    comparisons = [
        {
            "question": question,
            "model": models[number]["model"],
            "baseline": models[0]["model"],
            "kind": kind,
            "measure": measure,
            **describe_comparison(compare_samples(sample, samples[number][question, kind, measure])),
        }
        for number in range(1, len(models))
        for (question, kind, measure), sample in samples[0].items()
    ]
    return {"definition": (__doc__ or "").partition("\n\n")[2].strip(), "models": models, "comparisons": comparisons}


def describe_comparison(comparison: Comparison) -> dict[str, Any]:
    """Difference and relative gain with their intervals; null where the baseline never hits."""
    difference, gain = comparison.difference, comparison.gain
    known = not math.isnan(gain.value)
    return {
        "difference": round(difference.value, 4),
        "difference_interval": difference.interval,
        "relative_gain": round(gain.value, 4) if known else None,
        "relative_gain_interval": gain.interval if known else None,
    }


def _describe(vectors: Vectors) -> dict[str, Any]:
    return {
        "model": vectors.model.name,
        "version": vectors.model.version,
        "dimension": vectors.embeddings.shape[1],
        "code_bits": 8 * vectors.codes.shape[1],
        "pictures": len(vectors.embeddings),
        "computed_now": vectors.computed,
    }


def _answer(question: Question, pictures: Pictures, samples: dict[tuple[str, str, str], Sample]) -> dict[str, Any]:
    """The measures of one question; its samples go into `samples`, by (question, kind, measure)."""
    standings = rank_pairs(pictures, question.pairs, keep=question.is_wanted)
    if not standings.concepts:
        raise CommandFailed(f"{question.name}: no two of the styles share a concept that takes part")
    report: dict[str, Any] = {
        "pairs": len(standings.pairs),
        "queries": len(standings.concepts),
        "concepts": len(set(standings.concepts)),
        "families": len({concept_family(concept) for concept in standings.concepts}),
        "chance": round(standings.chance, 4),
    }
    for kind in ("float", "binary"):
        report[kind] = {}
        for measure, k in DEPTHS.items():
            values = standings.recall(k) if kind == "float" else standings.code_recall(k)
            sample = samples[question.name, kind, measure] = standings.sample(values, concept_family)
            estimate = estimate_sample(sample)
            report[kind] |= {measure: round(estimate.value, 4), f"{measure}_interval": estimate.interval}
    first = compare_samples(samples[question.name, "binary", "p_at_1"], samples[question.name, "float", "p_at_1"])
    report["binary_loss"] = {"p_at_1": round(first.difference.value, 4), "interval": first.difference.interval}
    return report | {"per_pair": _list_pairs(standings)}


def _list_pairs(standings: Standings) -> list[dict[str, Any]]:
    first, ten, code_first = standings.recall(1), standings.recall(10), standings.code_recall(1)
    rows = []
    for number, (query, gallery) in enumerate(standings.pairs):
        mine = standings.pair_of == number
        measured = {"p_at_1": first, "r_at_10": ten, "binary_p_at_1": code_first}
        means = {name: round(float(values[mine].mean()), 4) for name, values in measured.items()}
        rows.append({"query_style": query, "gallery_style": gallery, "concepts": int(mine.sum()), **means})
    return rows


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    lines: list[str] = []
    questions = [key for key, value in report["models"][0].items() if isinstance(value, dict)]
    for question in questions:
        one = report["models"][0][question]
        lines.append(
            f"{question.replace('_', ' ')}: {one['concepts']:,} concepts, {one['pairs']} ordered pairs of styles, "
            f"{one['queries']:,} queries, chance {one['chance']:.4f}"
        )
        rows = [
            (f"{model['model']} {kind}", *_cells(model[question][kind]))
            for model in report["models"]
            for kind in ("float", "binary")
        ]
        lines += [table(rows, header=("", "P@1", "95 %", "R@10", "95 %")), ""]
    rows = [_comparison_cells(each) for each in report["comparisons"] if each["measure"] == "p_at_1"]
    if rows:
        header = ("P@1 against the first model", "question", "difference", "95 %", "relative", "95 %")
        lines += [table(rows, header=header), ""]
    return "\n".join(lines).rstrip()


def _cells(measures: dict[str, Any]) -> tuple[object, ...]:
    return tuple(cell for name in DEPTHS for cell in (f"{measures[name]:.4f}", _interval(measures[f"{name}_interval"])))


def _comparison_cells(each: dict[str, Any]) -> tuple[object, ...]:
    gain = each["relative_gain"]
    return (
        f"{each['model']} {each['kind']}",
        each["question"].replace("_", " "),
        f"{each['difference']:+.4f}",
        _interval(each["difference_interval"], "+.3f"),
        "" if gain is None else f"{gain:+.1%}",
        "" if gain is None else _interval(each["relative_gain_interval"], "+.1%"),
    )


def _interval(bounds: Sequence[float], form: str = ".3f") -> str:
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}"
