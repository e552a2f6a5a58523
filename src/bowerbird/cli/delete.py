"""Delete items, by id or all that match a filter. Their pictures on disk are not touched.

examples:
  bowerbird delete pictures/noto/cat.png pictures/noto/dog.png
  bowerbird delete --filter source=openclipart        asks first; --yes does not
  bowerbird delete --whole-index --index old          the index and all in it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bowerbird.cli.filters import FILTER_HELP, combine_filters
from bowerbird.cli.options import Options, add_index_option, open_connection
from bowerbird.cli.outcome import EXIT_OK, CommandFailed, UsageWrong
from bowerbird.rpc.clients import RetrievalClient
from bowerbird.v1.retrieval_pb2 import Filter

IDS_A_CALL = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `delete`."""
    parser.epilog = f"{parser.epilog}\n{FILTER_HELP}"
    parser.add_argument("ids", nargs="*", metavar="ID", help="items to delete")
    parser.add_argument("--filter", action="append", default=[], metavar="EXPR", help="delete all of which this holds")
    parser.add_argument("--whole-index", action="store_true", help="delete the index itself")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_index_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0, also when there was nothing to delete."""
    if sum((bool(arguments.ids), bool(arguments.filter), arguments.whole_index)) != 1:
        raise UsageWrong("give either IDs, or --filter, or --whole-index")
    condition = combine_filters(arguments.filter)
    with open_connection(arguments) as connection:
        client = RetrievalClient(connection)
        if arguments.whole_index:
            _delete_index(client, arguments)
        elif condition is not None:
            _delete_matching(client, arguments, condition)
        else:
            ids = arguments.ids
            deleted = sum(
                client.delete(ids[start : start + IDS_A_CALL], index=arguments.index).deleted
                for start in range(0, len(ids), IDS_A_CALL)
            )
            print(f"deleted {deleted:,} of {len(ids):,} items")
    return EXIT_OK


def _delete_index(client: RetrievalClient, arguments: Options) -> None:
    index = client.get_index(arguments.index)
    _confirm(arguments, f"delete index {index.name!r} with {index.items:,} items?")
    client.delete_index(index.name)
    print(f"deleted index {index.name!r}")


def _delete_matching(client: RetrievalClient, arguments: Options, condition: Filter) -> None:
    if not arguments.yes:
        count = sum(1 for _ in client.list_items(index=arguments.index, filter=condition))
        _confirm(arguments, f"delete {count:,} items of index {arguments.index!r}?")
    print(f"deleted {client.delete(index=arguments.index, filter=condition).deleted:,} items")


def _confirm(arguments: Options, question: str, ask: Callable[[str], str] = input) -> None:
    """Return if the answer is yes.

    Raises:
        CommandFailed: it is not, or there is nobody to ask.
    """
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(f"{question} Nobody can answer here; add --yes")
    if ask(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandFailed("nothing was deleted")
