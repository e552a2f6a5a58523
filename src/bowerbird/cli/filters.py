"""Filter expressions of the command line, as the filter message of the wire.

    style=twemoji            equal                     style!=twemoji       not equal, or without the field
    category=animals|food    one of                    category!=a|b        none of
    width>=640               also > < <=               title?               has the field
    "title"="2021"           quotes keep text text     !title?              lacks the field

A value is an integer, a number, true or false if it reads like one, else text; quotes make it text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bowerbird.cli.outcome import UsageWrong
from bowerbird.v1 import retrieval_pb2, types_pb2

Filter = retrieval_pb2.Filter

_COMPARISON = re.compile(r"""^\s*(?P<field>"[^"]+"|[^=<>!?"\s]+)\s*(?P<op><=|>=|!=|=|<|>)\s*(?P<value>.*?)\s*$""", re.S)
_PRESENCE = re.compile(r"""^\s*(?P<not>!?)\s*(?P<field>"[^"]+"|[^=<>!?"\s]+)\s*\?\s*$""")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|[^|"]+')
_INTEGER = re.compile(r"[+-]?\d+")
_OPERATORS = {"<": Filter.OP_LT, "<=": Filter.OP_LE, ">": Filter.OP_GT, ">=": Filter.OP_GE}
_HELP = "write field=value, field!=value, field=a|b, field>=number, field? or !field?"


def parse_filter(all_of: Sequence[str], any_of: Sequence[str] = ()) -> Filter | None:
    """The filter that these expressions mean; None when there are none.

    Raises:
        UsageWrong: an expression cannot be read; the message names it.
    """
    if not all_of and not any_of:
        return None
    return Filter(all_of=[parse_clause(text) for text in all_of], any_of=[parse_clause(text) for text in any_of])


def parse_clause(text: str) -> Filter.Clause:
    """One clause out of one expression.

    Raises:
        UsageWrong: the expression cannot be read.
    """
    if presence := _PRESENCE.match(text):
        return Filter.Clause(field=_unquote(presence["field"]), op=Filter.OP_EXISTS, negate=presence["not"] == "!")
    comparison = _COMPARISON.match(text)
    if comparison is None:
        raise UsageWrong(f"cannot read the filter {text!r}: {_HELP}")
    field, sign = _unquote(comparison["field"]), comparison["op"]
    values = _parse_values(comparison["value"], text)
    if sign in _OPERATORS:
        if len(values) != 1:
            raise UsageWrong(f"cannot read the filter {text!r}: {sign} compares with one value")
        return Filter.Clause(field=field, op=_OPERATORS[sign], values=values)
    op = Filter.OP_EQ if len(values) == 1 else Filter.OP_IN
    return Filter.Clause(field=field, op=op, values=values, negate=sign == "!=")


def _parse_values(text: str, expression: str) -> list[types_pb2.Value]:
    values, position = [], 0
    while match := _VALUE.match(text, position):
        values.append(_parse_value(match))
        position = match.end()
        if position == len(text):
            return values
        if text[position] != "|":
            break
        position += 1
    raise UsageWrong(f"cannot read the value of the filter {expression!r}: {_HELP}")


def _parse_value(match: re.Match[str]) -> types_pb2.Value:
    if match.group(1) is not None:
        return types_pb2.Value(string_value=re.sub(r"\\(.)", r"\1", match.group(1)))
    text = match.group(0).strip()
    if text in ("true", "false"):
        return types_pb2.Value(bool_value=text == "true")
    if _INTEGER.fullmatch(text):
        return types_pb2.Value(int_value=int(text))
    try:
        number = float(text)
    except ValueError:
        return types_pb2.Value(string_value=text)
    # "nan" and "inf" are words before they are numbers
    return types_pb2.Value(double_value=number) if text[-1].isdigit() else types_pb2.Value(string_value=text)


def _unquote(field: str) -> str:
    return field.strip('"')
