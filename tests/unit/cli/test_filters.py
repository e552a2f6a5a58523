"""Filter expressions of the command line."""

import pytest

from bowerbird.cli.filters import Filter, parse_clause, parse_filter
from bowerbird.cli.outcome import EXIT_USAGE, UsageWrong
from bowerbird.v1.types_pb2 import Value


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("style=twemoji", Filter.Clause(field="style", op=Filter.OP_EQ, values=[Value(string_value="twemoji")])),
        (
            "style!=noto",
            Filter.Clause(field="style", op=Filter.OP_EQ, values=[Value(string_value="noto")], negate=True),
        ),
        (
            "category=animals|food and drink",
            Filter.Clause(
                field="category",
                op=Filter.OP_IN,
                values=[Value(string_value="animals"), Value(string_value="food and drink")],
            ),
        ),
        ("width>=640", Filter.Clause(field="width", op=Filter.OP_GE, values=[Value(int_value=640)])),
        ("ratio < 1.5", Filter.Clause(field="ratio", op=Filter.OP_LT, values=[Value(double_value=1.5)])),
        ("kept=true", Filter.Clause(field="kept", op=Filter.OP_EQ, values=[Value(bool_value=True)])),
        ('year="2021"', Filter.Clause(field="year", op=Filter.OP_EQ, values=[Value(string_value="2021")])),
        (
            r'title="a \"b|c\" = d"',
            Filter.Clause(field="title", op=Filter.OP_EQ, values=[Value(string_value='a "b|c" = d')]),
        ),
        ("name=nan", Filter.Clause(field="name", op=Filter.OP_EQ, values=[Value(string_value="nan")])),
        ("title?", Filter.Clause(field="title", op=Filter.OP_EXISTS)),
        ("!title?", Filter.Clause(field="title", op=Filter.OP_EXISTS, negate=True)),
    ],
)
def test_expression_means_its_clause(text: str, clause: Filter.Clause) -> None:
    """Every documented form gives the clause it stands for."""
    assert parse_clause(text) == clause


@pytest.mark.parametrize("text", ["", "style", "=x", "style=", "a=b|", "width>=1|2", 'title="open', "=", "a=|b"])
def test_broken_expression_is_a_usage_error_that_names_it(text: str) -> None:
    """What cannot be read is refused with exit code 2 and quoted in the message."""
    with pytest.raises(UsageWrong, match="cannot read") as caught:
        parse_clause(text)
    assert caught.value.exit_code == EXIT_USAGE
    assert repr(text) in str(caught.value)


def test_no_expressions_are_no_filter() -> None:
    """Without expressions there is no filter message at all."""
    assert parse_filter([], []) is None


def test_both_groups_are_kept_apart() -> None:
    """--filter goes to all_of and --any to any_of."""
    both = parse_filter(["a=1"], ["b=2", "c=3"])
    assert both is not None
    assert [clause.field for clause in both.all_of] == ["a"]
    assert [clause.field for clause in both.any_of] == ["b", "c"]
