"""Train an embedder:  python -m services.embedder.train CONFIG.toml [--output DIR] [--resume] [--processes N]

`bowerbird train embedder` is the same. Also under torchrun, for several machines. Any value of the configuration can be
set: --set optimizer.steps=500 --set task.concept.weight=0.5. Pretraining on weak labels is the same command with tasks
of kind multilabel. Ctrl-C finishes the step, saves, and says how to go on; a run killed at any moment goes on from its
last state exactly as if it had not been (on a processor, with as many threads; on a GPU as far as its kernels repeat).

exit codes: 0 done, 1 failed, 2 wrong configuration or usage, 130 interrupted
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from bowerbird.errors import BowerbirdError, StorageFull
from bowerbird.models.checkpoints import load_backbone, read_tensors
from bowerbird.models.efficientnet import load_zoo_weights
from bowerbird.models.threads import cpu_budget
from bowerbird.models.vit import HybridStem
from bowerbird.progress import Progress
from bowerbird.training import plots, state
from bowerbird.training.augment import Augment
from bowerbird.training.distributed import Rank, gather_rows, join, launch, wait_for_all
from bowerbird.training.draws import IntArray
from bowerbird.training.loader import Loader, LoaderStats
from bowerbird.training.run import MODEL_FILE, RunDirectory, StopSignal
from bowerbird.training.state import State

from . import continuity, train_config
from .distill import Distiller, read_teacher
from .learner import Learner, NotFinite, StepReport
from .model import METADATA_KEY, ModelConfig, MultiTaskEmbedder
from .report import Means, describe, list_measures
from .train_config import TrainConfig
from .training_set import TrainingSet, read_training_set
from .validation import summarise

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_SIGNAL = 0, 1, 2, 128
NAMED_PICTURES = 5  # in a message about many


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parse(arguments)
    if options.processes > 1 and "RANK" not in os.environ:
        return launch([sys.executable, "-P", "-m", "services.embedder.train", *arguments], options.processes)
    try:
        output = [f"output={json.dumps(options.output, ensure_ascii=False)}"] if options.output else []
        config = train_config.read(options.config, [*options.set, *output])
        with StopSignal() as stop, join(config.optimizer.device) as rank:
            return Run(config, rank, _resume_command(arguments)).run(stop, resume=options.resume)
    except BowerbirdError as error:
        sys.stderr.write(f"cannot train: {error}\n")
        return EXIT_FAILED if isinstance(error, StorageFull) else EXIT_USAGE
    except OSError as error:  # the disk is full under metrics or plots, or a directory may not be written
        sys.stderr.write(f"cannot go on: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before the step was finished; the last state on disk stands\n")
        return EXIT_SIGNAL + signal.SIGINT


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="bowerbird train embedder",
        description=description.partition(":")[0] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="TOML file; see services/embedder/configs")
    parser.add_argument("--output", metavar="DIR", help="where the run writes, instead of the configuration's `output`")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="ranks to start on this machine")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error(f"--processes: expected 1 or more, got {options.processes}")
    return options


def _resume_command(arguments: Sequence[str]) -> str:
    kept = [argument for argument in arguments if argument != "--resume"]
    return shlex.join(["bowerbird", "train", "embedder", *kept, "--resume"])


class Run:
    """One run on this rank: its data, the learner, and what is written about it."""

    def __init__(self, config: TrainConfig, rank: Rank, resume_command: str = "") -> None:
        self.config, self.rank = config, rank
        self.directory = RunDirectory(config.output)
        self.data: TrainingSet
        self.learner: Learner
        self._resume_command = resume_command
        self._progress = Progress(0, "pictures")
        self._means, self._unreadable = Means(), 0
        self._measures: dict[str, float] = {}
        self._best: float | None = None  # score of the weights that are kept, of this step, with these measures
        self._best_step = 0
        self._fingerprint: dict[str, Any] = {}

    def run(self, stop: StopSignal, *, resume: bool) -> int:
        """Exit code of training to the end, or until stopped.

        Raises:
            ConfigInvalid: another run is writing into the directory, among others.
        """
        with self.directory.claim() if self.rank.is_main else contextlib.nullcontext():
            return self._run(stop, resume=resume)

    def _run(self, stop: StopSignal, *, resume: bool) -> int:
        self.prepare(resume=resume)
        with self.open_loader() as loader:
            while self.learner.step < self.config.optimizer.steps:
                code = self.advance(loader, stop)
                if code is not None:
                    return code
        self._save()
        if self.rank.is_main:
            self._progress.finish()
            self._draw()
        best = f", the weights of step {self._best_step:,}" if self._best_step else ""
        export = shlex.join(["bowerbird", "export", "embedder", str(self.directory.path)])
        self._say(f"done: {self.directory.model}{best}{list_measures(self._measures)}")
        self._say(f"next: {export} --name NAME --zoo DIR")
        return EXIT_OK

    def prepare(self, *, resume: bool) -> None:
        """Read the table, make the network, and go back to the state that is to be resumed."""
        latest = self.directory.open(resume=resume)
        _set_threads(self.config)
        self.data = read_training_set(self.config)
        self.data.sampler.batch(0, self.rank.rank, self.rank.world_size)  # refuses what the ranks cannot share
        self._fingerprint = continuity.fingerprint(self.data)
        self._say(describe(self.data, self.config))
        wait_for_all(self.rank)
        if latest is not None:
            self._tell_changes(latest)
        self.learner = self._make_learner()
        if latest is not None:
            self._restore(latest)
        if latest is None or self.config.optimizer.precision != "auto":
            self._choose_precision()
        if self.rank.is_main:  # not before: a run that is refused leaves the directory as it was
            self.directory.begin(self.config.to_dict(), self.learner.step)
        options = self.config.optimizer
        total, done = (steps * options.batch_size for steps in (options.steps, self.learner.step))
        self._say(f"step {self.learner.step:,}, {_name_of(self.learner.dtype)} on {self.rank.device}")
        self._progress = Progress(total, "pictures", done=done)

    def open_loader(self) -> Loader:
        """The batches that are still to come."""
        data = self.config.data
        size = self.config.backbone.image_size
        return Loader(
            self.data.table,
            self.data.sampler,
            Augment(
                size,
                self.config.make_augmentation(),
                mean=data.mean,
                std=data.std,
                seed=self.config.seed,
                keep_colour=self.data.keep_colour,
            ),
            workers=data.workers,
            start_step=self.learner.step,
            rank=self.rank.rank,
            world_size=self.rank.world_size,
            cache_bytes=data.cache_mib * 2**20,
        )

    def advance(self, loader: Loader, stop: StopSignal) -> int | None:
        """Take one step and what is due after it; the exit code if that is the end of the run."""
        batch = next(loader)
        try:
            step = self.learner.take_step(batch, flag=bool(stop.number))
        except NotFinite:
            return self._give_up(batch.indices)
        if self.rank.is_main:
            self._log(step, loader.stats)
        self._validate_and_save()
        return self._stop(stop) if step.flags else None

    def _make_learner(self) -> Learner:
        config, data = self.config, self.data
        torch.manual_seed(config.seed)
        description = ModelConfig(config.backbone, config.dimension, data.tasks, config.data.mean, config.data.std)
        model = MultiTaskEmbedder(description, seed=config.seed)
        if config.init:
            _load_weights(model, Path(config.init), say=self._say)
        elif isinstance(model.backbone.stem, HybridStem):
            load_zoo_weights(model.backbone.stem.features)
            self._say("the stem starts from the weights of the zoo's efficientnet-lite0")
        distiller = None
        if config.distill.teacher:
            distiller = Distiller(config.dimension, self._read_teacher()).to(self.rank.device)
        model = model.to(self.rank.device)
        if config.optimizer.compile:
            model.compile()
        return Learner(model, data.targets, config, self.rank, distiller)

    def _read_teacher(self) -> Any:
        """Rank 0 computes the vectors, then all read them."""
        arguments = (self.config.distill.teacher, self.data.table, self.data.rows, self.directory.path)
        if self.rank.is_main:
            read_teacher(*arguments)
        wait_for_all(self.rank)
        return read_teacher(*arguments, report=False)

    def _choose_precision(self) -> None:
        options = self.config.optimizer
        size = options.micro_batch_size or options.batch_size // self.rank.world_size
        pictures = torch.zeros(min(size, 32), 3, *self.config.backbone.image_size, device=self.rank.device)
        self.learner.choose_precision(pictures)

    def _log(self, step: StepReport, stats: LoaderStats) -> None:
        options, taken = self.config.optimizer, self.learner.step
        self._means.add(step)
        loss = sum(step.losses.values())
        self._progress.note = f"step {taken:,}  loss {loss:.3f}  {stats.starvation:.0%} waiting for data"
        self._progress.advance(options.batch_size)
        if taken % options.log_every == 0 or taken == options.steps:
            figures = {
                "learning_rate": max(group["lr"] for group in self.learner.optimizer.param_groups),
                "pictures_per_s": round(self._progress.rate, 1),
                "starvation": round(stats.starvation, 4),
                "unreadable": stats.num_faults,
            }
            self.directory.log("train", taken, {**self._means.take(), **figures})
        if stats.num_faults > self._unreadable:
            self._unreadable, first = stats.num_faults, stats.faults[0]
            some = f"{stats.num_faults:,} pictures cannot be read, others stand in"
            self._say(f"{some}; the first: {first.name}: {first.reason}")

    def _validate_and_save(self) -> None:
        """At their steps; both are done at the end of a run in any case."""
        step, options, every = self.learner.step, self.config.optimizer, self.config.validation.every
        at_end = step == options.steps
        if self.data.validation is not None and (at_end or step % every == 0):
            self._validate()
        if step % options.save_every == 0 and not at_end:
            self._save()

    def _validate(self) -> None:
        assert self.data.validation is not None
        with self._averaged():
            measures = self.data.validation.measure(self.learner.model, self.rank)
        if unread := self.data.validation.unread:
            some = f"{len(unread):,} of {len(self.data.validation):,} validation pictures cannot be read"
            self._say(f"{some} and are left out; the first: {unread[0]}")
        score = summarise(measures, self.data.tasks, self.config.validation.best_by)
        better = score is not None and (self._best is None or score > self._best)
        if better or self._best is None:
            self._best, self._best_step, self._measures = score, self.learner.step, measures
        if self.rank.is_main:
            self.directory.log("validation", self.learner.step, {"measures": measures, "score": score})
            if better:
                self._write_model()
            self._draw()
        remark = "  (best so far)" if better else "" if score is not None else "  (no score: the last weights are kept)"
        self._say(f"step {self.learner.step:,}{list_measures(measures)}{remark}")

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return self.learner.ema.swap() if self.learner.ema is not None else contextlib.nullcontext()

    def _write_model(self) -> None:
        """The weights as they are served: averaged, in one file that says what they are."""
        with self._averaged():
            tensors = {name: tensor.cpu().contiguous() for name, tensor in self.learner.model.state_dict().items()}
            description = self.learner.model.config.to_dict()
            record = json.dumps({**description, "step": self.learner.step, "measures": self._measures})
            state.write_file(self.directory.model, safetensors.torch.save(tensors, {METADATA_KEY: record}))

    def _save(self) -> Path:
        if self.rank.is_main and self._best is None:  # nothing says which weights are best, so it is the last
            self._write_model()
        return state.save(
            self.directory.states,
            step=self.learner.step,
            modules=self.learner.modules,
            optimizer=self.learner.optimizer,
            ema=self.learner.ema,
            extra={
                "precision": _name_of(self.learner.dtype),
                "best": self._best,
                "best_step": self._best_step,
                "measures": self._measures,
                **self._fingerprint,
            },
            keep=self.config.optimizer.keep,
            rank=self.rank,
        )

    def _tell_changes(self, latest: State) -> None:
        """What is not as it was when the state was saved; raises ConfigInvalid where it cannot go on so."""
        changes = continuity.check_data(latest, self._fingerprint)
        before = self.directory.read_config()
        changes += continuity.list_changes(before, self.config.to_dict()) if before else []
        if changes:
            self._say("\n  ".join(["this is not quite the run that was stopped:", *changes]))

    def _restore(self, latest: State) -> None:
        learner = self.learner
        latest.restore(modules=learner.modules, optimizer=learner.optimizer, ema=learner.ema, rank=self.rank)
        learner.step, learner.dtype = latest.step, getattr(torch, latest.extra["precision"])
        self._best, self._best_step = latest.extra["best"], latest.extra.get("best_step", 0)
        self._measures = latest.extra.get("measures", {})

    def _stop(self, stop: StopSignal) -> int:
        path = self._save()
        self._say(f"stopped after step {self.learner.step:,}, saved in {path}\ngo on with: {self._resume_command}")
        return EXIT_SIGNAL + (stop.number or signal.SIGINT)  # where another rank heard it

    def _give_up(self, rows: IntArray) -> int:
        """Keep the weights of before the step, if they are sound, and say which pictures all ranks had."""
        everyone = gather_rows(torch.from_numpy(rows).to(self.rank.device), self.rank).cpu().numpy()
        tensors = (*self.learner.model.parameters(), *self.learner.model.buffers())
        if all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            self._save()
        if self.rank.is_main:
            names = [self.data.table.name(row) for row in everyone.tolist()]
            content = {"step": self.learner.step, "rows": self.data.rows[everyone].tolist(), "pictures": names}
            record = self.directory.path / "bad_batch.json"
            state.write_file(record, (json.dumps(content, indent=2) + "\n").encode())
            self._say(
                f"the loss is not finite at step {self.learner.step:,}; nothing was learnt from it\n"
                f"its {len(names)} pictures are listed in {record}; the first: {', '.join(names[:NAMED_PICTURES])}\n"
                f"last good state: {state.find_latest(self.directory.states)}\n"
                f"look at the pictures, or lower the learning rate, then: {self._resume_command}"
            )
        return EXIT_FAILED

    def _draw(self) -> None:
        rows = self.directory.read_metrics()
        losses, measures = plots.collect(rows, "train", "losses"), plots.collect(rows, "validation", "measures")
        plots.draw(self.directory.path / "loss.png", losses, ylabel="loss", smooth=True)
        plots.draw(self.directory.path / "recall.png", measures, ylabel="on validation pictures", bounded=True)

    def _say(self, text: str) -> None:
        if self.rank.is_main:
            self._progress.say(text)


def _set_threads(config: TrainConfig) -> None:
    """Share what this process may use of the processors among the ranks of this machine."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(config.optimizer.threads or max(1, cpu_budget() // ranks))


def _load_weights(model: MultiTaskEmbedder, source: Path, *, say: Callable[[str], None]) -> None:
    """Start from a checkpoint, or from another run of ours: its backbone, and its projection where that fits."""
    path = source / MODEL_FILE if source.is_dir() else source
    tensors = read_tensors(path)
    loaded = load_backbone(model.backbone, tensors)
    projection = tensors.get("projection.weight")
    fits = projection is not None and projection.shape == model.projection.weight.shape
    if fits:
        model.projection.load_state_dict({"weight": projection})
    say(f"starting from {path}, layout {loaded.layout}{', with its projection' if fits else ''}")


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main())
