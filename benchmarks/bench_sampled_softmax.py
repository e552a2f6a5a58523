"""A training step of a softmax over 10^4 to 10^6 labels: sampled with the correction, beside dense and PartialFC's way.

A step is forward, backward to embeddings and rows, and the update of the rows; 128 pictures of 5 Zipf labels each, 128
dimensions, one thread. The contenders take turns; `ratio` is that of times on the clock, `processor_ratio` that of
processor times, the one to look at on a machine that is busy with other work. Memory is the peak of a process of its
own, less what it had before the head was built. The peers:

    dense AdamW      the usual head: every row a parameter, cross-entropy by autograd, fused AdamW
    dense Adagrad    our head at a rate of 1: gradient in closed form, row-wise Adagrad; the harder peer
    uncorrected      PartialFC's method (An et al., CVPR 2022): the batch's rows and uniform ones by top-k of a random
                     number a row, no correction, momentum of the gathered rows

Before the clock starts, our head at a rate of 1 and PartialFC's with all rows must have the dense loss and gradient;
and quality is measured on a multi-label problem whose true posterior is known: cross-entropy against it, over all
labels, and how often the first label is one of the picture's, by 3 seeds.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import report
from benchmarks.label_world import LabelWorld
from services.embedder.losses import RaggedLabels, cosine_logits, init_proxies_, khot_softmax
from services.embedder.sharded_softmax import ShardedSoftmax

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)
DIMENSION, BATCH, LABELS_EACH = 128, 128, 5
SAMPLES, RATES = 8_192, (0.05, 0.1, 0.2)
LEARNING_RATE = 0.01
ROUNDS, BUDGET_S = 9, 90.0
MEMORY_STEPS = 2
WARM_UP = 2  # calls of `report.interleave` before the first sample
QUALITY_RATES = (0.01, 0.05, 0.2)
SEEDS, QUICK_SEEDS = (0, 1, 2), (0,)


class Dense:
    """Cross-entropy over all rows by autograd, and AdamW."""

    def __init__(self, labels: int) -> None:
        self.rows = nn.Parameter(init_proxies_(torch.empty(labels, DIMENSION)))
        self._optimizer = torch.optim.AdamW([self.rows], LEARNING_RATE, fused=True)

    def loss(self, embeddings: Any, targets: RaggedLabels) -> Any:
        return khot_softmax(cosine_logits(embeddings, self.rows), targets)

    def step(self, embeddings: Any, targets: RaggedLabels) -> None:
        self._optimizer.zero_grad()
        self.loss(embeddings, targets).backward()
        self._optimizer.step()


class Uncorrected:
    """PartialFC's method on one process: its rows of a step, k-hot cross-entropy over them, SGD with momentum."""

    def __init__(self, labels: int, samples: int) -> None:
        self.rows, self._samples = init_proxies_(torch.empty(labels, DIMENSION)), samples
        self._momentum = torch.zeros_like(self.rows)

    def loss(self, embeddings: Any, targets: RaggedLabels) -> Any:
        positives = torch.unique(targets.ids)
        chance = torch.rand(len(self.rows))
        chance[positives] = 2  # always among the largest
        count = max(self._samples, len(positives))
        self._places = torch.topk(chance, count, sorted=False).indices.sort().values
        self._gathered = self.rows[self._places].requires_grad_()
        local = RaggedLabels(targets.offsets, torch.searchsorted(self._places, targets.ids), targets.weights)
        return khot_softmax(cosine_logits(embeddings, self._gathered), local)

    def step(self, embeddings: Any, targets: RaggedLabels) -> None:
        self.loss(embeddings, targets).backward()
        momentum = self._momentum[self._places].mul_(0.9).add_(self._gathered.grad)
        self._momentum[self._places] = momentum
        self.rows.index_add_(0, self._places, momentum, alpha=-LEARNING_RATE)


class Sampled:
    """Our head."""

    def __init__(self, labels: int, rate: float) -> None:
        self.head = ShardedSoftmax(labels, DIMENSION, sample_rate=rate, frequencies=zipf(labels) if rate < 1 else None)
        self._step = 0

    def step(self, embeddings: Any, targets: RaggedLabels) -> None:
        self._step += 1
        self.head(embeddings, targets, step=self._step).backward()
        self.head.update(LEARNING_RATE)


def contenders(labels: int) -> dict[str, Callable[[], Any]]:
    """What makes each of them; ours begin with `sampled`."""
    samples = {f"{rate:.0%}": round(rate * labels) for rate in RATES}
    if labels > SAMPLES / max(RATES):
        samples[str(SAMPLES)] = SAMPLES
    return {
        "dense AdamW": lambda: Dense(labels),
        "dense Adagrad": lambda: Sampled(labels, 1),
        **{f"sampled {name}": partial(Sampled, labels, count / labels) for name, count in samples.items()},
        **{f"uncorrected {name}": partial(Uncorrected, labels, count) for name, count in samples.items()},
    }


def zipf(labels: int) -> Any:
    """(N,) float64: pictures of each label, the first the most frequent."""
    return (1e7 / torch.arange(1, labels + 1, dtype=torch.float64)).numpy()


def make_batch(labels: int) -> tuple[Any, RaggedLabels]:
    """Embeddings (128, 128) that want a gradient, and 5 labels each."""
    generator = torch.Generator().manual_seed(0)
    # Ranks of a law of Zipf are log-uniform.
    ranks = (labels ** torch.rand(BATCH, LABELS_EACH, generator=generator, dtype=torch.float64)).long() - 1
    embeddings = torch.randn(BATCH, DIMENSION, generator=generator).requires_grad_()
    return embeddings, RaggedLabels.from_lists(ranks.tolist())


def check(labels: int = 3_000) -> None:
    """All of them, with all rows, have the loss and the gradient of the embeddings of the dense softmax."""
    (embeddings, targets), dense = make_batch(labels), Dense(labels)
    ours, theirs = Sampled(labels, 1), Uncorrected(labels, labels)
    ours.head.weight, theirs.rows = dense.rows.detach().clone(), dense.rows.detach().clone()
    losses = [dense.loss(embeddings, targets), ours.head(embeddings, targets, step=0), theirs.loss(embeddings, targets)]
    gradients = [torch.autograd.grad(loss, embeddings)[0] for loss in losses]
    for loss, gradient in zip(losses, gradients, strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-6)


def measure_quality(seeds: tuple[int, ...]) -> Iterator[report.Row]:
    """One row a way of sampling: means over the seeds, and their smallest and largest."""
    world = LabelWorld()
    ways: dict[str, dict[str, Any]] = {"full": {"sample_rate": 1.0}}
    for rate in QUALITY_RATES:
        ways[f"sampled {rate:.0%}"] = {"sample_rate": rate, "frequencies": world.frequencies}
        ways[f"sampled {rate:.0%}, uniform draws"] = {"sample_rate": rate}
        ways[f"uncorrected {rate:.0%}"] = {"sample_rate": rate, "corrected": False}
    yield {"name": "quality of the true posterior itself", **world.judge(world.posterior.log())}
    for way, options in ways.items():
        runs = [world.judge(world.train(seed, **options)) for seed in seeds]
        measured = {key: [run[key] for run in runs] for key in runs[0]}
        means = {key: round(statistics.mean(values), 4) for key, values in measured.items()}
        spread = {f"{key}_spread": {"min": min(values), "max": max(values)} for key, values in measured.items()}
        yield {"name": f"quality, {way}", **means, "seeds": len(seeds), **spread}


def measure_times(labels: int, budget_s: float) -> Iterator[report.Row]:
    """Of each of ours, one row a dense peer and one of the peer with as many samples; with the peak memory of both."""
    memory = {name: measure_memory(name, labels) for name in contenders(labels)}
    batch = make_batch(labels)
    processor: dict[str, list[float]] = {name: [] for name in memory}
    steps = {
        name: partial(note_processor_time, partial(make().step, *batch), processor[name])
        for name, make in contenders(labels).items()
    }
    clock = report.interleave(steps, ROUNDS, budget_s=budget_s)
    for ours in (name for name in steps if name.startswith("sampled")):
        peers = ["dense AdamW", "dense Adagrad", ours.replace("sampled", "uncorrected")]
        title = f"{ours}, {labels} labels x {DIMENSION}"
        for row in report.make_rows(title, clock[ours], {peer: clock[peer] for peer in peers}, {}):
            spent = [statistics.median(processor[name][WARM_UP:]) for name in (ours, row["peer"])]
            yield {
                **{key: value for key, value in row.items() if "floor" not in key},
                "processor_ratio": round(spent[1] / spent[0], 2),
                "ours_processor_ms": round(spent[0] * 1e3, 2),
                "peer_processor_ms": round(spent[1] * 1e3, 2),
                "ours_mib": memory[ours],
                "peer_mib": memory[row["peer"]],
            }


def note_processor_time(step: Callable[[], None], seconds: list[float]) -> None:
    """Run the step and note what it took."""
    before = time.process_time()
    step()
    seconds.append(time.process_time() - before)


def measure_memory(name: str, labels: int) -> float:
    """MiB at the peak of a process that makes the head and some steps, less what torch and the batch take."""
    command = [sys.executable, "-m", "benchmarks.bench_sampled_softmax", "--memory-of", name, str(labels)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=report.REPOSITORY).stdout)


def print_memory(name: str, labels: int) -> None:
    """The measured side of `measure_memory`."""
    small, batch = 1_000, make_batch(labels)
    Dense(small).step(*make_batch(small))  # what the first step of a process loads
    before = _peak_mib()
    head = contenders(labels)[name]()
    for _ in range(MEMORY_STEPS):
        head.step(*batch)
    print(round(_peak_mib() - before, 1))


def _peak_mib() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def measure(*, quick: bool) -> Iterator[report.Row]:
    yield from measure_quality(QUICK_SEEDS if quick else SEEDS)
    for labels in QUICK_SIZES if quick else SIZES:
        yield from measure_times(labels, BUDGET_S / 10 if quick else BUDGET_S)


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument("--memory-of", nargs=2, metavar=("NAME", "LABELS"), help="one contender's peak, for ourselves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        name, labels = options.memory_of
        return print_memory(name, int(labels))
    check()
    report.publish("sampled-softmax", measure(quick=options.quick), as_json=options.json, keep=not options.quick)
    return None


if __name__ == "__main__":
    main()
