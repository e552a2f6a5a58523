"""Writes of one index as they wait for their commit, and the decision what each of them stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bowerbird.errors import ArgumentInvalid, BowerbirdError, FieldTypeMismatch, ModelIndexMismatch

from .budget import Budget
from .description import Description, with_write
from .fields import MAX_FIELDS, FieldType, FieldValue, type_of
from .filters import Filter
from .items import ModelRef, Record


@dataclass
class Upsert:
    """Records by position in the batch, until `plan` has sorted out those that are stored."""

    records: Mapping[int, Record]
    model: ModelRef | None
    budget: Budget
    shares: bool = True
    done: bool = False
    error: BowerbirdError | None = None
    faults: dict[int, BowerbirdError] = field(default_factory=dict)
    stored: list[Record] = field(default_factory=list)
    after: Description | None = None


@dataclass
class Delete:
    """Chosen items, and how many of them there were."""

    chosen: Sequence[str] | Filter
    budget: Budget
    shares: bool = False
    done: bool = False
    error: BowerbirdError | None = None
    deleted: int = 0
    sequence: int = 0


def plan_upsert(
    write: Upsert, before: Description, is_known: Callable[[str], bool], new_ids: set[str], index: str
) -> Description:
    """Choose what `write` stores; returns what the store will say after it, `before` if it changes nothing."""
    try:
        write.budget.check()
        model = _bind_model(before.model, write.model, index)
    except BowerbirdError as error:
        write.error = error
        return before
    kinds, chosen = dict(before.fields), dict[str, Record]()
    for position, record in write.records.items():
        try:
            kinds = _extend_kinds(kinds, record.fields)
        except BowerbirdError as error:
            write.faults[position] = error
            continue
        chosen[record.item_id] = record
    write.stored, write.after = list(chosen.values()), before
    if chosen:
        fresh = {item_id for item_id in chosen if not is_known(item_id) and item_id not in new_ids}
        new_ids |= fresh
        write.after = with_write(before, items=before.items + len(fresh), model=model, fields=kinds)
    return write.after


def _bind_model(bound: ModelRef | None, given: ModelRef | None, index: str) -> ModelRef | None:
    """The model an index has after a write that names `given`."""
    if bound is None or bound == given:
        return given
    raise ModelIndexMismatch(
        f"index {index!r} holds embeddings of {bound}, the write names {given or 'no model'}; "
        "use that model, or another index",
        field="model",
    )


def _extend_kinds(kinds: dict[str, FieldType], fields: Mapping[str, FieldValue]) -> dict[str, FieldType]:
    """Types of all fields once an item with these `fields` is stored."""
    new = {}
    for name, value in fields.items():
        kind, held = type_of(value), kinds.get(name)
        if held is None:
            new[name] = kind
        elif held is not kind:
            raise FieldTypeMismatch(f"field {name!r} is {held.value}, got {kind.value} {value!r}", field=name)
    if not new:
        return kinds
    if len(kinds) + len(new) > MAX_FIELDS:
        raise ArgumentInvalid(f"an index has at most {MAX_FIELDS} fields; {', '.join(new)} would be more")
    return {**kinds, **new}
