"""Curves of a run as PNG: losses over steps, and what validation measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SIZE_INCHES = (7.0, 4.2)
DOTS_PER_INCH = 120
SMOOTHING = 0.9  # of the thick line; the measurements stand behind it, faint

Curves = dict[str, tuple[list[int], list[float]]]


def collect(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> Curves:
    """Name -> (steps, values) of the mapping that stands under `key` in measurements of this kind."""
    curves: Curves = {}
    for row in rows:
        if row["kind"] == kind:
            for name, value in row[key].items():
                steps, values = curves.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def draw(path: Path, curves: Curves, *, ylabel: str, smooth: bool = False, bounded: bool = False) -> None:
    """Write a plot of all curves over the step; nothing without any.

    Args:
        smooth: draw a running mean over the measurements.
        bounded: the values are shares; the axis goes from 0 to 1.
    """
    if not curves:
        return
    from matplotlib.figure import Figure  # an extra; the figure alone needs no display

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for number, (name, (steps, values)) in enumerate(sorted(curves.items())):
        colour = f"C{number % 10}"
        if smooth:
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
            axes.plot(steps, _running_mean(values), color=colour, label=name)
        else:
            axes.plot(steps, values, color=colour, marker="o", markersize=3, label=name)
    axes.set(xlabel="step", ylabel=ylabel)
    if bounded:
        axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    fresh = path.with_name(f".{path.name}")
    figure.savefig(fresh, format="png")
    fresh.replace(path)


def _running_mean(values: Sequence[float]) -> list[float]:
    """Exponential, without the bias towards the first value."""
    result, total, weight = [], 0.0, 0.0
    for value in values:
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        result.append(total / weight)
    return result
