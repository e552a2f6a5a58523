"""Filters as people type them."""

import pytest

from bowerbird.errors import FilterInvalid
from bowerbird.rpc.clients.filters import Clause, Filter, all_of, any_of, clause, parse_filter
from bowerbird.rpc.wire import Scalar


def one(text: str) -> Clause:
    parsed = parse_filter(text)
    assert not parsed.any_of
    (only,) = parsed.all_of
    return only


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=7", 7),
        ("a = -7", -7),
        ("a=+7", 7),
        ("a=0.5", 0.5),
        ("a=.5", 0.5),
        ("a=1e3", 1000.0),
        ("a=true", True),
        ("a=False", False),
        ("a=food", "food"),
        ("a=green apples", "green apples"),
        ("a=1.2.3", "1.2.3"),
        ("a=7up", "7up"),
        ('a="7"', "7"),
        ("a='true'", "true"),
        ('a="say \\"hi\\""', 'say "hi"'),
        ("a='x and y'", "x and y"),
        ("a=''", ""),
        ("a=android", "android"),
        ("a=übel", "übel"),
    ],
)
def test_values_have_the_type_they_read_as(text: str, value: Scalar) -> None:
    """Numbers and booleans are recognised, the rest is text, and quotes force text."""
    assert one(text) == clause("a", Filter.OP_EQ, value)


@pytest.mark.parametrize(
    ("text", "op", "negate"),
    [
        ("a=5", Filter.OP_EQ, False),
        ("a==5", Filter.OP_EQ, False),
        ("a!=5", Filter.OP_EQ, True),
        ("a<5", Filter.OP_LT, False),
        ("a<=5", Filter.OP_LE, False),
        ("a>5", Filter.OP_GT, False),
        ("a >= 5", Filter.OP_GE, False),
        ("a in 5", Filter.OP_IN, False),
        ("a NOT IN 5", Filter.OP_IN, True),
    ],
)
def test_operators(text: str, op: Filter.Op, negate: bool) -> None:
    """Each operator becomes one of the contract; the negative ones negate the clause."""
    assert one(text) == clause("a", op, 5, negate=negate)


def test_lists_keep_the_type_of_each_value() -> None:
    """Values of a list are read one by one; a quoted comma does not split."""
    assert one("style in noto, 'a, b',3") == clause("style", Filter.OP_IN, "noto", "a, b", 3)


@pytest.mark.parametrize(("text", "negate"), [("exists(a.b)", False), ("not exists( a.b )", True)])
def test_existence(text: str, negate: bool) -> None:
    """Existence takes a field and no value."""
    assert one(text) == clause("a.b", Filter.OP_EXISTS, negate=negate)


def test_clauses_join_by_and_or_by_or() -> None:
    """`and` asks for all, `or` for one."""
    first, second = clause("a", Filter.OP_EQ, 1), clause("b", Filter.OP_GT, 2)
    assert parse_filter("a=1 and b>2") == all_of(first, second)
    assert parse_filter("a=1 OR b>2") == any_of(first, second)


def test_an_empty_filter_matches_everything() -> None:
    """No text, no condition."""
    assert parse_filter("  ") == Filter()


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "=5",
        "a=",
        "a ~ 5",
        "a=1 and",
        "and a=1",
        "a=1 and b=2 or c=3",
        "a in",
        "a in 1,,2",
        'a="x',
        'a="x"y',
        "exists()",
        "5=a",
        "a=1 and and b=2",
    ],
)
def test_malformed_text_is_refused_with_the_part(text: str) -> None:
    """Whatever cannot be read is an error on the field `filter`, never a filter that matches something else."""
    with pytest.raises(FilterInvalid) as caught:
        parse_filter(text)
    assert caught.value.field == "filter"
