"""Group commit: order, sharing, and what a failed commit does to those who wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from bowerbird.errors import BowerbirdError, Internal, StorageFull
from services.retrieval.commits import CommitQueue


@dataclass
class Note:
    number: int
    shares: bool = True
    done: bool = False
    error: BowerbirdError | None = None


class Ledger:
    """Commits slowly enough for others to queue up; remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.first = threading.Event()
        self.go = threading.Event()

    def commit(self, group: Sequence[Note]) -> None:
        self.groups.append([note.number for note in group])
        if not self.first.is_set():
            self.first.set()
            assert self.go.wait(10)
        for note in group:
            if note.number == 13:
                raise StorageFull("no space")
            note.done = True


def run(notes: Sequence[Note]) -> tuple[list[list[int]], dict[int, BaseException]]:
    """Groups and errors of notes that come, one after the other, while the first is being committed."""
    ledger, errors = Ledger(), {}
    queue: CommitQueue[Note] = CommitQueue(ledger.commit, max_group=4)

    def submit(note: Note) -> None:
        try:
            queue.submit(note)
        except BowerbirdError as error:
            errors[note.number] = error

    threads = []
    for position, note in enumerate(notes):
        threads.append(threading.Thread(target=submit, args=(note,)))
        threads[-1].start()
        assert ledger.first.wait(10)
        while position and len(queue._waiting) < position:
            pass
    ledger.go.set()
    for thread in threads:
        thread.join()
    return ledger.groups, errors


def test_writers_who_wait_share_a_commit() -> None:
    """All that came during a commit go together with the next, in order, up to the limit of a group."""
    groups, errors = run([Note(number) for number in range(7)])
    assert groups == [[0], [1, 2, 3, 4], [5, 6]]
    assert errors == {}


def test_write_that_does_not_share_is_committed_alone() -> None:
    """Order is kept around it."""
    groups, _ = run([Note(0), Note(1), Note(2, shares=False), Note(3), Note(4)])
    assert groups == [[0], [1], [2], [3, 4]]


def test_failed_commit_fails_its_group_only() -> None:
    """Those who shared it are told; those before and after are not affected."""
    groups, errors = run([Note(0), Note(12), Note(13), Note(14), Note(15), Note(16)])
    assert groups == [[0], [12, 13, 14, 15], [16]]
    assert set(errors) == {13, 14, 15}
    assert all(isinstance(error, StorageFull) for error in errors.values())


def test_fault_of_ours_does_not_leave_others_waiting() -> None:
    """An unexpected exception comes out where it happened; the others get an internal error."""
    started, go = threading.Event(), threading.Event()

    def commit(group: Sequence[Note]) -> None:
        if group[0].number == 0:
            started.set()
            assert go.wait(10)
            group[0].done = True
            return
        raise ZeroDivisionError("bug")

    queue: CommitQueue[Note] = CommitQueue(commit)
    outcomes: list[type[BaseException] | None] = []

    def submit(number: int) -> None:
        try:
            queue.submit(Note(number))
            outcomes.append(None)
        except (BowerbirdError, ZeroDivisionError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(3)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(queue._waiting) < 2:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == sorted(map(str, [None, ZeroDivisionError, Internal]))


def test_error_of_one_write_is_its_own() -> None:
    """A commit may fail single writes by setting their error."""

    def commit(group: Sequence[Note]) -> None:
        for note in group:
            note.error, note.done = StorageFull("mine"), True

    with pytest.raises(StorageFull, match="mine"):
        CommitQueue(commit).submit(Note(1))
