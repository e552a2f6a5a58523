"""From results to a table for people, one for `docs/papers.md`, a JSON file and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from bowerbird.evaluation import Estimate, Sample, compare_samples, estimate_sample

from .results import Result
from .study import Study

DIGITS = 3


def summarise(study: Study, results: Sequence[Result]) -> dict[str, Any]:
    """The table as plain values: every arm and measure with its interval, then the comparisons that decide.

    Intervals are 95 % bootstrap intervals over clusters (families of concepts, or labels) and seeds.
    """
    samples = collect(results)
    arms = [arm for arm in study.arms if arm in samples]
    rows = [_describe_arm(arm, samples[arm], [one for one in results if one.arm == arm]) for arm in arms]
    compared = [
        {"measure": each.measure, "baseline": each.baseline, "arm": each.arm}
        | _describe_difference(samples[each.baseline][each.measure], samples[each.arm][each.measure])
        for each in study.comparisons
        if each.measure in samples.get(each.baseline, {}) and each.measure in samples.get(each.arm, {})
    ]
    return {
        "table": study.name,
        "claim": study.claim,
        "rows": rows,
        "comparisons": compared,
        "origin": _origins(results),
    }


def collect(results: Sequence[Result]) -> dict[str, dict[str, Sample]]:
    """The samples of each arm and measure, all seeds together."""
    parts: dict[str, dict[str, list[Sample]]] = {}
    for result in results:
        for name, sample in result.samples.items():
            parts.setdefault(result.arm, {}).setdefault(name, []).append(sample)
    return {arm: {name: Sample.stack(each) for name, each in own.items()} for arm, own in parts.items()}


def render_text(summary: Mapping[str, Any], shown: Sequence[str]) -> str:
    """The table for a terminal."""
    names = _shown(summary, shown)
    lines = [f"{summary['table']}: {summary['claim']}", ""]
    header = ["arm", "seeds", *names]
    body = [
        [row["arm"], str(row["seeds"]), *(_cell(row["measures"].get(name)) for name in names)]
        for row in summary["rows"]
    ]
    lines += _align([header, *body])
    if summary["comparisons"]:
        lines += [
            "",
            *_align([["difference in", "arm", "against", "", "95 %", "relative"], *map(_row, summary["comparisons"])]),
        ]
    return "\n".join([*lines, "", *(f"{each}" for each in summary["origin"])])


def render_markdown(summary: Mapping[str, Any], shown: Sequence[str]) -> str:
    """The table for `docs/papers.md`."""
    names = _shown(summary, shown)
    lines = [f"| arm | seeds | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for row in summary["rows"]:
        cells = (_cell(row["measures"].get(name)) for name in names)
        lines.append(f"| {row['arm']} | {row['seeds']} | {' | '.join(cells)} |")
    if summary["comparisons"]:
        lines += ["", "| difference in | arm | against | | 95 % | relative |", "| --- " * 6 + "|"]
        lines += [f"| {' | '.join(_row(each))} |" for each in summary["comparisons"]]
    return "\n".join(lines) + "\n"


def write(study: Study, results: Sequence[Result], folder: Path, images: Path) -> dict[str, Any]:
    """The summary, written as JSON and Markdown into `folder`, and as a plot into `images`."""
    summary = summarise(study, results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{study.name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / f"{study.name}.md").write_text(render_markdown(summary, study.shown))
    draw(study, summary, images / f"papers-{study.name}.png")
    return summary


def draw(study: Study, summary: Mapping[str, Any], file: Path) -> None:
    """A plot of the shown measures with their intervals: lines where the arms have an order, else dots in rows."""
    names = _shown(summary, study.shown)
    size = (1.6 + 3.2 * len(names), 2.2 + 0.3 * len(summary["rows"]))
    with rc_context({"axes.grid": True, "grid.color": "0.9", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(size, layout="constrained")
        axes = figure.subplots(1, len(names), sharey=study.axis is None, squeeze=False)
        for axis, name in zip(axes[0], names, strict=True):
            if study.axis is None:
                _draw_dots(axis, name, summary["rows"])
            else:
                _draw_lines(axis, *study.axis, name, [row for row in summary["rows"] if name in row["measures"]])
            axis.set_title(name, fontsize=10)
        figure.suptitle(f"{study.claim}\n95 % intervals over concepts and seeds", fontsize=10)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)


def _draw_dots(axis: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row of the plot for every arm, empty for one that lacks the measure; a tick for every seed."""
    for place, row in enumerate(rows):
        if measure := row["measures"].get(name):
            axis.plot(measure["interval"], [place, place], color="tab:blue", linewidth=2)
            axis.plot([measure["value"]], [place], "o", color="tab:blue")
            axis.plot(measure["by_seed"], [place] * len(measure["by_seed"]), "|", color="0.3", markersize=10)
    axis.set_yticks(range(len(rows)), [row["arm"] for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)


def _draw_lines(
    axis: Any, label: str, places: Mapping[str, float], name: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """A line for each group of arms whose names begin alike."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        first = row["arm"].split()[0]
        groups.setdefault("" if first[0].isdigit() else first, []).append(row)
    for group, members in groups.items():
        x = [places[row["arm"]] for row in members]
        values = [row["measures"][name]["value"] for row in members]
        low = [value - row["measures"][name]["interval"][0] for value, row in zip(values, members, strict=True)]
        high = [row["measures"][name]["interval"][1] - value for value, row in zip(values, members, strict=True)]
        axis.errorbar(x, values, [low, high], marker="o", capsize=3, label=group or None)
    axis.set_xscale("log")
    axis.set_xticks(sorted(set(places.values())), [f"{value:g}" for value in sorted(set(places.values()))])
    axis.minorticks_off()
    axis.set_xlabel(label)
    if len(groups) > 1:
        axis.legend(fontsize=8)


def _describe_arm(arm: str, samples: Mapping[str, Sample], results: Sequence[Result]) -> dict[str, Any]:
    measures = {}
    for name, sample in samples.items():
        estimate = estimate_sample(sample)
        by_seed = [round(mean, 4) for mean in sample.seed_means]
        measures[name] = {"value": round(estimate.value, 4), "interval": estimate.interval, "by_seed": by_seed}
    facts = [{"seed": one.seed, **one.facts} for one in results if one.facts]
    seconds = round(sum(one.origin.get("seconds", 0) for one in results))
    return {"arm": arm, "seeds": len(results), "measures": measures, "facts": facts, "seconds": seconds}


def _describe_difference(baseline: Sample, other: Sample) -> dict[str, Any]:
    compared = compare_samples(baseline, other)
    gain: Estimate = compared.gain
    known = not math.isnan(gain.value)
    return {
        "difference": round(compared.difference.value, 4),
        "interval": compared.difference.interval,
        "relative": round(gain.value, 4) if known else None,
        "relative_interval": gain.interval if known else None,
    }


def _origins(results: Sequence[Result]) -> list[str]:
    """Commits and machines that the results come from."""
    return sorted({f"commit {one.origin.get('commit')}, {one.origin.get('machine')}" for one in results})


def _shown(summary: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    present = dict.fromkeys(name for row in summary["rows"] for name in row["measures"])
    return [name for name in shown or present if name in present]


def _cell(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return ""
    low, high = measure["interval"]
    return f"{measure['value']:.{DIGITS}f} ({low:.{DIGITS}f} to {high:.{DIGITS}f})"


def _row(each: Mapping[str, Any]) -> list[str]:
    low, high = each["interval"]
    relative = ""
    if each["relative"] is not None:
        first, last = each["relative_interval"]
        relative = f"{each['relative']:+.0%} ({first:+.0%} to {last:+.0%})"
    interval = f"{low:+.{DIGITS}f} to {high:+.{DIGITS}f}"
    return [each["measure"], each["arm"], each["baseline"], f"{each['difference']:+.{DIGITS}f}", interval, relative]


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
