"""List what is in an index.

examples:
  bowerbird items
  bowerbird items --filter category=food-drink --limit 0 --json
"""

from __future__ import annotations

import argparse
from itertools import islice

from bowerbird.cli.filters import FILTER_HELP, combine_filters
from bowerbird.cli.options import Options, add_index_option, add_json_option, open_connection
from bowerbird.cli.outcome import EXIT_OK, UsageWrong
from bowerbird.cli.show import SHOWN_FIELDS, print_json, table
from bowerbird.rpc.clients import RetrievalClient

PAGE = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `items`."""
    parser.epilog = f"{parser.epilog}\n{FILTER_HELP}"
    parser.add_argument("--filter", action="append", default=[], metavar="EXPR", help="only items of which this holds")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many, 0: all (20)")
    add_index_option(parser)
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0, also for an empty list."""
    if arguments.limit < 0:
        raise UsageWrong(f"--limit: expected 0 or more, got {arguments.limit}")
    condition = combine_filters(arguments.filter)
    limit = arguments.limit or None
    with open_connection(arguments) as connection:
        client = RetrievalClient(connection)
        found = client.list_items(
            index=arguments.index, filter=condition, page_size=min(PAGE, limit + 1) if limit else PAGE
        )
        items = list(islice(found, limit))
        more = limit is not None and next(found, None) is not None
    if arguments.json:
        print_json({"items": [{"item_id": item.item_id, "fields": dict(item.fields)} for item in items], "more": more})
        return EXIT_OK
    shown = [name for name in SHOWN_FIELDS if any(name in item.fields for item in items)]
    rows = [(item.item_id, *(item.fields.get(name, "") for name in shown)) for item in items]
    print(table(rows, header=("item", *shown)) if rows else "no items")
    if more:
        print(f"\nthe first {limit}; --limit 0 lists all")
    return EXIT_OK
