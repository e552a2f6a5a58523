"""Make pictures searchable: every picture in the files and folders given, all folders below them too.

A picture's id is its path below the folder given. Running the same command again writes only what is new or changed
(by content), so it also goes on after an interruption. A renamed picture is a new item; --prune removes the old one.
A `pictures.jsonl` in a folder (one JSON object a line, `path` and any fields) names its pictures and their fields.

examples:
  bowerbird index ~/Pictures
  bowerbird index cats dogs --index pets
  bowerbird index ~/Pictures --prune              also delete items whose files are gone
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from bowerbird.cli.flow import Interrupt
from bowerbird.cli.indexing import IN_FLIGHT, Tally, index_roots
from bowerbird.cli.options import Options, add_index_option, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from bowerbird.cli.show import print_json
from bowerbird.cli.sources import Skipped, count_sources
from bowerbird.errors import BowerbirdError
from bowerbird.progress import Progress, format_duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `index`."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folders or files")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="put before every id, to keep folders apart")
    parser.add_argument("--prune", action="store_true", help="delete items of these folders whose files are gone")
    parser.add_argument("--skipped", type=Path, metavar="FILE", help="write every skipped file and its reason here")
    parser.add_argument(
        "--in-flight", type=int, default=IN_FLIGHT, metavar="N", help=f"windows at a time ({IN_FLIGHT})"
    )
    add_index_option(parser)
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0 when all is indexed that can be, 1 when no file was a picture, 130 after Ctrl-C."""
    roots = [path.expanduser().absolute() for path in arguments.paths]
    with ExitStack() as stack:
        connection = stack.enter_context(open_connection(arguments))
        log = stack.enter_context(arguments.skipped.open("w")) if arguments.skipped else None
        tally = Tally(on_skip=partial(log_skipped, log) if log else None)
        interrupt = stack.enter_context(Interrupt())
        progress = Progress(sum(map(count_sources, roots)), "pictures")
        try:
            pruned = index_roots(
                connection,
                roots,
                index=arguments.index,
                tally=tally,
                progress=progress,
                interrupt=interrupt,
                prefix=arguments.prefix,
                in_flight=arguments.in_flight,
                prune=arguments.prune,
            )
        except BowerbirdError:
            progress.finish()
            if tally.written:
                print(summarize(tally, progress.elapsed_s, arguments.index), file=sys.stderr)
                print("Run the same command again to go on from here.", file=sys.stderr)
            raise
        progress.finish()
    return _report(tally, progress, arguments, pruned=pruned, stopped=interrupt.stop.is_set())


def _report(tally: Tally, progress: Progress, arguments: Options, *, pruned: int, stopped: bool) -> int:
    if arguments.json:
        print_json(_describe(tally, progress.elapsed_s, pruned))
    else:
        print(summarize(tally, progress.elapsed_s, arguments.index))
        if pruned:
            print(f"{pruned:,} items deleted, whose files are gone")
    if stopped:
        print("Stopped. Run the same command again to go on from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK if tally.written or tally.unchanged or not tally.skipped else EXIT_FAILED


def summarize(tally: Tally, seconds: float, index: str) -> str:
    """What became of the pictures, for people."""
    rate = f", {tally.written / seconds:,.0f}/s" if tally.written and seconds else ""
    counts = f"{tally.written:,} written, {tally.unchanged:,} unchanged, {tally.skipped_total:,} skipped"
    lines = [f"{counts} in index {index!r} ({format_duration(seconds)}{rate})"]
    for reason, count in sorted(tally.skipped.items()):
        lines.append(f"skipped: {reason} ({count:,})")
        examples = tally.examples[reason]
        lines += [f"  {each.path}" + (f": {each.detail}" if each.detail else "") for each in examples]
        if count > len(examples):
            lines.append(f"  and {count - len(examples):,} more; --skipped FILE lists all")
    return "\n".join(lines)


def _describe(tally: Tally, seconds: float, pruned: int) -> dict[str, Any]:
    return {
        "written": tally.written,
        "unchanged": tally.unchanged,
        "skipped": tally.skipped,
        "pruned": pruned,
        "seconds": round(seconds, 3),
    }


def log_skipped(log: TextIO, skipped: Skipped) -> None:
    """Add a line to the list of skipped files."""
    log.write(f"{skipped.path}\t{skipped.reason}\t{skipped.detail}\n")
