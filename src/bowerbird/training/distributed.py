"""One program on one process or on many: who am I, exact sums over all ranks, and a launcher for one machine.

Losses are divided by what the *global* batch holds before they are differentiated, so gradients are added up over
ranks, never averaged, and the result does not depend on how many ranks share the batch. Every rank takes part in every
collective at every step, whatever labels its pictures have, so none ever waits for another that does not come. Where
another rank has ended, the collectives here raise ConnectionError.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, distributed, nn

from bowerbird.errors import ConfigInvalid

RENDEZVOUS_VARIABLE = "BOWERBIRD_RENDEZVOUS"
TIMEOUT = dt.timedelta(minutes=30)  # the slowest rank may write a state or validate meanwhile
BUCKET_ELEMENTS = 8 * 2**20  # 32 MiB of float32 in one collective: fewer calls, little extra memory
GRACE_S = 20.0  # that the ranks have to end after one of them failed
POLL_S = 0.05


@dataclass(frozen=True)
class Rank:
    """One process of a run.

    Attributes:
        rank: 0 to world_size - 1; rank 0 writes files and talks to the user.
        world_size: processes of the run.
        device: where this one computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0


@contextlib.contextmanager
def join(device: str = "auto") -> Iterator[Rank]:
    """This process's place in the run, while entered; alone unless `torchrun` or `launch` started it.

    Args:
        device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
    Raises:
        ConfigInvalid: an unknown device, or a GPU is asked for and there is none.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = Rank(rank, world_size, _choose_device(device))
    if world_size == 1:
        yield place
        return
    distributed.init_process_group(
        "nccl" if place.device.type == "cuda" else "gloo",
        init_method=os.environ.get(RENDEZVOUS_VARIABLE, "env://"),
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    try:
        yield place
    finally:
        distributed.destroy_process_group()


def _choose_device(device: str) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigInvalid(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigInvalid("device = 'cuda', but torch sees no GPU here; check the driver, or use 'auto'")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


def all_reduce_gradients(parameters: Iterable[nn.Parameter], rank: Rank) -> None:
    """Add up gradients over all ranks, in place.

    A parameter that got none anywhere in this step gets zeros, on one rank as on many: whether the optimiser decays it
    must not depend on how many ranks there are.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    if rank.world_size == 1:
        return
    for bucket in _split(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        with _others():
            distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


@contextlib.contextmanager
def _others() -> Iterator[None]:
    """Raises ConnectionError where the backend finds that another rank is gone, which it tells as RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ConnectionError(f"another rank has ended, and says why by itself ({reason})") from error


def _split(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type together, up to the size of a bucket."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def sum_over_ranks(values: Tensor, rank: Rank) -> Tensor:
    """The sum over all ranks, as a new tensor of the same shape."""
    total = values.clone()
    if rank.world_size > 1:
        with _others():
            distributed.all_reduce(total)
    return total


def gather_rows(rows: Tensor, rank: Rank) -> Tensor:
    """The rows of all ranks, those of rank 0 first; ranks may hold different numbers of them."""
    if rank.world_size == 1:
        return rows
    sizes = torch.zeros(rank.world_size, dtype=torch.int64, device=rows.device)
    sizes[rank.rank] = len(rows)
    counts = [int(size) for size in sum_over_ranks(sizes, rank)]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    with _others():
        distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def wait_for_all(rank: Rank) -> None:
    """Return once every rank has come here."""
    sum_over_ranks(torch.zeros(1, device=rank.device), rank)


def launch(command: Sequence[str], processes: int) -> int:
    """Exit code of the command run as that many ranks on this machine: the first that is not 0, else 0.

    SIGINT and SIGTERM are passed on, once, to every rank: each runs in a session of its own, which a terminal's Ctrl-C
    does not reach. Where the terminal is closed (SIGHUP) they are told to end, or they would go on unseen. When a rank
    fails, the others are told to end, as they would wait for it for ever.
    """
    with tempfile.TemporaryDirectory(prefix="bowerbird-") as folder:
        ranks = [_start(command, rank, processes, Path(folder) / "rendezvous") for rank in range(processes)]

        def pass_on(number: int, _frame: FrameType | None) -> None:
            for process in ranks:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup has it ignored
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, pass_on) for number in numbers}
        try:
            return _wait(ranks)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _start(command: Sequence[str], rank: int, processes: int, rendezvous: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        RENDEZVOUS_VARIABLE: rendezvous.as_uri(),
    }
    if sys.platform == "linux":  # one machine: no look-up of its own name, which need not resolve
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return subprocess.Popen(list(command), env=environment, start_new_session=True)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in ranks):
        codes = [code for process in ranks if (code := process.poll())]
        if codes and not failed:
            failed, deadline = codes[0], time.monotonic() + GRACE_S
            _tell(ranks, signal.SIGTERM)
        if time.monotonic() > deadline:
            _tell(ranks, signal.SIGKILL)
        time.sleep(POLL_S)
    codes = [process.returncode for process in ranks if process.returncode]
    return _exit_code(failed or (codes[0] if codes else 0))


def _tell(ranks: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in ranks:
        if process.poll() is None:
            process.send_signal(number)


def _exit_code(code: int) -> int:
    """As a shell reports it: a process that signal n ended has the code 128 + n."""
    return 128 - code if code < 0 else code
