"""The filter that several --filter options make together."""

from __future__ import annotations

from collections.abc import Sequence

from bowerbird.cli.outcome import UsageWrong
from bowerbird.errors import FilterInvalid
from bowerbird.rpc.clients import parse_filter
from bowerbird.v1.retrieval_pb2 import Filter

FILTER_HELP = """filters:
  style=twemoji   style!=noto   width>=640   "style in noto, fluent"   "exists(title)"
  "a=1 and b=2"   "a=1 or b=2"   several --filter options must all hold
  a value is a number, true or false if it reads like one, else text; quotes make it text: 'year="2021"'"""


def combine_filters(texts: Sequence[str]) -> Filter | None:
    """The filter that holds where all of these texts hold; None if there are none.

    Raises:
        UsageWrong: a text is malformed, or more than one of them is an `or`.
    """
    if not texts:
        return None
    combined = Filter()
    for text in texts:
        try:
            parsed = parse_filter(text)
        except FilterInvalid as error:
            raise UsageWrong(error.message) from error
        if parsed.any_of and combined.any_of:
            raise UsageWrong(f"only one --filter may be an `or`, got a second one: {text!r}")
        combined.MergeFrom(parsed)
    return combined
