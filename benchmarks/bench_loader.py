"""The loader of training beside torch's DataLoader with the same transform, alone and beside a training step.

Alone: pictures a second with one worker (ours a thread, theirs a process), and core-seconds per 1,000 pictures with all
threads and processes counted. Beside a step of a Vision Transformer, forward, backward and optimiser on all cores: what
is left of the rate that the bare step reaches on one tensor again and again, and the share of time that it waited.

A DataLoader may make a batch a call, as our loader does, or a picture a call, as most programs do. Both keep decoded
pictures too where ours does. Icons of 128 px and few photographs, PNG and JPEG, in the mixture of the test pictures.

Correctness first: all contenders deliver the same bits.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks import report
from bowerbird import images
from bowerbird.models.vit import PRESETS, VisionTransformer
from bowerbird.training.augment import Augment, AugmentConfig
from bowerbird.training.dataset import PictureFiles, PictureTable
from bowerbird.training.loader import Loader
from bowerbird.training.sampler import ShuffledSampler

PICTURES = report.REPOSITORY / "tests/golden/pictures"
ROWS, BATCH, PREFETCH = 512, 64, 2
SIZES = (64, 128)
# Small models ask most of a loader. Batches of one sample, so that a sample lasts about a second.
MODELS = {"vit-nano": 8, "vit-micro": 2}
MEAN = STD = (127.5, 127.5, 127.5)
ALONE_BATCHES = 8  # in one sample
ROUNDS, QUICK_ROUNDS = 3, 1
CACHE_BYTES = 1 << 30
PEERS = ("DataLoader, a batch a call", "DataLoader, a picture a call")

Tensor = Any
Batches = Iterator[Tensor]


def make_table() -> PictureTable:
    """ROWS rows of the pictures in the repository, each many times."""
    files = sorted(path for path in PICTURES.rglob("*") if path.suffix in (".png", ".jpg"))
    return PictureTable(PictureFiles(Path("/"), [str(files[row % len(files)]) for row in range(ROWS)]), {})


class Pictures(Dataset):  # type: ignore[misc]
    """What DataLoader asks for pictures: the same steps as in our loader."""

    def __init__(self, table: PictureTable, transform: Augment, *, keep: bool) -> None:
        self._table, self._transform, self._keep = table, transform, keep
        self._kept: dict[int, Any] = {}

    def prepare(self, index: int) -> Any:
        if index in self._kept:
            return self._kept[index]
        data = self._table.read(index)
        pixels = self._transform.prepare(images.decode(data, min_side=self._transform.min_side).pixels)
        if self._keep:
            self._kept[index] = pixels
        return pixels

    def __getitem__(self, key: tuple[int, Any]) -> Tensor:
        step, rows = key
        indices = np.atleast_1d(rows)
        return self._transform([self.prepare(int(row)) for row in indices], indices, step)


def iterate_ours(table: PictureTable, transform: Augment, *, keep: bool, workers: int, stack: ExitStack) -> Batches:
    loader = Loader(
        table,
        ShuffledSampler(ROWS, BATCH),
        transform,
        workers=workers,
        prefetch=PREFETCH,
        cache_bytes=CACHE_BYTES if keep else 0,
    )
    stack.enter_context(loader)
    return (batch.pictures for batch in loader)


def iterate_peer(table: PictureTable, transform: Augment, *, keep: bool, whole: bool) -> Batches:
    sampler = ShuffledSampler(ROWS, BATCH)
    steps = ((step, sampler.batch(step)) for step in itertools.count())
    options: dict[str, Any]
    if whole:
        options = {"sampler": steps, "batch_size": None}
    else:
        options = {"batch_sampler": ([(step, row) for row in rows] for step, rows in steps), "collate_fn": torch.cat}
    dataset = Pictures(table, transform, keep=keep)
    # By fork, the default of Python 3.11 on Linux, torch's threads of the parent would be copied in a broken state.
    return iter(
        DataLoader(dataset, num_workers=1, prefetch_factor=PREFETCH, multiprocessing_context="forkserver", **options)
    )


def processor_seconds() -> float:
    """Of this process and of its children that are alive."""
    ticks = 0
    for child in multiprocessing.active_children():
        ticks += sum(map(int, Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(
    contenders: dict[str, Batches], use: Callable[[Tensor], object], batches: int, rounds: int
) -> dict[str, list[tuple[float, float, float]]]:
    """(seconds, seconds waited, processor seconds) of each sample, the contenders taking turns.

    What a contender made while the others had their turn is used up before its clock starts.
    """
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
    for round_ in range(rounds):
        for name in list(contenders)[:: 1 if round_ % 2 else -1]:
            for _ in range(PREFETCH + 2):
                use(next(contenders[name]))
            started, processor, waited = time.perf_counter(), processor_seconds(), 0.0
            for _ in range(batches):
                asked = time.perf_counter()
                pictures = next(contenders[name])
                waited += time.perf_counter() - asked
                use(pictures)
            seconds = time.perf_counter() - started
            samples[name].append((seconds, waited, processor_seconds() - processor))
    return samples


def check(contenders: dict[str, Batches]) -> None:
    """Read a whole epoch, which also fills the caches, and compare every bit."""
    for _ in range(ROWS // BATCH):
        first, *others = [next(batches) for batches in contenders.values()]
        assert all(torch.equal(first, other) for other in others)


def measure_alone(size: int, *, keep: bool, rounds: int) -> Iterator[report.Row]:
    """One row a peer: rates of one worker with nothing beside it."""
    table = make_table()
    transform = Augment(size, AugmentConfig.from_preset("strong"), mean=MEAN, std=STD)
    with ExitStack() as stack:
        contenders = {"ours": iterate_ours(table, transform, keep=keep, workers=1, stack=stack)}
        for peer in PEERS:
            contenders[peer] = iterate_peer(table, transform, keep=keep, whole=peer == PEERS[0])
        check(contenders)
        samples = measure(contenders, lambda _: None, ALONE_BATCHES, rounds)
    for peer in PEERS:
        pairs = list(zip(samples["ours"], samples[peer], strict=True))
        yield {
            "name": f"{size} px, {'decoded once' if keep else 'from files'}",
            "peer": peer,
            "pictures_per_s": _median(ALONE_BATCHES * BATCH / ours[0] for ours, _ in pairs),
            "peer_pictures_per_s": _median(ALONE_BATCHES * BATCH / theirs[0] for _, theirs in pairs),
            "ratio": _median(theirs[0] / ours[0] for ours, theirs in pairs),
            "core_s_per_1000": _median(ours[2] / (ALONE_BATCHES * BATCH) * 1000 for ours, _ in pairs),
            "peer_core_s_per_1000": _median(theirs[2] / (ALONE_BATCHES * BATCH) * 1000 for _, theirs in pairs),
            "rounds": rounds,
        }


def make_step(name: str) -> Callable[[Tensor], object]:
    """Forward, backward and optimiser of the model on a batch."""
    torch.manual_seed(0)
    model = VisionTransformer(PRESETS[name])
    head = torch.nn.Linear(PRESETS[name].width, 1000)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()])
    labels = torch.arange(BATCH)

    def step(pictures: Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(model(pictures)), labels).backward()
        optimizer.step()

    return step


def measure_beside_step(model: str, batches: int, rounds: int) -> Iterator[report.Row]:
    """One row a way of loading: what is left of the bare step's rate. All decode once."""
    table = make_table()
    size = PRESETS[model].image_size
    transform = Augment(size, AugmentConfig.from_preset("strong"), mean=MEAN, std=STD)
    with ExitStack() as stack:
        contenders = {
            "ours": iterate_ours(table, transform, keep=True, workers=1, stack=stack),
            "ours, in the step's thread": iterate_ours(table, transform, keep=True, workers=0, stack=stack),
        }
        for peer in PEERS:
            contenders[peer] = iterate_peer(table, transform, keep=True, whole=peer == PEERS[0])
        check(contenders)
        contenders["bare"] = itertools.repeat(next(contenders["ours"]))
        samples = measure(contenders, make_step(model), batches, rounds)
    bare = samples.pop("bare")
    for name, mine in samples.items():
        yield {
            "name": f"beside a step of {model} at {size[0]} px",
            "loader": name,
            "pictures_per_s": _median(batches * BATCH / sample[0] for sample in mine),
            "bare_pictures_per_s": _median(batches * BATCH / sample[0] for sample in bare),
            "of_bare": _median(step[0] / sample[0] for sample, step in zip(mine, bare, strict=True)),
            "of_bare_processor": _median(step[2] / sample[2] for sample, step in zip(mine, bare, strict=True)),
            "starvation": _median(sample[1] / sample[0] for sample in mine),
            "rounds": rounds,
        }


def _median(values: Any) -> float:
    return float(f"{statistics.median(values):.4g}")


def main() -> None:
    options = report.make_parser(__doc__).parse_args()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = itertools.chain(
        *(measure_alone(size, keep=keep, rounds=rounds) for size in SIZES for keep in (True, False)),
        *(measure_beside_step(model, batches, rounds) for model, batches in MODELS.items()),
    )
    report.publish("loader", rows, as_json=options.json, keep=not options.quick)


if __name__ == "__main__":
    main()
