"""Filters on typed columns."""

from __future__ import annotations

import numpy as np
import pytest

from bowerbird.errors import ArgumentInvalid, Cancelled, FilterInvalid
from services.retrieval.budget import Budget
from services.retrieval.fields import Column, FieldType, check_fields
from services.retrieval.filters import Clause, Filter, Op, match

BIG = 2**62


@pytest.fixture
def columns() -> dict[str, Column]:
    """Five slots; slot 4 has no field at all."""
    title, year, price, sold = (Column(kind, 5) for kind in FieldType)
    title.put([0, 1, 2, 3], ["pear", "apple", "pear", "Ärmel"])
    year.put([0, 1, 2], [BIG, BIG + 1, -5])
    price.put([0, 2], [1.5, -0.0])
    sold.put([0, 1, 3], [True, False, True])
    return {"title": title, "year": year, "price": price, "sold": sold}


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        (Clause("title", Op.EQ, ("pear",)), [0, 2]),
        (Clause("title", Op.EQ, ("plum",)), []),
        (Clause("title", Op.IN, ("apple", "Ärmel", "plum")), [1, 3]),
        (Clause("title", Op.LT, ("pear",)), [1]),
        (Clause("title", Op.LE, ("pear",)), [0, 1, 2]),
        (Clause("title", Op.GT, ("pear",)), [3]),
        (Clause("title", Op.GE, ("b",)), [0, 2, 3]),
        (Clause("title", Op.EXISTS), [0, 1, 2, 3]),
        (Clause("title", Op.EQ, ("pear",), negate=True), [1, 3, 4]),
        (Clause("title", Op.EXISTS, negate=True), [4]),
        (Clause("year", Op.EQ, (BIG,)), [0]),
        (Clause("year", Op.IN, (BIG, BIG + 1, 7)), [0, 1]),
        (Clause("year", Op.GT, (BIG,)), [1]),
        (Clause("year", Op.GE, (BIG,)), [0, 1]),
        (Clause("year", Op.LT, (BIG + 1,)), [0, 2]),
        (Clause("year", Op.LE, (-5,)), [2]),
        (Clause("year", Op.LT, (0,), negate=True), [0, 1, 3, 4]),
        (Clause("price", Op.EQ, (0.0,)), [2]),
        (Clause("price", Op.GE, (1,)), [0]),
        (Clause("price", Op.LT, (float("inf"),)), [0, 2]),
        (Clause("sold", Op.EQ, (True,)), [0, 3]),
        (Clause("sold", Op.IN, (True, False)), [0, 1, 3]),
        (Clause("sold", Op.EQ, (True,), negate=True), [1, 2, 4]),
    ],
)
def test_clause_selects_exactly(columns: dict[str, Column], clause: Clause, expected: list[int]) -> None:
    """Each operation selects the slots it says, and a missing value matches only negated clauses."""
    assert np.flatnonzero(match(Filter((clause,)), columns, 5)).tolist() == expected


@pytest.mark.parametrize("part", ["all_of", "any_of"])
def test_long_filter_ends_when_nobody_waits(columns: dict[str, Column], part: str) -> None:
    """A caller who is gone is noticed between two clauses."""
    asked: list[bool] = []
    gone = Budget(is_cancelled=lambda: asked.append(True) or len(asked) > 3)
    with pytest.raises(Cancelled):
        match(Filter(**{part: (Clause("sold", Op.EXISTS),) * 1000}), columns, 5, gone)
    assert len(asked) == 4


def test_filter_combines_all_of_and_any_of(columns: dict[str, Column]) -> None:
    """All of the first list and at least one of the second must hold."""
    wanted = Filter(
        all_of=(Clause("title", Op.EXISTS), Clause("sold", Op.EXISTS)),
        any_of=(Clause("year", Op.LT, (0,)), Clause("sold", Op.EQ, (False,)), Clause("title", Op.EQ, ("Ärmel",))),
    )
    assert np.flatnonzero(match(wanted, columns, 5)).tolist() == [1, 3]


def test_empty_filter_matches_all(columns: dict[str, Column]) -> None:
    """No condition holds for everything."""
    assert match(Filter(), columns, 5).all()


@pytest.mark.parametrize(
    "clause",
    [
        Clause("colour", Op.EQ, ("red",)),
        Clause("title", Op.EQ, (3,)),
        Clause("title", Op.EQ, ()),
        Clause("title", Op.EQ, ("a", "b")),
        Clause("title", Op.IN, ()),
        Clause("title", Op.EXISTS, ("a",)),
        Clause("year", Op.EQ, (1.5,)),
        Clause("year", Op.EQ, (True,)),
        Clause("year", Op.LT, (2**63,)),
        Clause("price", Op.LT, (2**53 + 1,)),
        Clause("price", Op.LT, (float("nan"),)),
        Clause("price", Op.EQ, (True,)),
        Clause("sold", Op.LT, (True,)),
        Clause("sold", Op.EQ, (1,)),
    ],
)
def test_malformed_clause_is_refused(columns: dict[str, Column], clause: Clause) -> None:
    """Unknown fields, other types, wrong numbers of values and NaN are errors, not empty answers."""
    with pytest.raises(FilterInvalid):
        match(Filter(any_of=(clause,)), columns, 5)


def test_unknown_field_is_answered_with_the_known_ones(columns: dict[str, Column]) -> None:
    """The message helps with a misspelt name."""
    with pytest.raises(FilterInvalid, match="unknown field 'titel'; known: price, sold, title, year"):
        match(Filter((Clause("titel", Op.EXISTS),)), columns, 5)


def test_column_takes_slots_into_a_new_one(columns: dict[str, Column]) -> None:
    """Compaction keeps values and absences in the new order."""
    taken = columns["title"].take(np.array([4, 3, 0]))
    assert [taken.get(slot) for slot in range(3)] == [None, "Ärmel", "pear"]


def test_text_order_follows_new_texts(columns: dict[str, Column]) -> None:
    """A range query after a write sees the texts of that write."""
    title = columns["title"]
    assert title.below(4, "b", inclusive=False).tolist() == [False, True, False, False]
    title.put([4], ["aardvark"])
    assert title.below(5, "b", inclusive=False).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize(
    "fields",
    [{"": 1}, {"*": 1}, {"x" * 129: 1}, {"a": 2**63}, {"a": float("nan")}, {"a": "x" * 32769}, {"a": "\ud800"}],
)
def test_field_that_cannot_be_stored_is_refused(fields: dict[str, int | float | str]) -> None:
    """Names, integers and texts have limits, and NaN has no order."""
    with pytest.raises(ArgumentInvalid):
        check_fields(fields)
