"""`python -m bowerbird.corpora`: fetch packages, build pictures of them, and say what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bowerbird.corpora.building import BuildReport
from bowerbird.corpora.demo import build_demo, build_tones
from bowerbird.corpora.fetching import default_cache_dir
from bowerbird.errors import BowerbirdError

_PRINT_EVERY_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all went well or only what this machine cannot fetch is missing; 1 nothing built, or refused."""
    parser = argparse.ArgumentParser(prog="python -m bowerbird.corpora", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache_dir(), help="packages; default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="directory for the pictures and pictures.jsonl")
    parser.add_argument("--only", help="names of sources, separated by commas; default: all of the manifest")
    parser.add_argument(
        "--tones", action="store_true", help="build the emoji in five skin tones, for training, and nothing else"
    )
    parser.add_argument("--workers", type=int, help="processes; default: one a CPU")
    options = parser.parse_args(arguments)
    names = [name.strip() for name in options.only.split(",")] if options.only else None
    started = time.monotonic()
    build = build_tones if options.tones else build_demo
    try:
        report = build(options.cache, options.out, names=names, progress=_Printer(), workers=options.workers)
    except BowerbirdError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    except OSError as error:  # such as a full disk
        sys.stderr.write(f"error: {error}; what is done already is kept, run again to go on\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what is done already is kept, run again to go on\n")
        return 130
    sys.stdout.write(format_report(report, time.monotonic() - started))
    refused = any(result.state == "refused" for result in report.fetched.results)
    return 1 if refused or report.pictures == 0 else 0


class _Printer:
    """Prints progress, one line whenever the label changes or `_PRINT_EVERY_S` have passed."""

    def __init__(self) -> None:
        self._label, self._next = "", 0.0

    def __call__(self, done: int, total: int, label: str) -> None:
        now = time.monotonic()
        if label != self._label or now >= self._next or done == total:
            self._label, self._next = label, now + _PRINT_EVERY_S
            sys.stdout.write(f"{done:>6}/{total} {label}\n")
            sys.stdout.flush()


def format_report(report: BuildReport, seconds: float) -> str:
    """A table for people: one row a source, then what is missing and why."""
    lines = [f"{'source':<14} {'pictures':>8} {'made':>6} {'seconds':>8}  {'package':<11} licence"]
    for row in report.sources:
        fetched = row.fetched
        if row.pictures or fetched.directory is None:
            lines.append(
                f"{fetched.source.name:<14} {row.pictures:>8} {row.made:>6} {row.seconds:>8.1f}  "
                f"{fetched.state:<11} {fetched.source.licence}"
            )
    lines.append(f"{'all':<14} {report.pictures:>8} {'':>6} {seconds:>8.1f}  -> {report.records_file}")
    return "\n".join([*lines, *_notes(report), ""])


def _notes(report: BuildReport) -> list[str]:
    """What was left out or could not be had, each reason once."""
    notes: dict[str, list[str]] = {}
    for row in report.sources:
        fetched = row.fetched
        if fetched.reason:
            notes.setdefault(f"{fetched.state}: {fetched.reason}", []).append(fetched.source.name)
        for reason, count in sorted(row.left_out.items()):
            notes.setdefault(f"left out {count}: {reason}", []).append(fetched.source.name)
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]


if __name__ == "__main__":
    sys.exit(main())
