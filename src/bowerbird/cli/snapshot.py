"""Save an index to a snapshot on the server's disk; list or delete snapshots.

examples:
  bowerbird snapshot                      of the default index
  bowerbird snapshot --list
  bowerbird snapshot --delete ID
"""

from __future__ import annotations

import argparse
from typing import Any

from bowerbird.cli.options import Options, add_index_option, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_OK
from bowerbird.cli.show import format_size, print_json, table
from bowerbird.progress import Progress
from bowerbird.rpc.clients import RetrievalClient, Snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `snapshot`."""
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="list the snapshots of all indexes")
    action.add_argument("--delete", metavar="ID", help="delete a snapshot")
    add_index_option(parser)
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0."""
    with open_connection(arguments) as connection:
        client = RetrievalClient(connection)
        if arguments.delete:
            client.delete_snapshot(arguments.delete)
            print(f"deleted snapshot {arguments.delete}")
        elif arguments.list:
            _print_list(client.list_snapshots(), as_json=arguments.json)
        else:
            snapshot = _create(client, arguments)
            if arguments.json:
                print_json(describe(snapshot))
            else:
                print(f"snapshot {snapshot.snapshot_id}: {snapshot.items:,} items, {format_size(snapshot.size_bytes)}")
                print(f"restore it with: bowerbird restore {snapshot.snapshot_id} --index NEW")
    return EXIT_OK


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as plain values."""
    return {
        "snapshot_id": snapshot.snapshot_id,
        "index": snapshot.index,
        "items": snapshot.items,
        "size_bytes": snapshot.size_bytes,
        "sha256": snapshot.sha256,
        "created": snapshot.create_time.isoformat(timespec="seconds"),
    }


def percent_progress(progress: Progress, fraction: float) -> None:
    """Move a progress of 100 to a fraction of 1."""
    progress.advance(max(0, int(fraction * 100) - progress.done))


def _create(client: RetrievalClient, arguments: Options) -> Snapshot:
    progress = Progress(100, "percent")
    options = {"timeout_s": arguments.timeout} if arguments.timeout else {}
    snapshot = client.create_snapshot(
        arguments.index, on_progress=lambda fraction: percent_progress(progress, fraction), **options
    )
    progress.finish()
    return snapshot


def _print_list(snapshots: list[Snapshot], *, as_json: bool) -> None:
    if as_json:
        print_json({"snapshots": [describe(snapshot) for snapshot in snapshots]})
        return
    rows = [
        (
            each.snapshot_id,
            each.index,
            each.items,
            format_size(each.size_bytes),
            f"{each.create_time:%Y-%m-%d %H:%M:%S}",
        )
        for each in snapshots
    ]
    print(table(rows, header=("snapshot", "index", "items", "size", "created (UTC)")) if rows else "no snapshots")
