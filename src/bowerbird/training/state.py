"""The state of a run on disk: everything that the next step needs, and nothing that depends on the number of ranks.

    <directory>/step-00001200/      complete, or not there at all
        state.json                  step, and what the caller wants to remember
        <module>.safetensors        each module's state dict
        optimizer.safetensors       <parameter>/<moment>, by the parameter's name
        ema.safetensors             the averaged weights
        <module>.<part>/...         what a part whose rows are sharded over ranks writes itself, from every rank

A state is written into a hidden directory, flushed to the disk and renamed, so a process killed at any moment leaves
the old states and perhaps a hidden directory, which the next save removes. Nothing is ever unpickled. Random numbers
are not in here: what is random in a step is drawn from generators seeded by (seed, step, rank), so there is nothing to
restore.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bowerbird.errors import ConfigInvalid, ModelFileCorrupt, StorageFull
from bowerbird.training.distributed import Rank, sum_over_ranks
from bowerbird.training.ema import Ema

PREFIX = "step-"
STEP = re.compile(rf"{PREFIX}(\d+)")
RECORD = "state.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NAMED_KEYS = 5  # in a message about many


def save(
    directory: Path,
    *,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    ema: Ema | None = None,
    extra: Mapping[str, Any] | None = None,
    keep: int = 2,
    rank: Rank | None = None,
) -> Path:
    """The directory of the new state; the `keep` newest stay. Every rank calls this; rank 0 writes what all share.

    Args:
        step: optimiser steps taken so far.
        modules: by the name of their file.
        optimizer: its groups know the names of their parameters (see `schedule.group_parameters`).
        extra: JSON values.
        rank: None: alone.
    Raises:
        StorageFull: the disk is full; the earlier states are as they were.
        OSError: the directory cannot be written for another reason.
    """
    rank = rank or Rank()
    target = directory / f"{PREFIX}{step:08d}"
    if target.exists():  # written before, by this run: a state is a function of the step
        return target
    fresh = directory / f".{target.name}"
    files = _collect(modules, optimizer, ema) if rank.is_main else {}
    record = json.dumps({"step": step, "extra": dict(extra or {})}, indent=2) + "\n"
    failure: OSError | None = None
    try:
        if rank.is_main:
            _write_all(fresh, files, record)
    except OSError as error:
        failure = error
    _agree(failure, rank, fresh)
    try:
        for name, part in _sharded_modules(modules).items():
            (fresh / name).mkdir(exist_ok=True)
            part.save_shard(fresh / name, rank=rank.rank, world_size=rank.world_size)
    except OSError as error:
        failure = error
    _agree(failure, rank, fresh)
    try:
        if rank.is_main:
            _flush_tree(fresh)
            fresh.rename(target)
            _flush(directory)
            _prune(directory, keep)
    except OSError as error:
        failure = error
    _agree(failure, rank, fresh)
    return target


def find_latest(directory: Path) -> Path | None:
    """The newest state in the directory; None without any."""
    return max(_find_states(directory), default=None, key=_step_of)


def load(path: Path) -> State:
    """The state in the directory `path`; its tensors are read when it is restored.

    Raises:
        ModelFileCorrupt: there is no readable record.
    """
    try:
        record = json.loads((path / RECORD).read_text())
        return State(path, int(record["step"]), dict(record["extra"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileCorrupt(
            f"{path} is not a state of a training run: {error}; delete it to resume from the state before it"
        ) from error


def load_latest(directory: Path) -> State | None:
    """The newest state in the directory; None without any."""
    path = find_latest(directory)
    return None if path is None else load(path)


@dataclass(frozen=True)
class State:
    """A state on disk.

    Attributes:
        path: its directory.
        step: optimiser steps taken.
        extra: what the caller gave to `save`.
    """

    path: Path
    step: int
    extra: dict[str, Any]

    def restore(
        self,
        *,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        ema: Ema | None = None,
        rank: Rank | None = None,
    ) -> None:
        """Put everything back, bit for bit.

        Raises:
            ConfigInvalid: the state is of another model; the message names keys and shapes.
            ModelFileCorrupt: a file is missing or damaged.
        """
        for name, module in modules.items():
            tensors = self._read(name)
            self._check(name, tensors, module.state_dict())
            module.load_state_dict(tensors)
        if ema is not None:
            tensors = self._read("ema")
            self._check("ema", tensors, ema.shadows)
            for key, shadow in ema.shadows.items():
                shadow.copy_(tensors[key])
        _load_optimizer(optimizer, self._read("optimizer"))
        place = rank or Rank()
        for name, part in _sharded_modules(modules).items():
            part.load_shards(self.path / name, rank=place.rank, world_size=place.world_size)

    def _read(self, name: str) -> dict[str, Tensor]:
        path = self.path / f"{name}.safetensors"
        try:
            return dict(safetensors.torch.load_file(path))
        except (OSError, SafetensorError) as error:
            raise ModelFileCorrupt(
                f"cannot read {path}: {error}; delete {path.parent} to resume from the state before it"
            ) from error

    def _check(self, name: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        faults = [f"{key} is missing" for key in expected if key not in got]
        faults += [f"{key} is unknown" for key in got if key not in expected]
        faults += [
            f"{key} has shape {tuple(got[key].shape)}, expected {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in got and got[key].shape != tensor.shape
        ]
        if faults:
            more = f" and {len(faults) - NAMED_KEYS} more" if len(faults) > NAMED_KEYS else ""
            raise ConfigInvalid(
                f"{self.path} is the state of another {name}: {'; '.join(faults[:NAMED_KEYS])}{more}. "
                f"Resume with the configuration that wrote it, or choose another output directory."
            )


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by new content, whole or not at all.

    Raises:
        StorageFull: the disk is full; the old file is as it was.
    """
    fresh = path.with_name(f".{path.name}")
    try:
        _write(fresh, content)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        _raise_if_full(error, path)
        raise
    fresh.replace(path)
    _flush(path.parent)


def _collect(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, ema: Ema | None) -> dict[str, bytes]:
    files = {name: _pack(module.state_dict()) for name, module in modules.items()}
    if ema is not None:
        files["ema"] = _pack(ema.shadows)
    return {**files, "optimizer": _pack(_optimizer_tensors(optimizer))}


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    return bytes(safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments as `<parameter>/<moment>`."""
    return {
        f"{name}/{moment}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Hand the moments to `load_state_dict`, which puts them on their devices; rates come from the schedule anyway."""
    document = optimizer.state_dict()
    numbers = {
        name: number
        for group in document["param_groups"]
        for name, number in zip(group["param_names"], group["params"], strict=True)
    }
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        if name not in numbers:
            raise ConfigInvalid(f"the saved optimiser knows a parameter {name} that this model does not have")
        moments.setdefault(numbers[name], {})[moment] = value
    optimizer.load_state_dict({**document, "state": moments})


def _sharded_modules(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Parts whose rows are spread over the ranks, and which are in no state dict for that; by their path."""
    return {
        f"{name}.{inner}": part
        for name, module in modules.items()
        for inner, part in module.named_modules()
        if hasattr(part, "save_shard")
    }


def _agree(failure: OSError | None, rank: Rank, fresh: Path) -> None:
    """Nothing, if no rank failed; otherwise every rank raises, so that none waits for one that has given up."""
    failures = sum_over_ranks(torch.tensor(float(failure is not None), device=rank.device), rank)
    if not failures:
        return
    if rank.is_main:
        shutil.rmtree(fresh, ignore_errors=True)
    if failure is None:
        raise StorageFull(f"another rank could not write its part of {fresh}; the earlier states are as they were")
    _raise_if_full(failure, fresh)
    raise failure


def _raise_if_full(error: OSError, path: Path) -> None:
    if error.errno in FULL:
        raise StorageFull(
            f"no room to write {path}: {error.strerror}; what was saved before is intact. Free some space, then resume."
        ) from error


def _write_all(folder: Path, files: Mapping[str, bytes], record: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        _write(folder / f"{name}.safetensors", content)
    _write(folder / RECORD, record.encode())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(directory: Path, keep: int) -> None:
    states = sorted(_find_states(directory), key=_step_of)
    for old in (*states[:-keep], *directory.glob(f".{PREFIX}*")):
        shutil.rmtree(old, ignore_errors=True)


def _find_states(directory: Path) -> list[Path]:
    """What is named as a state; a copy that somebody put aside there is not."""
    return [path for path in directory.glob(f"{PREFIX}*") if STEP.fullmatch(path.name)]


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))
