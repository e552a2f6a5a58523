"""`bowerbird train embedder` beside the bare forward and backward pass of the same network, in pictures a second.

Ours is the whole command on two tasks: reading and decoding files, augmentation, mixing, both losses, gradient norms,
clipping, AdamW, the weight average, measurements, the progress line. States and validations are left out of the clock:
how often to have them is the user's choice (a state takes as long as the row `state` says). The peers see one batch in
memory, again and again: `forward + backward` of the backbone and projection to a sum of squares, and the same with
AdamW (torch's fused one, which is ours too). Contenders take turns, some steps at a time, with the same threads; ours
ends when as many batches are ready as were when it began.

One thread makes batches and torch has as many as there are processors, as by default. Correctness first: the loss has
fallen over the run.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from benchmarks import report
from bowerbird.models.threads import cpu_budget
from bowerbird.training import state
from bowerbird.training.distributed import Rank
from bowerbird.training.run import StopSignal
from services.embedder import train_config
from services.embedder.train import Run

PICTURES = report.REPOSITORY / "tests/golden/pictures"
ROWS, BATCH, SIZE = 512, 32, 64
MODELS, QUICK_MODELS = ("vit-mini",), ("vit-micro",)
STEPS = 4  # in one sample
LOADER_THREADS = 1
ROUNDS, QUICK_ROUNDS = 5, 3

CONFIG = """
output = "{folder}/run"
[data]
table = "{folder}/table.jsonl"
root = "{pictures}"
image_size = {size}
workers = {workers}
[model]
preset = "{model}"
dimension = 256
[optimizer]
steps = 1000000
batch_size = {batch}
precision = "fp32"
save_every = 1000000
[validation]
every = 0
[[task]]
name = "concept"
kind = "metric"
per_class = 2
[[task]]
name = "style"
kind = "classes"
"""


def write_table(folder: Path) -> None:
    """ROWS rows of the pictures in the repository, each many times."""
    files = sorted(path for path in PICTURES.rglob("*") if path.suffix in (".png", ".jpg"))
    with (folder / "table.jsonl").open("w") as table:
        for row in range(ROWS):
            path = files[row % len(files)]
            labels = {"concept": path.stem, "style": path.parent.name, "split": "train"}
            table.write(json.dumps({"picture": str(path.relative_to(PICTURES)), **labels}) + "\n")


@contextmanager
def start_run(model: str, workers: int) -> Iterator[tuple[Run, Callable[[], None]]]:
    """A run after its first steps, and a function that takes STEPS more."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_table(folder)
        file = folder / "config.toml"
        values = {
            "folder": folder,
            "pictures": PICTURES,
            "size": SIZE,
            "batch": BATCH,
            "model": model,
            "workers": workers,
        }
        file.write_text(CONFIG.format(**values))
        run = Run(train_config.read(file), Rank())
        run.prepare(resume=False)
        loader = stack.enter_context(run.open_loader())
        stop = stack.enter_context(StopSignal())

        def take_steps() -> None:
            for _ in range(STEPS):
                assert run.advance(loader, stop) is None
            futures.wait(loader._pending)  # what is made ahead is paid for here, and not by the peer's clock

        for _ in range(1 + ROWS // BATCH // STEPS):  # an epoch: pictures are decoded once, as in a long run
            take_steps()
        yield run, take_steps


def make_bare(run: Run, *, optimize: bool) -> Callable[[], None]:
    """STEPS passes of the network of the run, on one batch that stays."""
    model, pictures = run.learner.model, torch.randn(BATCH, 3, SIZE, SIZE)
    parameters = [*model.backbone.parameters(), *model.projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-12, fused=True)

    def take_steps() -> None:
        for _ in range(STEPS):
            model(pictures).square().mean().backward()
            if optimize:
                optimizer.step()
            optimizer.zero_grad()

    return take_steps


def check(run: Run) -> float:
    """The last loss as a share of the first; steps were learnt from."""
    rows = [row for row in run.directory.read_metrics() if row["kind"] == "train"]
    ratio = rows[-1]["loss"] / rows[0]["loss"]
    assert ratio < 1, f"the loss rose: {rows[0]['loss']} -> {rows[-1]['loss']}"
    return float(ratio)


def measure(model: str, workers: int, threads: int, rounds: int) -> list[report.Row]:
    """A row a peer, and one of what a state takes."""
    with start_run(model, workers) as (run, take_steps):
        torch.set_num_threads(threads)
        contenders = {
            "ours": take_steps,
            "forward + backward": make_bare(run, optimize=False),
            "forward + backward + AdamW": make_bare(run, optimize=True),
        }
        samples = report.interleave(contenders, rounds)
        loss_ratio = check(run)
        start = time.perf_counter()
        learner = run.learner
        state.save(
            run.directory.states,
            step=learner.step,
            modules=learner.modules,
            optimizer=learner.optimizer,
            ema=learner.ema,
        )
        state_s = time.perf_counter() - start
    ours = samples.pop("ours")
    facts = {
        "name": "train",
        "model": model,
        "size": SIZE,
        "batch": BATCH,
        "loader_threads": workers,
        "torch_threads": threads,
        "pictures_per_s": _rate(ours),
    }
    rest = {"loss_ratio": round(loss_ratio, 3), "state_s": round(state_s, 3)}
    return [
        {
            **facts,
            "peer": peer,
            "peer_pictures_per_s": _rate(seconds),
            "ratio": round(statistics.median(other / mine for mine, other in zip(ours, seconds, strict=True)), 3),
            "ratio_of_minima": round(min(seconds) / min(ours), 3),
            "ours_spread_ms": report.spread(ours),
            "peer_spread_ms": report.spread(seconds),
            **rest,
        }
        for peer, seconds in samples.items()
    ]


def _rate(seconds: list[float]) -> float:
    return round(STEPS * BATCH / statistics.median(seconds), 1)


def main() -> None:
    options = report.make_parser(__doc__).parse_args()
    models, rounds = (QUICK_MODELS, QUICK_ROUNDS) if options.quick else (MODELS, ROUNDS)
    rows = (row for model in models for row in measure(model, LOADER_THREADS, cpu_budget(), rounds))
    report.publish("train", rows, as_json=options.json)


if __name__ == "__main__":
    main()
