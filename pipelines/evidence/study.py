"""What a table is: arms, what is measured on each, and the differences that decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .examine import Representation, Samples

if TYPE_CHECKING:
    from .bench import Bench

Facts = dict[str, Any]


class Source(Protocol):
    """Something that gives a representation of all pictures; equal sources with equal seeds give the same.

    Attributes:
        is_seeded: whether another seed gives another one.
    """

    is_seeded: ClassVar[bool]

    def represent(self, bench: Bench, seed: int) -> Representation:
        """Trained first, where there is something to train."""


@dataclass(frozen=True)
class Comparison:
    """A difference that the claim is about.

    Attributes:
        measure: of both arms.
        baseline, arm: the claim is that `arm` is better, or not worse.
    """

    measure: str
    baseline: str
    arm: str


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: of the table.
        claim: what the paper says.
        arms: by name, in the order of the table.
        measure: samples and facts of an arm, from its name and representation.
        comparisons: what decides.
        axis: label and values of the arms on a plot's x axis, where they have an order.
        shown: measures of the printed table and the plot; empty: all.
    """

    name: str
    claim: str
    arms: Mapping[str, Source]
    measure: Callable[[Bench, str, Representation], tuple[Samples, Facts]]
    comparisons: Sequence[Comparison] = ()
    axis: tuple[str, Mapping[str, float]] | None = None
    shown: Sequence[str] = ()
