"""Filters as people type them.

    category=food            equal; a negated clause (`!=`, `not in`, `not exists`) also matches items without the field
    width>=640               < <= > >= on numbers and text
    style in noto, fluent    one of; also `not in`
    exists(title)            also `not exists(title)`
    a=1 and b!=2             all hold; or `a=1 or b=2`: one holds; the two do not mix

A value is an integer, a float, true or false where it reads as one, and text otherwise; quotes force text and may hold
anything: `code="007"`, `title='salt and pepper'`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bowerbird.errors import FilterInvalid
from bowerbird.rpc.wire import Scalar, pack_value
from bowerbird.v1 import retrieval_pb2

Filter = retrieval_pb2.Filter
Clause = Filter.Clause

_OPERATORS = {
    "=": (Filter.OP_EQ, False),
    "==": (Filter.OP_EQ, False),
    "!=": (Filter.OP_EQ, True),
    "<": (Filter.OP_LT, False),
    "<=": (Filter.OP_LE, False),
    ">": (Filter.OP_GT, False),
    ">=": (Filter.OP_GE, False),
}
_FIELD = r"(?P<field>[A-Za-z_][A-Za-z0-9_.-]*)"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_EXISTS = re.compile(rf"(?P<negate>not\s+)?exists\s*\(\s*{_FIELD}\s*\)\s*$", re.IGNORECASE)
_MEMBER = re.compile(rf"{_FIELD}\s+(?P<negate>not\s+)?in\s+(?P<values>.+)$", re.IGNORECASE | re.DOTALL)
_COMPARE = re.compile(rf"{_FIELD}\s*(?P<operator>==|!=|<=|>=|=|<|>)\s*(?P<value>.*)$", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


def parse_filter(text: str) -> Filter:
    """The filter that a text says; an empty text matches everything.

    Raises:
        FilterInvalid: the text is malformed; the message quotes the part.
    """
    if not text.strip():
        return Filter()
    parts, joints = _split(text, r"\b(and|or)\b")
    kinds = {joint.lower() for joint in joints}
    if len(kinds) > 1:
        raise FilterInvalid(
            f"expected only `and` or only `or` in {text!r}, got both; send one filter of each", field="filter"
        )
    clauses = [_parse_clause(part.strip(), text) for part in parts]
    return any_of(*clauses) if kinds == {"or"} else all_of(*clauses)


def all_of(*clauses: Clause) -> Filter:
    """The filter that all clauses must pass."""
    return Filter(all_of=clauses)


def any_of(*clauses: Clause) -> Filter:
    """The filter that one clause must pass."""
    return Filter(any_of=clauses)


def clause(field: str, op: Filter.Op, *values: Scalar, negate: bool = False) -> Clause:
    """One condition on one field."""
    return Clause(field=field, op=op, values=[pack_value(value) for value in values], negate=negate)


def _parse_clause(part: str, text: str) -> Clause:
    if match := _EXISTS.match(part):
        return clause(match["field"], Filter.OP_EXISTS, negate=bool(match["negate"]))
    if match := _MEMBER.match(part):
        values, _ = _split(match["values"], r",")
        parsed = [_parse_value(value.strip(), part) for value in values]
        return clause(match["field"], Filter.OP_IN, *parsed, negate=bool(match["negate"]))
    if match := _COMPARE.match(part):
        op, negate = _OPERATORS[match["operator"]]
        return clause(match["field"], op, _parse_value(match["value"].strip(), part), negate=negate)
    raise FilterInvalid(
        f"cannot read {part!r} in filter {text!r}; expected field=value, field!=value, field<5, field in a,b "
        "or exists(field)",
        field="filter",
    )


def _parse_value(text: str, part: str) -> Scalar:
    if re.fullmatch(_QUOTED, text, re.DOTALL):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    if not text or text[0] in "\"'":
        problem = "the quote is not closed, or something follows it" if text else "a value is missing"
        raise FilterInvalid(f"cannot read {part!r}: {problem}", field="filter")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _split(text: str, separator: str) -> tuple[Sequence[str], Sequence[str]]:
    """Parts of the text between separators that are not in quotes, and the separators."""
    parts, joints, start = [], [], 0
    for match in re.finditer(rf"{_QUOTED}|(?P<joint>{separator})", text, re.IGNORECASE | re.DOTALL):
        if match["joint"] is not None:
            parts.append(text[start : match.start()])
            joints.append(match["joint"])
            start = match.end()
    return [*parts, text[start:]], joints
