"""What a call wants of the model, and labels with scores out of the raw numbers of its heads.

Legend: K labels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bowerbird.errors import ArgumentInvalid
from bowerbird.models.engine import FloatArray
from bowerbird.models.zoo import HeadSpec

VECTOR_OUTPUTS = ("embedding", "code_projection")
DEFAULT_TOP_LABELS = 10
MAX_TOP_LABELS = 1000
MAX_LABELS_A_BATCH = 100_000  # of all inputs and heads together: some 3 MB, where a message has at most 16
NO_ATTRIBUTES = ("category", "annotations")  # heads that `attributes` leaves out


class LabelScore(NamedTuple):
    """A label and how likely it holds, in [0, 1]."""

    label: str
    score: float


Labels = Mapping[str, tuple[LabelScore, ...]]  # by head, best first


@dataclass(frozen=True)
class EmbedOptions:
    """What to answer; the defaults are embedding and code alone.

    Attributes:
        return_fields: `embedding`, `code`, names of heads, `attributes`, or `*`; empty: embedding and code.
        top_labels: of each head, at most; 0: 10.
        min_score: labels below are left out; None: the default of each head.
    """

    return_fields: tuple[str, ...] = ()
    top_labels: int = 0
    min_score: float | None = None


@dataclass(frozen=True)
class Wanted:
    """The options of a call, checked against what the model has."""

    embedding: bool = True
    code: bool = True
    heads: tuple[HeadSpec, ...] = ()
    top_labels: int = DEFAULT_TOP_LABELS
    min_score: float | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs that the answer needs; vectors are always among them."""
        return (*VECTOR_OUTPUTS, *(head.output for head in self.heads))

    def check_count(self, inputs: int) -> None:
        """Nothing, if the labels of so many inputs fit one answer; to be asked before they are computed.

        Raises:
            ArgumentInvalid: they might not.
        """
        a_picture = sum(min(self.top_labels, len(head.labels)) for head in self.heads)
        if inputs * a_picture > MAX_LABELS_A_BATCH:
            raise ArgumentInvalid(
                f"top_labels: up to {a_picture:,} labels of each of {inputs} inputs are more than the "
                f"{MAX_LABELS_A_BATCH:,} of one answer; ask for fewer labels or heads, or send fewer inputs at once",
                field="options.top_labels",
            )

    def read_labels(self, outputs: Mapping[str, FloatArray], row: int) -> Labels:
        """The labels of one picture, by head.

        Args:
            outputs: of a run, first axis the batch.
            row: the picture's.
        """
        return {head.name: self._read_head(head, outputs[head.output][row]) for head in self.heads}

    def _read_head(self, head: HeadSpec, raw: FloatArray) -> tuple[LabelScore, ...]:
        scores = compute_scores(head, raw)
        best = find_best(scores, self.top_labels)
        min_score = head.min_score if self.min_score is None else self.min_score
        return tuple(LabelScore(head.labels[i], float(scores[i])) for i in best if scores[i] >= min_score)


def check_options(options: EmbedOptions, heads: Sequence[HeadSpec], model: str) -> Wanted:
    """What the call wants, in the order of the model.

    Args:
        heads: that the model has.
        model: its name, for the message.
    Raises:
        ArgumentInvalid: the model has no such head, or a number is out of range; the field is named.
    """
    top_labels, min_score = options.top_labels, options.min_score
    if not 0 <= top_labels <= MAX_TOP_LABELS:
        raise ArgumentInvalid(
            f"top_labels: expected 0 (the default, {DEFAULT_TOP_LABELS}) to {MAX_TOP_LABELS}, got {top_labels}",
            field="options.top_labels",
        )
    if min_score is not None and not 0 <= min_score <= 1:
        raise ArgumentInvalid(f"min_score: expected 0 to 1, got {min_score:g}", field="options.min_score")
    fields = set(options.return_fields) or {"embedding", "code"}
    if "*" in fields:
        fields |= {"embedding", "code", *(head.name for head in heads)}
    if "attributes" in fields and (attributes := {head.name for head in heads} - set(NO_ATTRIBUTES)):
        fields = (fields - {"attributes"}) | attributes
    if unknown := sorted(fields - {"*", "embedding", "code"} - {head.name for head in heads}):
        known = f"its heads are {', '.join(head.name for head in heads)}" if heads else "it has no heads"
        raise ArgumentInvalid(
            f"return_fields: model {model} gives no {', '.join(map(repr, unknown))}; {known}",
            field="options.return_fields",
        )
    return Wanted(
        embedding="embedding" in fields,
        code="code" in fields,
        heads=tuple(head for head in heads if head.name in fields),
        top_labels=top_labels or DEFAULT_TOP_LABELS,
        min_score=min_score,
    )


def compute_scores(head: HeadSpec, raw: FloatArray) -> FloatArray:
    """(K,) float32 in [0, 1] out of the head's output (K,); see `HeadSpec`."""
    logits = raw.astype(np.float64) / head.temperature
    if head.kind == "classes":
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum(), np.float32)
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (logits + head.bias))), np.float32)  # sigmoid that never overflows


def find_best(scores: FloatArray, count: int) -> list[int]:
    """Positions of the `count` largest scores, best first, equal ones in order; not all of them are sorted."""
    if count < len(scores):
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")[:count]
    return [int(position) for position in candidates[order]]
