"""Find what looks like a picture, a part of it, or an item that is indexed already.

examples:
  bowerbird search cat.jpg
  bowerbird search street.jpg --region 0.10,0.25,0.55,0.90
  bowerbird search cat.png --filter style!=noto --top-k 20 --html result.html
  bowerbird search --item pictures/noto/cat.png --json

A region is x0,y0,x1,y1 as parts of width and height, from the top left; `bowerbird detect` finds some.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowerbird.boxes import Region
from bowerbird.cli import sheet
from bowerbird.cli.filters import FILTER_HELP, combine_filters
from bowerbird.cli.options import (
    Options,
    add_index_option,
    add_json_option,
    format_region,
    open_connection,
    parse_region,
    read_file,
)
from bowerbird.cli.outcome import EXIT_OK, UsageWrong
from bowerbird.cli.show import SHOWN_FIELDS, FieldValue, format_timings, name_of, notes_of, print_json, table
from bowerbird.rpc.clients import Discoveries, DiscoveryClient, Hit, SearchParams

MAX_SUGGESTED_REGIONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    parser.epilog = f"{parser.epilog}\n{FILTER_HELP}"
    parser.add_argument("picture", type=Path, nargs="?", metavar="PICTURE", help="JPEG, PNG, WebP, GIF or BMP file")
    parser.add_argument("--item", metavar="ID", help="search by an indexed item instead of a picture")
    parser.add_argument("--region", type=parse_region, metavar="X0,Y0,X1,Y1", help="search by this part of the picture")
    parser.add_argument("--filter", action="append", default=[], metavar="EXPR", help="only items of which this holds")
    parser.add_argument("--top-k", type=int, default=10, metavar="N", help="how many results, 1 to 1000 (10)")
    parser.add_argument("--exact", action="store_true", help="score every item instead of scanning binary codes first")
    parser.add_argument(
        "--html", type=Path, metavar="OUT", help="also write a page with query and results side by side"
    )
    add_index_option(parser)
    add_json_option(parser)


@dataclass(frozen=True)
class Query:
    """What is searched for: a picture's bytes, maybe a region of it; or the id of an item."""

    data: bytes = b""
    region: Region | None = None
    item_id: str = ""


def run(arguments: Options) -> int:
    """Exit code 0, also when nothing was found."""
    if (arguments.picture is None) == (arguments.item is None):
        raise UsageWrong("give a PICTURE, or --item ID, and not both")
    if arguments.item and arguments.region:
        raise UsageWrong("--region is a part of a PICTURE; an item is searched whole")
    data = read_file(arguments.picture) if arguments.picture else b""
    query = Query(data, arguments.region, arguments.item or "")
    params = SearchParams(top_k=arguments.top_k, filter=combine_filters(arguments.filter), exact=arguments.exact)
    with open_connection(arguments) as connection:
        client = DiscoveryClient(connection)
        start = time.perf_counter()
        found = ask(client, query, arguments.index, params)
        seconds = time.perf_counter() - start
    if arguments.html:
        write_page(arguments, query, found, seconds)
    if arguments.json:
        print_json(to_json(found, seconds))
    else:
        print(render(arguments, found, seconds))
    return EXIT_OK


def ask(client: DiscoveryClient, query: Query, index: str, params: SearchParams) -> Discoveries:
    """What the server finds; a search by a whole picture also names the objects in it."""
    if query.item_id:
        return client.search_by_item(query.item_id, index=index, params=params)
    if query.region:
        return client.search_by_region(query.data, query.region, index=index, params=params)
    return client.search_by_image(query.data, index=index, params=params, detect_regions=True)


def to_json(found: Discoveries, seconds: float) -> dict[str, Any]:
    """The answer as plain values."""
    return {
        "hits": [{"item_id": hit.item_id, "score": round(hit.score, 6), "fields": hit.fields} for hit in found.hits],
        "regions": [
            {
                "region": _to_list(each.region),
                "label": each.label,
                "score": round(each.score, 4),
            }
            for each in found.regions
        ],
        "seconds": round(seconds, 6),
        "timings": [{"stage": stage, "seconds": round(spent, 6)} for stage, spent in found.info.timings],
        "models": [{"name": model.name, "version": model.version} for model in found.info.models],
    }


def render(arguments: Options, found: Discoveries, seconds: float) -> str:
    """The answer for people."""
    shown = [name for name in SHOWN_FIELDS if any(name in hit.fields for hit in found.hits)]
    rows = [
        (place, hit.score, hit.item_id, *(hit.fields.get(name, "") for name in shown))
        for place, hit in enumerate(found.hits, start=1)
    ]
    lines = [table(rows, header=("", "score", "item", *shown))] if rows else ["nothing found"]
    lines.append(f"\n{seconds * 1e3:.0f} ms  ({format_timings(found.info.timings)})")
    if found.regions:
        lines.append("\nobjects in the picture, to search by:")
        lines.append(
            table(
                [
                    (each.label, each.score, f"--region {format_region(each.region)}")
                    for each in found.regions[:MAX_SUGGESTED_REGIONS]
                ]
            )
        )
    if arguments.html:
        lines.append(f"\nwrote {arguments.html}")
    return "\n".join(lines)


def write_page(arguments: Options, query: Query, found: Discoveries, seconds: float) -> None:
    """Write the result page of one search."""
    title = str(arguments.picture or arguments.item)
    search = sheet.Search(
        label="region" if query.region else "item" if query.item_id else "picture",
        title=Path(title).stem,
        note=title,
        image=sheet.inline_picture(query.data, sheet.QUERY_PX) if query.data else "",
        photograph=Path(title).suffix.lower() in sheet.PHOTOGRAPH_SUFFIXES,
        region=query.region,
        results=[to_result(hit) for hit in found.hits],
        command=command_of(arguments),
        seconds=seconds,
        timings=found.info.timings,
    )
    page = sheet.Sheet(
        "What looks alike",
        f"Index {arguments.index!r} at {arguments.target}.",
        [sheet.Group("", "", [search])],
    )
    sheet.write_sheet(page, arguments.html)


def to_result(hit: Hit, *, matches: bool = False) -> sheet.Result:
    """A hit as the page shows it, with the picture from this machine's disk if it is there."""
    path = picture_path(hit.fields)
    return sheet.Result(
        title=name_of(hit.item_id, hit.fields),
        note=notes_of(hit.fields).partition(" · ")[0],
        score=hit.score,
        image=sheet.inline_picture(path) if path else "",
        matches=matches,
        photograph=path is not None and path.suffix.lower() in sheet.PHOTOGRAPH_SUFFIXES,
        credit=sheet.credit_of(hit.fields),
    )


def picture_path(fields: Mapping[str, FieldValue]) -> Path | None:
    """The file that was indexed as the item of these fields; None if it was indexed elsewhere, or is gone."""
    root, path = fields.get("root"), fields.get("path")
    if not isinstance(root, str) or not isinstance(path, str):
        return None
    file = Path(root, path)
    return file if file.is_file() else None


def command_of(arguments: Options) -> str:
    """The command line that repeats this search."""
    words = ["bowerbird", "search"]
    words += ["--item", arguments.item] if arguments.item else [str(arguments.picture)]
    if arguments.region:
        words += ["--region", format_region(arguments.region)]
    for text in arguments.filter:
        words += ["--filter", text]
    return shlex.join(words)


def _to_list(region: Region) -> list[float]:
    return [round(side, 5) for side in (region.x_min, region.y_min, region.x_max, region.y_max)]
