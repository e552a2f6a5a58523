"""The demo from nothing: fetch pictures, start services, index, search, and write a page with what was found.

`make demo` runs it. What is there already is kept, so a second run takes seconds. The services stay up.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bowerbird import corpora
from bowerbird.cli import contest, options, outcome, processes, quality, sheet, showcase, up
from bowerbird.cli.eval import STYLES
from bowerbird.cli.flow import Interrupt
from bowerbird.cli.index import summarize
from bowerbird.cli.indexing import Tally, index_roots
from bowerbird.cli.options import Options
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.processes import Home, Running
from bowerbird.cli.sources import RECORDS_FILE, count_sources
from bowerbird.errors import BowerbirdError
from bowerbird.evaluation import Pictures, rank_pairs
from bowerbird.progress import Progress, format_duration
from bowerbird.rpc.clients import Connection, DetectorClient, EmbedderClient, Item, RetrievalClient, connect

STEPS = 4
LEAD = (
    "Real pictures, indexed on this machine and searched over gRPC: drawings by six artists, clip-art, photographs and "
    "cut-outs. Each card is one search, the query on the left; the number is the cosine of the two embeddings."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the demo."""
    parser = argparse.ArgumentParser(prog="python -m bowerbird.cli.demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("demo"), help="for the pictures (./demo)")
    parser.add_argument("--html", type=Path, default=Path("demo.html"), help="the page to write (./demo.html)")
    parser.add_argument("--only", metavar="A,B,...", help="names of picture sources; default: all")
    parser.add_argument("--refresh", action="store_true", help="try again to fetch sources that were missing")
    chosen = parser.parse_args(argv)
    started = time.monotonic()
    try:
        corpus = build_corpus(chosen.dir / "corpus", chosen.only, refresh=chosen.refresh)
        running = start_services()
        with connect(running.target) as connection:
            index_corpus(connection, corpus)
            write_page(connection, chosen.dir, chosen.html)
    except CommandFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except BowerbirdError as error:
        print(f"demo: {error.message}", file=sys.stderr)
        return outcome.EXIT_FAILED
    except KeyboardInterrupt:
        print("\ndemo: interrupted; run it again to go on from here", file=sys.stderr)
        return outcome.EXIT_INTERRUPTED
    print_next(chosen.html, corpus, chosen.dir / "scene.jpg", time.monotonic() - started)
    return outcome.EXIT_OK


def build_corpus(folder: Path, only: str | None, *, refresh: bool) -> Path:
    """The folder with the pictures, fetched and made unless it is there.

    Raises:
        CommandFailed: not one source could be fetched.
    """
    _say(1, "pictures")
    if (folder / RECORDS_FILE).exists() and not refresh:
        print(f"  {count_sources(folder.absolute()):,} pictures are in {folder} already")
        return folder
    report = corpora.build_demo(None, folder, names=only.split(",") if only else None, progress=FetchProgress())
    for source in report.sources:
        state = f"{source.pictures:,} pictures" if source.pictures else source.fetched.state
        reason = f" ({source.fetched.reason})" if source.fetched.reason else ""
        if source.pictures or reason:
            print(f"  {source.fetched.source.name:<14} {state}{reason}")
    if not report.pictures:
        (folder / RECORDS_FILE).unlink(missing_ok=True)  # an empty corpus must not count as a finished one
        raise CommandFailed("no source of pictures could be fetched; npm, pip and apt-get are tried, see above")
    print(f"  {report.pictures:,} pictures in {folder}")
    if any(source.fetched.directory is None for source in report.sources):
        print("  what is missing is fetched later with: .venv/bin/python -m bowerbird.cli.demo --refresh")
    return folder


def start_services() -> Running:
    """The services of this folder, started unless they run; on any free port where the usual one is taken.

    Raises:
        CommandFailed: they cannot start.
    """
    _say(2, "services")
    home = Home(processes.home_directory())
    running = home.running()
    if running is None:
        start = time.monotonic()
        wanted = Options(data=None, host=None, port=None, admin_port=None, config=None, foreground=False)
        try:
            processes.choose_port("127.0.0.1", int(options.DEFAULT_TARGET.rpartition(":")[2]))
        except CommandFailed:
            wanted.port = 0
        running = up.start(wanted, home)
        print(f"  ready after {time.monotonic() - start:.1f} s at {running.target}, log in {running.log}")
    else:
        print(f"  they run already at {running.target}")
    return running


def index_corpus(connection: Connection, corpus: Path) -> None:
    """Index what is new in the corpus.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with everything in flight written.
    """
    _say(3, "index")
    root = corpus.absolute()
    tally, progress = Tally(), Progress(count_sources(root), "pictures")
    with Interrupt() as interrupt:
        index_roots(
            connection, [root], index=options.DEFAULT_INDEX, tally=tally, progress=progress, interrupt=interrupt
        )
        progress.finish()
    print("  " + summarize(tally, progress.elapsed_s, options.DEFAULT_INDEX).replace("\n", "\n  "))
    if interrupt.stop.is_set():
        raise KeyboardInterrupt


def write_page(connection: Connection, folder: Path, html: Path) -> None:
    """Ask the searches of the demo and write the page."""
    _say(4, "searches")
    groups = showcase.build_groups(connection, options.DEFAULT_INDEX, folder.absolute())
    searches = [search for group in groups for search in group.searches]
    if not searches:
        raise CommandFailed("the corpus has none of the pictures that the demo searches with; fetch more sources")
    index = RetrievalClient(connection).get_index(options.DEFAULT_INDEX)
    facts = {
        "pictures": f"{index.items:,}",
        "searches": str(len(searches)),
        "median search": f"{statistics.median(search.seconds for search in searches) * 1e3:.0f} ms",
        "embedder": EmbedderClient(connection).get_model().model.name,
        **measure_quality(connection),
        "detector": DetectorClient(connection).get_model().model.name,
    }
    sheet.write_sheet(sheet.Sheet("What looks alike", LEAD, groups, facts), html)
    for search in searches:
        best = search.results[0] if search.results else None
        answer = f"{best.title} ({best.note}) {best.score:.3f}" if best else "nothing"
        print(f"  {search.label:<8} {search.title:<22.22} -> {answer}")


def measure_quality(connection: Connection) -> dict[str, str]:
    """What the page says of the quality of search: P@1 on concepts that nothing was trained on, if any are there.

    From the vectors that were just indexed; `bowerbird eval retrieval` says more, with intervals.
    """
    client = RetrievalClient(connection)
    [question] = contest.plan_questions(contest.UNSEEN_CONCEPTS, STYLES, corpora.UNSEEN_STYLE)

    def is_asked(item: Item) -> bool:
        fields = item.fields
        return (
            bool(fields.get("concept")) and fields.get("style") in STYLES and contest.is_unseen(str(fields["concept"]))
        )

    try:
        corpus = quality.load_corpus(client, options.DEFAULT_INDEX, keep=is_asked)
    except CommandFailed:  # only other sources were fetched
        return {}
    styles, concepts = ([str(fields[name]) for fields in corpus.fields] for name in ("style", "concept"))
    standings = rank_pairs(Pictures(styles, concepts, corpus.embeddings, corpus.codes), question.pairs)
    if not standings.concepts:
        return {}
    found = f"{standings.recall(1).mean():.1%}"
    print(f"  P@1 across styles {found}: {len(standings.concepts):,} queries for concepts that were not trained on")
    return {"P@1 across styles": found}


def print_next(html: Path, corpus: Path, scene: Path, seconds: float) -> None:
    """Say what there is now, and what to try."""
    example = next((path for path in sorted(corpus.glob("pictures/*/guitar.png"))), None)
    print(f"\ndone in {format_duration(seconds)}; open {html}\n")
    print("try next")
    if example:
        print(f"  .venv/bin/bowerbird search {example} --html guitar.html")
    if scene.exists():
        print(f"  .venv/bin/bowerbird detect {scene} --draw boxes.png")
    print("  .venv/bin/bowerbird index ~/Pictures --index mine")
    print("  .venv/bin/bowerbird search PICTURE --index mine --html mine.html")
    print("  .venv/bin/bowerbird eval retrieval")
    print("  .venv/bin/bowerbird status")
    print("\nthe services stay up; stop them with: make down")


class FetchProgress:
    """Shows how far fetching and making pictures is: one moving line a label."""

    def __init__(self) -> None:
        self._label, self._progress = "", Progress(0, "")

    def __call__(self, done: int, total: int, label: str) -> None:
        """Take note of a step."""
        if label != self._label:
            self._progress.finish()
            if done < total:
                print(f"  {label}", flush=True)
            self._label, self._progress = label, Progress(total, "steps" if label.startswith("fetch") else "pictures")
            self._progress.done = done
        else:
            self._progress.advance(done - self._progress.done)


def _say(step: int, what: str) -> None:
    print(f"[{step}/{STEPS}] {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
