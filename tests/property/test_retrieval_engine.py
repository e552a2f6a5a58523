"""The engine against a dict and an exact NumPy search, over random histories with restarts and restores."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bowerbird.errors import FieldTypeMismatch, ItemNotFound
from services.retrieval import live
from services.retrieval.config import BACKENDS, RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.filters import Clause, Filter, Op
from services.retrieval.items import Item, SearchParams

D, BITS, NAME = 8, 64, "pictures"
SCORE_TOLERANCE = 1e-5  # float32 sums in another order
ids = st.sampled_from([f"id-{n:02d}" for n in range(25)] + ["ä", "z" * 512])
fields = st.fixed_dictionaries(
    {},
    optional={
        "year": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
        "style": st.sampled_from(["noto", "fluent", "", "ß"]),
        "price": st.floats(allow_nan=False) | st.sampled_from([0.5, 1.5]),
        "sold": st.booleans(),
    },
)
batches = st.lists(st.tuples(ids, st.integers(0, 30), fields), min_size=1, max_size=8)
values = {
    "year": st.integers(-1, 4),
    "style": st.sampled_from(["noto", "fluent", "m"]),
    "price": st.sampled_from([0.5, 1.0, 1.5]),
    "sold": st.booleans(),
}


@st.composite
def clauses(draw: st.DrawFn) -> Clause:
    field = draw(st.sampled_from(sorted(values)))
    ordered = [Op.LT, Op.LE, Op.GT, Op.GE] if field != "sold" else []
    op = draw(st.sampled_from([Op.EQ, Op.IN, Op.EXISTS, *ordered]))
    count = {Op.EXISTS: 0, Op.IN: 2}.get(op, 1)
    return Clause(field, op, tuple(draw(values[field]) for _ in range(count)), draw(st.booleans()))


filters = st.builds(
    Filter, all_of=st.lists(clauses(), max_size=2).map(tuple), any_of=st.lists(clauses(), max_size=2).map(tuple)
)


def holds(clause: Clause, held: dict[str, object]) -> bool:
    """What a clause means, in plain Python."""
    value = held.get(clause.field)
    if clause.op is Op.EXISTS:
        found = value is not None
    elif value is None:
        found = False
    elif clause.op in (Op.EQ, Op.IN):
        found = value in clause.values
    else:
        (limit,) = clause.values
        found = {Op.LT: value < limit, Op.LE: value <= limit, Op.GT: value > limit, Op.GE: value >= limit}[clause.op]  # type: ignore[operator]
    return found != clause.negate


def passes(wanted: Filter, held: dict[str, object]) -> bool:
    return all(holds(clause, held) for clause in wanted.all_of) and (
        not wanted.any_of or any(holds(clause, held) for clause in wanted.any_of)
    )


def row_of(seed: int) -> np.ndarray:
    row = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    return row / np.linalg.norm(row)


def code_of(seed: int) -> np.ndarray:
    return np.packbits(np.resize(row_of(seed), BITS) > 0)


class EngineMachine(RuleBasedStateMachine):
    """Every answer of the engine is the model's."""

    backend = "native"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.compact_always = mock.patch.object(live, "_COMPACT_ABOVE_SLOTS", 0)
        self.compact_always.start()
        self.config = RetrievalConfig(
            data_dir=self.directory, backend=self.backend, compact_dead_ratio=0.2, checkpoint_bytes=1 << 16
        )
        self.engine = RetrievalEngine.open(self.config)
        self.engine.create_index(NAME, dimension=D, code_bits=BITS)
        self.model: dict[str, tuple[int, dict[str, object]]] = {}
        self.sequence = 0
        self.snapshots: list[tuple[str, dict[str, tuple[int, dict[str, object]]], int]] = []

    @initialize()
    def declare_fields(self) -> None:
        """Every field is known from the start, so that any filter is valid."""
        self.upsert([("id-00", 0, {"year": 1, "style": "noto", "price": 0.5, "sold": True})])

    @rule(batch=batches)
    def upsert(self, batch: list[tuple[str, int, dict[str, object]]]) -> None:
        items = [Item(item_id, row_of(seed), code_of(seed), held) for item_id, seed, held in batch]  # type: ignore[arg-type]
        done = self.engine.upsert_items(NAME, items)
        self.sequence += 1
        self.model.update({item_id: (seed, held) for item_id, seed, held in batch})
        assert (done.sequence, done.written, done.faults) == (self.sequence, len({item[0] for item in batch}), {})

    @rule(item_id=ids)
    def refuse_another_type(self, item_id: str) -> None:
        done = self.engine.upsert_items(NAME, [Item(item_id, row_of(1), code_of(1), {"year": "MMXXVI"})])
        assert (done.written, done.sequence, type(done.faults[0])) == (0, self.sequence, FieldTypeMismatch)

    @rule(chosen=st.lists(ids, min_size=1, max_size=5))
    def delete_by_id(self, chosen: list[str]) -> None:
        present = {item_id for item_id in chosen if item_id in self.model}
        self.sequence += bool(present)
        done = self.engine.delete_items(NAME, item_ids=chosen)
        assert (done.deleted, done.sequence) == (len(present), self.sequence)
        for item_id in present:
            del self.model[item_id]

    @rule(wanted=filters.filter(bool))
    def delete_by_filter(self, wanted: Filter) -> None:
        present = {item_id for item_id, (_, held) in self.model.items() if passes(wanted, held)}
        self.sequence += bool(present)
        done = self.engine.delete_items(NAME, filter=wanted)
        assert (done.deleted, done.sequence) == (len(present), self.sequence)
        for item_id in present:
            del self.model[item_id]

    @rule(seed=st.integers(0, 40), wanted=st.none() | filters, top_k=st.integers(1, 40), exact=st.booleans())
    def search(self, seed: int, wanted: Filter | None, top_k: int, exact: bool) -> None:
        params = SearchParams(top_k=top_k, filter=wanted, exact=exact, return_fields=("*",))
        found = self.engine.search(NAME, row_of(seed)[None], code_of(seed)[None], params)
        assert found.sequence == self.sequence
        expected = self.expect(row_of(seed), wanted, leave_out="")
        self.compare(found.hits[0], expected, top_k)

    @rule(seed=st.integers(0, 40), top_k=st.integers(1, 10))
    def search_by_scan(self, seed: int, top_k: int) -> None:
        """With as many candidates as results, the answer is the nearest codes, ordered by score."""
        params = SearchParams(top_k=top_k, rerank=top_k, return_fields=("*",))
        (hits,) = self.engine.search(NAME, row_of(seed)[None], code_of(seed)[None], params).hits
        if len(self.model) <= top_k:
            self.compare(hits, self.expect(row_of(seed), None, leave_out=""), top_k)
            return
        far = {
            item_id: int(np.unpackbits(code_of(held) ^ code_of(seed)).sum())
            for item_id, (held, _) in self.model.items()
        }
        assert sorted(far[hit.item_id] for hit in hits) == sorted(far.values())[:top_k]
        scores = {item_id: score for score, item_id in self.expect(row_of(seed), None, leave_out="")}
        np.testing.assert_allclose(
            [hit.score for hit in hits], [scores[hit.item_id] for hit in hits], atol=SCORE_TOLERANCE
        )
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), wanted=st.none() | filters)
    def search_by_item(self, data: st.DataObject, wanted: Filter | None) -> None:
        item_id = data.draw(st.sampled_from(sorted(self.model)))
        found = self.engine.search_item(NAME, item_id, SearchParams(top_k=7, filter=wanted, return_fields=("*",)))
        query = row_of(self.model[item_id][0]).astype(np.float16).astype(np.float32)
        self.compare(found.hits[0], self.expect(query, wanted, leave_out=item_id), 7)

    @rule(wanted=st.none() | filters, size=st.integers(1, 9))
    def list_all(self, wanted: Filter | None, size: int) -> None:
        listed: list[Item] = []
        token = ""
        while True:
            page, token = self.engine.list_items(NAME, page_size=size, page_token=token, filter=wanted)
            listed += page
            if not token:
                break
        expected = sorted(item_id for item_id, (_, held) in self.model.items() if not wanted or passes(wanted, held))
        assert [item.item_id for item in listed] == expected
        assert all(item.fields == self.model[item.item_id][1] for item in listed)

    @rule(item_id=ids)
    def get(self, item_id: str) -> None:
        if item_id not in self.model:
            with pytest.raises(ItemNotFound):
                self.engine.get_item(NAME, item_id)
            return
        seed, held = self.model[item_id]
        item = self.engine.get_item(NAME, item_id, include_vectors=True)
        np.testing.assert_array_equal(item.embedding, row_of(seed).astype(np.float16))
        np.testing.assert_array_equal(item.code, code_of(seed))
        assert item.fields == held

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = RetrievalEngine.open(self.config)

    @rule()
    def snapshot(self) -> None:
        info = self.engine.create_snapshot(NAME)
        assert (info.items, info.sequence) == (len(self.model), self.sequence)
        self.snapshots.append((info.snapshot_id, dict(self.model), self.sequence))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """The index becomes what it was at some snapshot."""
        snapshot_id, model, sequence = data.draw(st.sampled_from(self.snapshots))
        self.engine.delete_index(NAME)
        self.engine.restore_snapshot(snapshot_id, NAME)
        self.model, self.sequence = dict(model), sequence

    @invariant()
    def counts_agree(self) -> None:
        info = self.engine.get_index(NAME)
        assert (info.items, info.sequence) == (len(self.model), self.sequence)

    def teardown(self) -> None:
        self.compact_always.stop()
        self.engine.close()
        shutil.rmtree(self.directory)

    def expect(self, query: np.ndarray, wanted: Filter | None, leave_out: str) -> list[tuple[float, str]]:
        """(score, id) of all items that may be found, best first."""
        scored = [
            (float(row_of(seed).astype(np.float16).astype(np.float32) @ query), item_id)
            for item_id, (seed, held) in self.model.items()
            if item_id != leave_out and (not wanted or passes(wanted, held))
        ]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))

    def compare(self, hits: list, expected: list[tuple[float, str]], top_k: int) -> None:  # type: ignore[type-arg]
        """Same scores in order, same items; equal vectors give equal scores, so their order is by id."""
        assert len(hits) == min(top_k, len(expected))
        np.testing.assert_allclose(
            [hit.score for hit in hits], [score for score, _ in expected[: len(hits)]], atol=SCORE_TOLERANCE
        )
        scores = {item_id: score for score, item_id in expected}
        for hit in hits:
            assert abs(scores[hit.item_id] - hit.score) <= SCORE_TOLERANCE
            assert hit.fields == self.model[hit.item_id][1]
        keys = [(-hit.score, hit.item_id) for hit in hits]
        assert keys == sorted(keys)


QUICK = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestEngine = EngineMachine.TestCase
TestEngine.settings = QUICK


@pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"auto", "native"}))
def test_other_backends_answer_the_same(backend: str) -> None:
    """Whatever scans the codes, the engine gives the model's answers: few items are all candidates."""
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (EngineMachine,), {"backend": backend})
    run_state_machine_as_test(machine, settings=settings(QUICK, max_examples=5))
