"""Pictures made from plans, in worker processes; what an earlier run has made of the same packages is kept."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from bowerbird.corpora.fetching import FetchedSource, FetchReport, Progress
from bowerbird.corpora.files import replace_file
from bowerbird.corpora.plans import Plan
from bowerbird.corpora.rendering import Task, run_tasks
from bowerbird.errors import Internal

_FORMAT = "1"  # of the pictures; another one makes them all anew
_STAMP = ".made-from"  # beside the pictures of a source: what they were made from
_TASKS_A_CHUNK = 24  # enough to hide the cost of a message, few enough for smooth progress


@dataclasses.dataclass(frozen=True)
class SourceReport:
    """What became of one source of pictures.

    Attributes:
        fetched: how its package was had, or why not.
        pictures: records written.
        made: pictures that were not there already.
        left_out: number of originals by the reason for which they were left out.
        seconds: spent on making them.
    """

    fetched: FetchedSource
    pictures: int
    made: int
    left_out: dict[str, int]
    seconds: float


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What was built: the number of records, where they are, and the sources one by one."""

    pictures: int
    records_file: Path
    sources: tuple[SourceReport, ...]
    fetched: FetchReport


def build_sources(
    fetched: FetchReport,
    plans: dict[str, list[Plan]],
    out_dir: Path,
    *,
    folder: str,
    progress: Progress | None,
    workers: int | None,
) -> tuple[list[Plan], list[SourceReport]]:
    """Plans whose pictures are there now, in order, and what became of each source.

    Args:
        fetched: the sources.
        plans: by the name of the source; a source without any is reported all the same.
        out_dir: to which the paths of the records are relative.
        folder: below `out_dir`; has one directory a source.
        progress: called with (done, total, label).
        workers: processes; 1: in this one. None: as many as CPUs are allowed to this process.
    """
    meter = _Meter(progress, sum(map(len, plans.values())))
    made: list[Plan] = []
    reports: list[SourceReport] = []
    with _open_pool(workers) as pool:
        for result in fetched.results:
            builder = _Builder(out_dir, out_dir / folder / result.source.name, pool, meter)
            made_of_source, report = builder.build(result, plans.get(result.source.name, []))
            made += made_of_source
            reports.append(report)
    return made, reports


@dataclasses.dataclass(frozen=True)
class _Pool:
    executor: Executor
    workers: int


class _Meter:
    """Counts pictures for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int, label: str) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total, label)


@dataclasses.dataclass(frozen=True)
class _Builder:
    """Makes the pictures of one source, which lie in `directory`."""

    out_dir: Path
    directory: Path
    pool: _Pool | None
    meter: _Meter

    def build(self, fetched: FetchedSource, plans: list[Plan]) -> tuple[list[Plan], SourceReport]:
        started = time.monotonic()
        label = f"build {fetched.source.name}"
        if plans:
            _prepare_directory(self.directory, f"{fetched.sha256} {_FORMAT}\n")
        missing = [plan for plan in plans if not (self.out_dir / plan.record.path).exists()]
        if plans:
            self.meter.add(len(plans) - len(missing), label)
        reasons: dict[str, str] = {}
        for chunk, outcome in self._run_chunks(missing):
            reasons |= {plan.record.path: reason for plan, reason in zip(chunk, outcome, strict=True) if reason}
            self.meter.add(len(chunk), label)
        made = [plan for plan in plans if plan.record.path not in reasons]
        left_out = Counter(reason.split(":")[0] for reason in reasons.values())
        seconds = time.monotonic() - started
        return made, SourceReport(fetched, len(made), len(missing) - len(reasons), dict(left_out), seconds)

    def _run_chunks(self, plans: list[Plan]) -> Iterator[tuple[list[Plan], list[str]]]:
        """Chunks of plans with their outcomes, in order; originals are read only a little ahead of their making."""
        chunks = _split(plans)
        if self.pool is None:
            for chunk in chunks:
                yield chunk, run_tasks(self._read_tasks(chunk))
            return
        running: deque[tuple[list[Plan], Future[list[str]]]] = deque()
        for chunk in chunks:
            running.append((chunk, self.pool.executor.submit(run_tasks, self._read_tasks(chunk))))
            if len(running) > 2 * self.pool.workers:
                first, future = running.popleft()
                yield first, future.result()
        for first, future in running:
            yield first, future.result()

    def _read_tasks(self, plans: Sequence[Plan]) -> list[Task]:
        return [Task(plan.original.maker, plan.original.read(), self.out_dir / plan.record.path) for plan in plans]


def _prepare_directory(directory: Path, stamp: str) -> None:
    """Make room for the pictures of a source; those made from another package or in another way go."""
    file = directory / _STAMP
    if file.exists() and file.read_text() == stamp:
        return
    if file.exists():
        shutil.rmtree(directory)
    replace_file(file, stamp.encode())


def _split(plans: list[Plan]) -> Iterator[list[Plan]]:
    rest = iter(plans)
    while chunk := list(islice(rest, _TASKS_A_CHUNK)):
        yield chunk


@contextmanager
def _open_pool(workers: int | None) -> Iterator[_Pool | None]:
    """Worker processes; spawned, since the caller may have threads, which do not survive a fork."""
    count = workers or _count_cpus()
    if count == 1:
        yield None
        return
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield _Pool(executor, count)
    except BrokenProcessPool as error:
        raise Internal("a worker process died, perhaps for lack of memory; run again with one worker") from error
    finally:
        executor.shutdown(cancel_futures=True)


def _count_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
