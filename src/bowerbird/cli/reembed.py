"""Embed the pictures of an index again, with the model that is served now, and put the result in its place.

The index stays as it is, and is searched, until all of its pictures are embedded; then the new one takes its name at
once. The pictures are read from where they were indexed, with the fields that the index has of them. Interrupted, run
the same command again: it goes on where it was. Items whose pictures are gone are named, and the index is left alone
unless --drop-missing says that it may lose them.

examples:
  bowerbird reembed                               the default index
  bowerbird reembed pets --pictures /new/place    they were moved: look for their paths below this folder
  bowerbird reembed pets --drop-missing
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bowerbird.cli.flow import Interrupt
from bowerbird.cli.index import log_skipped, summarize
from bowerbird.cli.indexing import IN_FLIGHT
from bowerbird.cli.options import DEFAULT_INDEX, Options, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from bowerbird.cli.reembedding import Outcome, Reembedding
from bowerbird.cli.show import print_json
from bowerbird.errors import BowerbirdError
from bowerbird.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `reembed`."""
    parser.add_argument("index", nargs="?", default=DEFAULT_INDEX, metavar="INDEX", help=f"its name ({DEFAULT_INDEX})")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where the pictures are now")
    parser.add_argument("--drop-missing", action="store_true", help="leave out items whose pictures cannot be embedded")
    parser.add_argument("--skipped", type=Path, metavar="FILE", help="write every such picture and the reason here")
    parser.add_argument(
        "--in-flight", type=int, default=IN_FLIGHT, metavar="N", help=f"windows at a time ({IN_FLIGHT})"
    )
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0 when the index holds vectors of the served model, 1 when pictures are missing, 130 after Ctrl-C."""
    with ExitStack() as stack:
        connection = stack.enter_context(open_connection(arguments))
        log = stack.enter_context(arguments.skipped.open("w")) if arguments.skipped else None
        work = Reembedding(
            connection,
            arguments.index,
            pictures=arguments.pictures.expanduser().absolute() if arguments.pictures else None,
            on_skip=partial(log_skipped, log) if log else None,
        )
        if not work.is_needed:
            return _report(arguments, Outcome(work.tally, is_replaced=False), f"holds vectors of {work.model} already")
        interrupt = stack.enter_context(Interrupt())
        progress = Progress(work.count, "pictures")
        try:
            outcome = work.run(progress, interrupt, in_flight=arguments.in_flight, drop_missing=arguments.drop_missing)
        except BowerbirdError:
            progress.finish()
            print("The index is as it was. Run the same command again to go on from here.", file=sys.stderr)
            raise
        progress.finish()
    if outcome.is_replaced:
        return _report(arguments, outcome, f"now holds vectors of {work.model}", progress)
    if interrupt.stop.is_set():
        print("Stopped; the index is as it was. Run the same command again to go on from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    _report(arguments, outcome, "is as it was", progress)
    print(
        f"{outcome.tally.skipped_total:,} items have no picture that can be embedded. Bring the pictures back (or name "
        "their folder with --pictures) and run the command again; or let the index lose them with --drop-missing.",
        file=sys.stderr,
    )
    return EXIT_FAILED


def _report(arguments: Options, outcome: Outcome, what: str, progress: Progress | None = None) -> int:
    tally = outcome.tally
    if arguments.json:
        described: dict[str, Any] = {
            "index": arguments.index,
            "replaced": outcome.is_replaced,
            "written": tally.written,
            "unchanged": tally.unchanged,
            "skipped": tally.skipped,
        }
        print_json(described)
        return EXIT_OK
    if progress is not None:
        print(summarize(tally, progress.elapsed_s, arguments.index))
    print(f"index {arguments.index!r} {what}")
    return EXIT_OK
