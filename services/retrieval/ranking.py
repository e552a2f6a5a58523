"""The best slots of one view for a query: filter, scan of the codes, exact re-ranking of the candidates.

Legend: S slots, Q queries, K candidates, D dimensions, W bytes a code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bowerbird import native, telemetry
from bowerbird.vectors import CodeArray, FloatArray

from .budget import Budget
from .fields import SlotArray
from .filters import Filter, match
from .index import View

T = TypeVar("T")

_SERVICE = "retrieval"
_SCORE_ALL_RATIO = 0.01
"""A filter that leaves less than this is answered by scoring all that is left: cheaper than scanning everything."""

_QUERIES_AT_ONCE = 64
"""Scanned together: their candidates are at most 15 MB, and a caller who gave up is noticed in between."""

Ranked = list[list[tuple[int, float]]]
"""Slot and score, best first, a query."""


@dataclass(frozen=True)
class Plan:
    """What to rank and how.

    Attributes:
        top_k: results wanted.
        candidates: scored exactly after the scan, at least `top_k`.
        exact: score every row.
        filter: conditions, None: none.
        leave_out: a slot that must not be found, None: none.
        threads: of this search.
    """

    top_k: int
    candidates: int
    exact: bool
    filter: Filter | None
    leave_out: int | None
    threads: int


def rank(view: View, embeddings: FloatArray, codes: CodeArray | None, plan: Plan, budget: Budget) -> Ranked:
    """The best slots for each query; equal scores by item id.

    Args:
        embeddings: (Q, D) float32.
        codes: (Q, W) uint8; None: every row is scored.
    Raises:
        FilterInvalid: the filter does not fit the fields.
        DeadlineExceeded, Cancelled: nobody waits any more.
    """
    budget.check()
    mask, allowed = _time("filter", lambda: _allow(view, plan, budget))
    budget.check()
    few = allowed <= plan.candidates or (bool(plan.filter) and allowed < _SCORE_ALL_RATIO * view.live)
    if not allowed:
        return [[] for _ in embeddings]
    if codes is None or plan.exact or few:
        slots = _allowed_slots(view, mask)
        return _time("rerank", lambda: _score_all(view, embeddings, slots, plan, budget))
    return _scan_and_score(view, embeddings, codes, mask, plan, budget)


def _allow(view: View, plan: Plan, budget: Budget) -> tuple[CodeArray | None, int]:
    """Packed mask of the slots that may be found (None: all), and their number."""
    if not plan.filter and plan.leave_out is None:
        return view.mask, view.live
    keep = view.alive[: view.count].copy()
    if plan.filter:
        keep &= match(plan.filter, view.slots.columns, view.count, budget)
    if plan.leave_out is not None:
        keep[plan.leave_out] = False
    return np.packbits(keep, bitorder="little"), int(np.count_nonzero(keep))


def _allowed_slots(view: View, mask: CodeArray | None) -> SlotArray:
    if mask is None:
        return np.arange(view.count)
    return np.flatnonzero(np.unpackbits(mask, count=view.count, bitorder="little"))


def _scan_and_score(
    view: View, embeddings: FloatArray, codes: CodeArray, mask: CodeArray | None, plan: Plan, budget: Budget
) -> Ranked:
    """The nearest codes, scored: some queries at a time, for the candidate lists of a whole batch would be large."""
    searched = view.slots.codes[: view.count]
    ranked: Ranked = []
    scan_s = rerank_s = 0.0
    for start in range(0, len(embeddings), _QUERIES_AT_ONCE):
        budget.check()
        part = slice(start, start + _QUERIES_AT_ONCE)
        began = time.perf_counter()
        _, candidates = view.slots.code_index.search(
            searched, codes[part], plan.candidates, mask=mask, threads=plan.threads
        )
        scanned = time.perf_counter()
        ranked += _best(view, embeddings[part], candidates, plan, plan.top_k + 1)
        scan_s, rerank_s = scan_s + scanned - began, rerank_s + time.perf_counter() - scanned
    telemetry.record_stage(_SERVICE, "scan", scan_s)
    telemetry.record_stage(_SERVICE, "rerank", rerank_s)
    return ranked


def _score_all(view: View, embeddings: FloatArray, slots: SlotArray, plan: Plan, budget: Budget) -> Ranked:
    """Every one of `slots` scored, a query at a time: candidate lists of all queries would be large."""
    ranked: Ranked = []
    for embedding in embeddings:
        budget.check()
        ranked += _best(view, embedding[None], slots[None], plan, plan.top_k + 1)
    return ranked


def _best(view: View, embeddings: FloatArray, candidates: SlotArray, plan: Plan, wanted: int) -> Ranked:
    """The best `top_k` of the candidates out of the first `wanted` by score; where the last place is tied, out of as
    many as it takes to see all who share it."""
    width = candidates.shape[1]
    wanted = min(wanted, width)
    rows = view.slots.rows[: view.count]
    scores, slots = native.rerank(rows, embeddings, candidates, wanted, num_threads=plan.threads)
    last = min(plan.top_k, wanted) - 1
    settled = (scores[:, last] > scores[:, -1]) | (slots[:, -1] < 0) | (wanted == width)
    return [
        _cut(view, scores[q], slots[q], plan.top_k)
        if settled[q]
        else _best(view, embeddings[q : q + 1], candidates[q : q + 1], plan, 4 * wanted)[0]
        for q in range(len(embeddings))
    ]


def _cut(view: View, scores: FloatArray, slots: npt.NDArray[np.int64], top_k: int) -> list[tuple[int, float]]:
    """The first `top_k` of results in order of score, equal scores by item id."""
    found = int(np.count_nonzero(slots >= 0))
    head = scores[: min(top_k + 1, found)]
    tied = bool((head[1:] == head[:-1]).any())
    shown = found if tied else min(top_k, found)
    pairs = list(zip(slots[:shown].tolist(), scores[:shown].tolist(), strict=True))
    if tied:
        pairs.sort(key=lambda pair: (-pair[1], view.slots.item_ids[pair[0]]))
    return pairs[:top_k]


def _time(stage: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    try:
        return work()
    finally:
        telemetry.record_stage(_SERVICE, stage, time.perf_counter() - start)
