"""The demo corpus: pictures of every source that can be had, with a record each, in one directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from bowerbird.corpora import clients
from bowerbird.corpora.building import BuildReport, build_sources
from bowerbird.corpora.credits import write_credits
from bowerbird.corpora.fetching import Download, FetchReport, Progress, fetch
from bowerbird.corpora.manifest import Source, load_manifest, select
from bowerbird.corpora.plans import PICTURES_DIR, TONES_DIR, Plan, plan_pictures, plan_tones
from bowerbird.corpora.records import ToneRecord, save, save_tones
from bowerbird.corpora.rendering import check_renderer
from bowerbird.corpora.texts import TextRecord, save_texts


def build_demo(
    cache_dir: Path | None,
    out_dir: Path,
    *,
    names: Iterable[str] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    sources: Iterable[Source] | None = None,
    download: Download = clients.download,
) -> BuildReport:
    """What was built: `pictures/<source>/<concept>.<png|jpg>`, `pictures.jsonl`, `texts.jsonl` and `SOURCES.md`.

    Fetches what the cache does not have. What an earlier run has made of the same packages is kept, so that a killed
    run goes on where it was, and a second run changes nothing.

    Args:
        cache_dir: None: `default_cache_dir()`.
        out_dir: where they are; made if it is not there.
        names: sources of the manifest; None: all that are not optional.
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
    made, reports = build_sources(fetched, plans, out_dir, folder=PICTURES_DIR, progress=progress, workers=workers)
    write_credits(out_dir, [report.fetched for report in reports if report.pictures])
    save_texts(out_dir, _list_texts(made))
    return BuildReport(len(made), save(out_dir, [plan.record for plan in made]), tuple(reports), fetched)


def build_tones(
    cache_dir: Path | None,
    out_dir: Path,
    *,
    names: Iterable[str] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    sources: Iterable[Source] | None = None,
    download: Download = clients.download,
) -> BuildReport:
    """What was built: people and hands in five skin tones, `tones/<style>/<concept>--<tone>.png` and `tones.jsonl`.

    Arguments and errors are those of `build_demo`; of `names` only the emoji styles count. The credits are those
    that `build_demo` writes into `SOURCES.md`, since the pictures come from the same packages.
    """
    check_renderer()
    manifest = tuple(load_manifest() if sources is None else sources)
    styles = [source.name for source in select(manifest, names) if source.kind == "emoji"]
    fetched = fetch(styles, cache_dir, progress=progress, sources=manifest, download=download)
    plans, faults = plan_tones(fetched)
    fetched = _mark_unreadable(fetched, faults)
    made, reports = build_sources(fetched, plans, out_dir, folder=TONES_DIR, progress=progress, workers=workers)
    records = [plan.record for plan in made if isinstance(plan.record, ToneRecord)]
    return BuildReport(len(made), save_tones(out_dir, records), tuple(reports), fetched)


def _mark_unreadable(fetched: FetchReport, faults: dict[str, str]) -> FetchReport:
    return FetchReport(
        tuple(
            dataclasses.replace(result, directory=None, state="unreadable", reason=faults[result.source.name])
            if result.source.name in faults
            else result
            for result in fetched.results
        )
    )


def _list_texts(plans: Iterable[Plan]) -> Iterator[TextRecord]:
    for plan in plans:
        for text in plan.original.texts:
            yield TextRecord(plan.record.path, text.field, text.language, text.text)
