"""One list of annotations a picture, out of the scores of all its copies.

A copy is a record of the same picture (one signature): saved again, under other words. Copies are not independent
witnesses, since most are made of each other, so the default takes the best score and not the sum of evidence.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

from bowerbird.errors import ArgumentInvalid

Combination = Literal["max", "mean", "noisy-or"]


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """A term of a picture.

    Attributes:
        term: its number in the dictionary.
        score: in [0, 1].
        sources: fields that it was found in, sorted.
    """

    term: int
    score: float
    sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class AggregateOptions:
    """How copies are put together and what is kept.

    Attributes:
        combination: of the scores of one term: `max`; `mean` over all copies, 0 for those without the term;
            `noisy-or`, 1 - prod(1 - score), as if copies were independent.
        min_score: annotations below it are left out.
        max_terms: the best so many of a picture are kept.
    """

    combination: Combination = "max"
    min_score: float = 0.1
    max_terms: int = 20

    def __post_init__(self) -> None:
        if self.combination not in get_args(Combination) or not 0 <= self.min_score <= 1 or self.max_terms < 1:
            raise ArgumentInvalid(
                f"expected a combination of {', '.join(get_args(Combination))}, min_score in [0, 1] and max_terms of "
                f"at least 1, got {self}"
            )


def aggregate(copies: Sequence[Sequence[Annotation]], options: AggregateOptions) -> list[Annotation]:
    """Annotations of a picture, best first, of equal ones the lower number first.

    Args:
        copies: annotations of each of its records, each term at most once a record; none for a record without terms.
        options: how they are put together and what is kept.
    """
    scores: dict[int, list[float]] = {}
    sources: dict[int, set[str]] = {}
    for copy in copies:
        for annotation in copy:
            scores.setdefault(annotation.term, []).append(annotation.score)
            sources.setdefault(annotation.term, set()).update(annotation.sources)
    merged = [
        Annotation(term, _combine(found, len(copies), options.combination), tuple(sorted(sources[term])))
        for term, found in scores.items()
    ]
    kept = sorted((one for one in merged if one.score >= options.min_score), key=lambda one: (-one.score, one.term))
    return kept[: options.max_terms]


def _combine(scores: list[float], copies: int, combination: Combination) -> float:
    """One score out of those of the copies that have the term."""
    if combination == "mean":
        return math.fsum(scores) / copies
    return max(scores) if combination == "max" else 1 - math.prod(1 - score for score in scores)
