"""Load a snapshot into a new index, beside the one it was made of.

examples:
  bowerbird snapshot --list
  bowerbird restore ID --index restored
"""

from __future__ import annotations

import argparse

from bowerbird.cli.options import Options, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_OK
from bowerbird.cli.show import print_json
from bowerbird.cli.snapshot import percent_progress
from bowerbird.progress import Progress
from bowerbird.rpc.clients import RetrievalClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `restore`."""
    parser.add_argument("snapshot", metavar="ID", help="a snapshot that `bowerbird snapshot --list` names")
    parser.add_argument("--index", required=True, metavar="NEW", help="name of the new index; it must not exist")
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0."""
    progress = Progress(100, "percent")
    options = {"timeout_s": arguments.timeout} if arguments.timeout else {}
    with open_connection(arguments) as connection:
        index = RetrievalClient(connection).restore_snapshot(
            arguments.snapshot,
            arguments.index,
            on_progress=lambda fraction: percent_progress(progress, fraction),
            **options,
        )
    progress.finish()
    if arguments.json:
        print_json({"index": index.name, "items": index.items, "snapshot_id": arguments.snapshot})
    else:
        print(f"restored {index.items:,} items into index {index.name!r}")
        print(f"search it with: bowerbird search PICTURE --index {index.name}")
    return EXIT_OK
