"""Train and examine the scorer: some fields are the labels, the others the evidence.

A candidate is a term that the evidence has. It counts as relevant if the picture's label fields say it too, in any form
and also within a longer term. It is judged only if they say some term of its language; else they are silent, not
against it. A segment of the evidence that repeats a label text from end to end is taken out first: it is the label,
copied, and a scorer that has seen copies learns to find them instead of judging words.

Pictures are split by group (concept), by the same hash as everywhere: a fifth examines, a tenth calibrates, the rest
trains. Pictures of one group with the same texts count once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.annotations import measures
from pipelines.annotations.dictionary import Dictionary
from pipelines.annotations.features import FeatureMaker, collect_evidence, group_texts, list_kinds
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.measures import Estimate
from pipelines.annotations.scorer import Scorer, ScorerOptions, fit_calibration, fit_trees
from pipelines.annotations.tables import PictureRow, TextRow
from pipelines.annotations.words import find_key, segment

LABEL_FIELDS = ("title*",)
BASELINES = ("idf", "tf_idf", "sources")
_TEST_SHARE, _CALIBRATION_SHARE = 0.2, 0.1

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Judged:
    """Candidates with labels.

    Attributes:
        table: (M, F) float32 features.
        labels: (M,) float64, 1 relevant, 0 not said to be.
        places: (M,) float64 in [0, 1), the hash of their groups, which splits them.
        groups: (M,) int64.
        languages: (M,) of the terms.
    """

    table: npt.NDArray[np.float32]
    labels: FloatArray
    places: FloatArray
    groups: npt.NDArray[np.int64]
    languages: npt.NDArray[np.str_]

    def select(self, mask: npt.NDArray[np.bool_]) -> Judged:
        """The candidates under the mask."""
        return Judged(*(getattr(self, field.name)[mask] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Report:
    """Measures on the groups that were kept to examine.

    Attributes:
        measures: by name of the score, then by name of the measure.
        reliability: see `measures.list_reliability`.
        by_language: AUC by language, then by name of the score.
        counts: of the tables and of what was examined.
    """

    measures: dict[str, dict[str, Estimate]]
    reliability: list[tuple[int, float, float]]
    by_language: dict[str, dict[str, Estimate]]
    counts: dict[str, int]


def is_label_field(field: str, patterns: Sequence[str]) -> bool:
    """Whether a field is among the labels; a pattern may end in `*`, e.g. `title*` for `title:de` as well."""
    return any(fnmatchcase(field, pattern) for pattern in patterns)


def judge(
    rows: Iterable[TextRow],
    pictures: Mapping[str, PictureRow],
    dictionary: Dictionary,
    detector: LanguageDetector,
    label_fields: Sequence[str],
    counts: Counter[str],
) -> tuple[Judged, tuple[str, ...], tuple[str, ...]]:
    """Judged candidates, names of their features, and kinds of fields among these.

    `counts` grows by `without labels` and `without evidence` (pictures), `repeated` (pictures with the same texts as
    another of their group), `relevant` and `not said to be relevant` (candidates), `not judged` (candidates in a
    language that the labels are silent in).
    """
    grouped = group_texts(rows)
    fields = {row.field for texts in grouped.values() for row in texts}
    kinds = tuple(list_kinds(field for field in fields if not is_label_field(field, label_fields)))
    maker = FeatureMaker(dictionary, kinds)
    judge_picture = _PictureJudge(dictionary, detector, maker, label_fields, counts)
    seen: set[bytes] = set()
    tables, labels, groups, languages = [], [], [], []
    for picture, texts in grouped.items():
        group = pictures[picture].group if picture in pictures else ""
        if _is_repeated(group or picture, texts, seen):
            counts["repeated"] += 1
            continue
        judged = judge_picture(texts)
        if judged is not None:
            tables.append(judged[0])
            labels.extend(judged[1])
            languages.extend(judged[2])
            groups.extend([group or picture] * len(judged[1]))
    counts["relevant"] += sum(labels)
    counts["not said to be relevant"] += len(labels) - sum(labels)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    places = {group: place_group(group) for group in numbers}
    return (
        Judged(
            np.concatenate([*tables, np.zeros((0, len(maker.names)), np.float32)]),
            np.array(labels, np.float64),
            np.array([places[group] for group in groups], np.float64),
            np.array([numbers[group] for group in groups], np.int64),
            np.array(languages, np.str_),
        ),
        maker.names,
        kinds,
    )


class _PictureJudge:
    """Candidates of one picture with their labels."""

    def __init__(
        self,
        dictionary: Dictionary,
        detector: LanguageDetector,
        maker: FeatureMaker,
        label_fields: Sequence[str],
        counts: Counter[str],
    ) -> None:
        self._terms = dictionary.terms
        self._matcher = dictionary.make_matcher()
        self._detector = detector
        self._maker = maker
        self._label_fields = label_fields
        self._counts = counts

    def __call__(self, texts: list[TextRow]) -> tuple[npt.NDArray[np.float32], list[int], list[str]] | None:
        label_rows = [row for row in texts if is_label_field(row.field, self._label_fields)]
        rows = [row for row in texts if not is_label_field(row.field, self._label_fields)]
        relevant = collect_evidence(label_rows, self._matcher, self._detector)
        if not relevant:
            self._counts["without labels"] += 1
            return None
        evidence = collect_evidence(rows, self._matcher, self._detector, self._list_labels(label_rows))
        if not evidence:
            self._counts["without evidence"] += 1
            return None
        spoken = {self._terms[term].language for term in relevant}
        kept = [self._terms[term].language in spoken for term in evidence]
        self._counts["not judged"] += len(kept) - sum(kept)
        labels = [int(term in relevant) for term, keep in zip(evidence, kept, strict=True) if keep]
        languages = [self._terms[term].language for term, keep in zip(evidence, kept, strict=True) if keep]
        return self._maker.make(evidence)[np.array(kept)], labels, languages

    def _list_labels(self, rows: list[TextRow]) -> frozenset[tuple[str, ...]]:
        """Each label text from end to end, as words and as keys of these."""
        hidden: set[tuple[str, ...]] = set()
        for row in rows:
            words = tuple(word for part in segment(row.text) for word in part)
            hidden |= {words, find_key(words, self._detector.resolve(row.text, row.language, row.field))}
        return frozenset(hidden)


def train(judged: Judged, features: Sequence[str], kinds: Sequence[str], options: ScorerOptions) -> Scorer:
    """A scorer fitted on the groups that train and calibrated on those that calibrate; bare of label fields."""
    part = judged.select(judged.places >= _TEST_SHARE + _CALIBRATION_SHARE)
    held = judged.select((judged.places >= _TEST_SHARE) & (judged.places < _TEST_SHARE + _CALIBRATION_SHARE))
    trees = fit_trees(part.table, part.labels, options)
    raw = trees.predict(held.table, raw_score=True) if len(held.labels) else np.zeros(0)
    knots, values = fit_calibration(raw, held.labels)
    return Scorer(trees.model_to_string(), tuple(features), tuple(kinds), knots, values, (), "")


def examine(scorer: Scorer, judged: Judged, counts: Mapping[str, int]) -> Report:
    """Measures of the scorer and of single features on the groups that neither trained nor calibrated it."""
    part = judged.select(judged.places < _TEST_SHARE)
    scores = {"scorer": scorer.score(part.table).astype(np.float64)}
    for name in BASELINES:
        scores[name] = np.nan_to_num(part.table[:, scorer.features.index(name)].astype(np.float64))
    results = {
        name: {
            "AUC": measures.estimate(measures.measure_auc, part.labels, values, part.groups),
            "average precision": measures.estimate(
                measures.measure_average_precision, part.labels, values, part.groups
            ),
        }
        for name, values in scores.items()
    }
    ours = scores["scorer"]
    results["scorer"]["calibration error"] = measures.estimate(
        measures.measure_calibration_error, part.labels, ours, part.groups
    )
    by_language: dict[str, dict[str, Estimate]] = {}
    for language in sorted(set(part.languages.tolist())):
        spoken = part.languages == language
        if 0 < part.labels[spoken].sum() < spoken.sum():
            by_language[language] = {
                name: measures.estimate(measures.measure_auc, part.labels[spoken], values[spoken], part.groups[spoken])
                for name, values in scores.items()
            }
    examined = {
        "examined": len(part.labels),
        "examined relevant": int(part.labels.sum()),
        "examined groups": len(set(part.groups.tolist())),
    }
    return Report(results, measures.list_reliability(part.labels, ours), by_language, {**counts, **examined})


def to_plain(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    return dataclasses.asdict(report)


def describe(scorer: Scorer, report: Report, label_fields: Sequence[str], dictionary_sha256: str) -> Scorer:
    """The scorer with what it was trained on."""
    return dataclasses.replace(
        scorer, label_fields=tuple(label_fields), dictionary_sha256=dictionary_sha256, trained_on=to_plain(report)
    )


def format_report(report: Report, scorer: Scorer) -> str:
    """The report for people: measures with 95 % intervals, reliability, importances."""
    lines = [f"{'':10} {'AUC':24} {'average precision':24} calibration error"]
    for name, values in report.measures.items():
        lines.append(f"{name:10} " + " ".join(f"{value!s:24}" for value in values.values()).rstrip())
    lines += ["", "reliability on the examined candidates", f"{'candidates':>10} {'score':>7} {'relevant':>9}"]
    lines += [f"{count:10,} {score:7.3f} {rate:9.3f}" for count, score, rate in report.reliability]
    lines += ["", f"{'AUC':10} " + " ".join(f"{name:24}" for name in report.measures).rstrip()]
    for language, values in report.by_language.items():
        lines.append(f"{language:10} " + " ".join(f"{value!s:24}" for value in values.values()).rstrip())
    lines += ["", "share of the gain", *(f"  {name:18} {gain:.3f}" for name, gain in scorer.list_importances())]
    return "\n".join(lines)


def place_group(group: str) -> float:
    """Place of a group in [0, 1): below 0.2 it examines, below 0.3 it calibrates. The same as the corpus' split."""
    return int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32


def _is_repeated(group: str, texts: list[TextRow], seen: set[bytes]) -> bool:
    """Whether a picture of this group had the same texts; remembers these."""
    listed = "\0".join(sorted(f"{row.field}\0{row.language}\0{row.text}" for row in texts))
    digest = hashlib.blake2b(f"{group}\0{listed}".encode(), digest_size=16).digest()
    if digest in seen:
        return True
    seen.add(digest)
    return False
