"""Conditions on typed fields, evaluated exactly to one bit a slot before anything is ranked."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bowerbird.errors import ArgumentInvalid, FilterInvalid

from .budget import Budget
from .fields import BoolArray, Column, FieldType, FieldValue, check_value, type_of

_EXACT_INTEGERS = 2**53
"""Integers up to here are doubles without loss."""


class Op(enum.Enum):
    """What a clause asks of a field."""

    EQ = "eq"
    IN = "in"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    EXISTS = "exists"


@dataclass(frozen=True)
class Clause:
    """One condition. Negated, it also holds for items without the field."""

    field: str
    op: Op
    values: tuple[FieldValue, ...] = ()
    negate: bool = False


@dataclass(frozen=True)
class Filter:
    """Holds when all of `all_of` hold and, if `any_of` is not empty, one of `any_of` holds."""

    all_of: tuple[Clause, ...] = ()
    any_of: tuple[Clause, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all_of or self.any_of)


def match(wanted: Filter, columns: Mapping[str, Column], count: int, budget: Budget = Budget.UNLIMITED) -> BoolArray:
    """(count,) bool: the slots that `wanted` holds for.

    Raises:
        FilterInvalid: a field is unknown, a value has another type than the field, or a clause is malformed.
        DeadlineExceeded, Cancelled: nobody waits any more.
    """
    matches = np.ones(count, np.bool_)
    for clause in wanted.all_of:
        budget.check()
        matches &= _match_clause(clause, columns, count)
    if wanted.any_of:
        some = np.zeros(count, np.bool_)
        for clause in wanted.any_of:
            budget.check()
            some |= _match_clause(clause, columns, count)
        matches &= some
    return matches


def _match_clause(clause: Clause, columns: Mapping[str, Column], count: int) -> BoolArray:
    column = columns.get(clause.field)
    if column is None:
        known = ", ".join(sorted(columns)) or "none yet"
        raise FilterInvalid(f"unknown field {clause.field!r}; known: {known}", field="filter")
    values = _check_values(clause, column.kind)
    if clause.op is Op.EXISTS:
        matches = column.exists(count)
    elif clause.op in (Op.EQ, Op.IN):
        matches = column.one_of(count, values)
    elif clause.op in (Op.LT, Op.LE):
        matches = column.below(count, values[0], inclusive=clause.op is Op.LE)
    else:
        matches = column.exists(count) & ~column.below(count, values[0], inclusive=clause.op is Op.GT)
    return ~matches if clause.negate else matches


def _check_values(clause: Clause, kind: FieldType) -> tuple[FieldValue, ...]:
    """The clause's values in the type of the field."""
    where = f"filter on {clause.field!r} with {clause.op.value}"
    if clause.op is Op.EXISTS:
        if clause.values:
            raise FilterInvalid(f"{where}: expected no value, got {len(clause.values)}", field="filter")
        return ()
    if clause.op is Op.IN:
        if not clause.values:
            raise FilterInvalid(f"{where}: expected one or more values, got none", field="filter")
    elif len(clause.values) != 1:
        raise FilterInvalid(f"{where}: expected one value, got {len(clause.values)}", field="filter")
    if kind is FieldType.BOOL and clause.op not in (Op.EQ, Op.IN):
        raise FilterInvalid(f"{where}: a bool has no order; use eq or in", field="filter")
    return tuple(_convert(value, kind, where) for value in clause.values)


def _convert(value: FieldValue, kind: FieldType, where: str) -> FieldValue:
    """`value` in the type of the field; an integer stands for a double where that loses nothing."""
    try:
        check_value("value", value)
    except ArgumentInvalid as error:
        raise FilterInvalid(f"{where}: {error.message}", field="filter") from error
    given = type_of(value)
    if given is kind:
        return value
    if given is FieldType.INT and kind is FieldType.DOUBLE and abs(int(value)) <= _EXACT_INTEGERS:
        return float(value)
    raise FilterInvalid(f"{where}: the field is {kind.value}, got {given.value} {value!r}", field="filter")
