"""The evidence for the papers' claims, a table a command:  python -m pipelines.evidence TABLE

Trains what the table compares (3 seeds), examines it on concepts and styles that nothing was trained on, and prints the
table with 95 % bootstrap intervals over concepts and seeds. Results are kept a line a model, so a second call only does
what is missing: Ctrl-C, or --budget-minutes, ends it cleanly and the next call goes on in the middle of a training.

tables:
  cnn              ViT against the CNN as it is, and against the same CNN under the same metric head
  clusters         pretraining on raw labels, on clusters, on random clusters, on clusters of noisy embeddings
  pretraining      pretrained against scratch at 1, 5, 25 and 100 % of the fine-tune labels
  data-size        a quarter, a half and all of the pictures
  binary           what codes of 128 to 2,048 bits lose
  multi-task       one network for all tasks against one a task; with and without masks
  sampled-softmax  5, 10 and 20 % of the labels in the softmax, with and without the log-Q correction
  skin-tone        drawn skin tones, each style left out in turn, beside the classical angle

Sizes stand in pipelines/evidence/recipes.py; --set changes one, e.g. --set finetune_steps=3000 --set image_size=128
--set 'backbone={preset = "vit-mini", stem = "efficientnet-lite0"}'; results are kept apart by recipe.

Writes benchmarks/results/papers/<table>.jsonl (a line a model), .json and .md, and docs/images/papers-<table>.png;
with --quick (a corpus drawn on the spot, tiny networks: proves the path, not the claim) all of it below --work.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bowerbird.errors import BowerbirdError
from bowerbird.training.run import StopSignal
from pipelines.origin import REPOSITORY

from . import drawn, recipes, report
from .bench import Bench, Place, Stopped
from .results import FOLDER, Result, Results, describe_origin, digest
from .studies import PLANS
from .study import Study

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 2, 130
WORK = Path("runs/evidence")
BUDGET_OVER = 15  # SIGTERM: what a scheduler would send


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    options = _parse(argv)
    with StopSignal() as stop:
        timer = _start_timer(stop, options.budget_minutes)
        try:
            place = _draw_place(options.work) if options.quick else Place(options.table, options.root, options.work)
            bench = _open_bench(place, stop, options)
            return run(bench, PLANS[options.study](bench), options)
        except BowerbirdError as error:
            print(f"evidence: {error.message}", file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:  # the second Ctrl-C
            print("evidence: broken off; the same command goes on from the last saved state", file=sys.stderr)
            return EXIT_INTERRUPTED
        finally:
            if timer:
                timer.cancel()


def run(bench: Bench, study: Study, options: argparse.Namespace) -> int:
    """Train and examine what is missing, then print the table of what there is."""
    folder = bench.place.work / "results" if options.quick else FOLDER
    images = bench.place.work / "images" if options.quick else REPOSITORY / "docs" / "images"
    results, found, ended = Results(folder / f"{study.name}.jsonl"), [], False
    for seed in range(options.seeds):
        for arm, source in study.arms.items():
            if seed and not source.is_seeded:
                continue
            recipe = digest(study.name, source, bench.recipe, bench.table_digest)
            result = results.find(arm, seed, recipe)
            if result is None and not ended:
                try:
                    result = measure(bench, study, arm, seed, recipe)
                    results.add(result)
                except Stopped:
                    ended = True
            if result is not None:
                found.append(result)
    if found:
        print(report.render_text(report.write(study, found, folder, images), study.shown))
    if ended:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
    return EXIT_INTERRUPTED if ended and bench.stop.number != BUDGET_OVER else EXIT_OK


def measure(bench: Bench, study: Study, arm: str, seed: int, recipe: str) -> Result:
    """Train one arm from one seed and examine it.

    Raises:
        Stopped: the user or the budget ended it.
    """
    bench.check_stop()
    print(f"{study.name}: {arm}, seed {seed}", file=sys.stderr, flush=True)
    started = time.monotonic()
    model = study.arms[arm].represent(bench, seed)
    samples, facts = study.measure(bench, arm, model)
    return Result(arm, seed, recipe, samples, facts, describe_origin(time.monotonic() - started))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.evidence",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=PLANS, metavar="TABLE", help="see below")
    parser.add_argument("--seeds", type=int, default=recipes.SEEDS, help=f"trainings an arm ({recipes.SEEDS})")
    parser.add_argument("--quick", action="store_true", help="a drawn corpus and tiny networks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a size; repeatable")
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="stop cleanly after this time")
    parser.add_argument("--table", type=Path, default=Path("demo/training.parquet"), help="the training table")
    parser.add_argument("--root", type=Path, default=Path("demo/corpus"), help="folder of its pictures")
    parser.add_argument("--work", type=Path, default=WORK, help=f"for trainings and features ({WORK})")
    return parser.parse_args(argv)


def _open_bench(place: Place, stop: StopSignal, options: argparse.Namespace) -> Bench:
    if options.quick:
        styles = tuple(style.name for style in drawn.STYLES)
        recipe = recipes.change(recipes.QUICK, options.set)
        return Bench(place, recipe, stop, held_out=drawn.HELD_OUT, compared=styles)
    return Bench(place, recipes.change(recipes.FULL, options.set), stop)


def _draw_place(work: Path) -> Place:
    """The drawn corpus with a training table straight from what was drawn, made unless it is there."""
    folder = work / "drawn"
    if not (folder / drawn.TABLE).exists():
        drawn.build(folder)
    return Place(folder / drawn.TABLE, folder, work)


def _start_timer(stop: StopSignal, minutes: float | None) -> threading.Timer | None:
    if minutes is None:
        return None

    def end() -> None:
        stop.number = stop.number or BUDGET_OVER

    timer = threading.Timer(minutes * 60, end)
    timer.daemon = True
    timer.start()
    return timer


if __name__ == "__main__":
    sys.exit(main())
