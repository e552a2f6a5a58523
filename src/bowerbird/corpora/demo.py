"""The demo corpus: pictures of every source that can be had, with a record each, in one directory."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from bowerbird.corpora import clients
from bowerbird.corpora.credits import write_credits
from bowerbird.corpora.fetching import Download, FetchedSource, FetchReport, Progress, fetch
from bowerbird.corpora.files import replace_file
from bowerbird.corpora.manifest import Source
from bowerbird.corpora.plans import PICTURES_DIR, Plan, plan_pictures
from bowerbird.corpora.records import save
from bowerbird.corpora.rendering import Task, check_renderer, run_tasks
from bowerbird.corpora.texts import TextRecord, save_texts
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
class DemoReport:
    """What `build_demo` did: the number of records, where they are, and the sources one by one."""

    pictures: int
    records_file: Path
    sources: tuple[SourceReport, ...]
    fetched: FetchReport


def build_demo(
    cache_dir: Path | None,
    out_dir: Path,
    *,
    names: Iterable[str] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    sources: Iterable[Source] | None = None,
    download: Download = clients.download,
) -> DemoReport:
    """What was built: `pictures/<source>/<concept>.<png|jpg>`, `pictures.jsonl`, `texts.jsonl` and `SOURCES.md`.

    Fetches what the cache does not have. What an earlier run has made of the same packages is kept, so that a killed
    run goes on where it was, and a second run changes nothing.

    Args:
        cache_dir: None: `default_cache_dir()`.
        out_dir: where they are; made if it is not there.
        names: sources of the manifest; None: all.
        progress: called with (done, total, label): sources while fetching, pictures while building.
        workers: processes; 1: in this one. None: as many as CPUs are allowed to this process.
        sources: None: the manifest that ships with Bowerbird.
        download: as for `fetch`.
    Raises:
        ArgumentInvalid: a name is not in the manifest.
        PackageUnavailable: the SVG renderer is not installed.
    """
    check_renderer()
    fetched = fetch(names, cache_dir, progress=progress, sources=sources, download=download)
    plans, faults = plan_pictures(fetched)
    fetched = _mark_unreadable(fetched, faults)
    meter = _Meter(progress, sum(map(len, plans.values())))
    made: list[Plan] = []
    reports: list[SourceReport] = []
    with _open_pool(workers) as pool:
        for result in fetched.results:
            made_of_source, report = _build_source(result, plans.get(result.source.name, []), out_dir, pool, meter)
            made += made_of_source
            reports.append(report)
    write_credits(out_dir, [report.fetched for report in reports if report.pictures])
    save_texts(out_dir, _list_texts(made))
    return DemoReport(len(made), save(out_dir, [plan.record for plan in made]), tuple(reports), fetched)


def _list_texts(plans: Iterable[Plan]) -> Iterator[TextRecord]:
    for plan in plans:
        for text in plan.original.texts:
            yield TextRecord(plan.record.path, text.field, text.language, text.text)


def _mark_unreadable(fetched: FetchReport, faults: dict[str, str]) -> FetchReport:
    return FetchReport(
        tuple(
            dataclasses.replace(result, directory=None, state="unreadable", reason=faults[result.source.name])
            if result.source.name in faults
            else result
            for result in fetched.results
        )
    )


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


def _build_source(
    fetched: FetchedSource, plans: list[Plan], out_dir: Path, pool: _Pool | None, meter: _Meter
) -> tuple[list[Plan], SourceReport]:
    """Plans of one source whose pictures are there now, in order."""
    started = time.monotonic()
    if plans:
        _prepare_directory(out_dir / PICTURES_DIR / fetched.source.name, f"{fetched.sha256} {_FORMAT}\n")
    missing = [plan for plan in plans if not (out_dir / plan.record.path).exists()]
    if plans:
        meter.add(len(plans) - len(missing), f"build {fetched.source.name}")
    reasons: dict[str, str] = {}
    for chunk, outcome in _run_chunks(missing, out_dir, pool):
        reasons |= {plan.record.path: reason for plan, reason in zip(chunk, outcome, strict=True) if reason}
        meter.add(len(chunk), f"build {fetched.source.name}")
    made = [plan for plan in plans if plan.record.path not in reasons]
    left_out = Counter(reason.split(":")[0] for reason in reasons.values())
    seconds = time.monotonic() - started
    return made, SourceReport(fetched, len(made), len(missing) - len(reasons), dict(left_out), seconds)


def _prepare_directory(directory: Path, stamp: str) -> None:
    """Make room for the pictures of a source; those made from another package or in another way go."""
    file = directory / _STAMP
    if file.exists() and file.read_text() == stamp:
        return
    if file.exists():
        shutil.rmtree(directory)
    replace_file(file, stamp.encode())


def _run_chunks(plans: list[Plan], out_dir: Path, pool: _Pool | None) -> Iterator[tuple[list[Plan], list[str]]]:
    """Chunks of plans with their outcomes, in order; originals are read only a little ahead of their making."""
    chunks = _split(plans)
    if pool is None:
        for chunk in chunks:
            yield chunk, run_tasks(_read_tasks(chunk, out_dir))
        return
    running: deque[tuple[list[Plan], Future[list[str]]]] = deque()
    for chunk in chunks:
        running.append((chunk, pool.executor.submit(run_tasks, _read_tasks(chunk, out_dir))))
        if len(running) > 2 * pool.workers:
            first, future = running.popleft()
            yield first, future.result()
    for first, future in running:
        yield first, future.result()


def _split(plans: list[Plan]) -> Iterator[list[Plan]]:
    rest = iter(plans)
    while chunk := list(islice(rest, _TASKS_A_CHUNK)):
        yield chunk


def _read_tasks(plans: list[Plan], out_dir: Path) -> list[Task]:
    return [Task(plan.original.maker, plan.original.read(), out_dir / plan.record.path) for plan in plans]


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
