"""A run's directory, and how a run is told to stop.

<output>/config.json       the configuration, with every default filled in
         metrics.jsonl     one line a measurement
         states/           what resuming needs (see `state`)
         model.safetensors the best weights so far, with all that is needed to load them
         loss.png, recall.png
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from bowerbird.errors import ConfigInvalid
from bowerbird.training import state
from bowerbird.training.state import State, write_file

MODEL_FILE = "model.safetensors"


class RunDirectory:
    """Where one run writes; rank 0 is the only one that does, but for the states' shards."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states = path / "states"
        self.model = path / MODEL_FILE
        self.metrics = path / "metrics.jsonl"
        self.config = path / "config.json"

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Nobody else writes here while this is entered; a process that ends in any way gives the directory back.

        Raises:
            ConfigInvalid: another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            with contextlib.suppress(OSError):  # a file system without locks
                _lock(descriptor, self.path)
            stack.callback(_remove_empty, self.path)  # nothing came of it: no trace is left
            yield

    def open(self, *, resume: bool) -> State | None:
        """The state to go on from; None: from the start.

        Raises:
            ConfigInvalid: there is a run here that would be overwritten, or there is none to resume.
        """
        latest = state.load_latest(self.states)
        if resume and latest is None:
            raise ConfigInvalid(f"{self.path} holds no state of a run; leave out --resume to start one")
        if not resume and latest is not None:
            raise ConfigInvalid(
                f"{self.path} holds a run that stands at step {latest.step:,}; go on with --resume, or choose another "
                f"directory with --output"
            )
        return latest

    def begin(self, config: Mapping[str, Any], step: int) -> None:
        """Record the configuration, and drop measurements after the step: they will be made again."""
        self.states.mkdir(parents=True, exist_ok=True)
        write_file(self.config, (json.dumps(config, indent=2) + "\n").encode())
        kept = [row for row in self.read_metrics() if row["step"] <= step] if step else []
        write_file(self.metrics, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration that `begin` recorded; empty without any."""
        try:
            return dict(json.loads(self.config.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def log(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a measurement.

        Args:
            kind: `train` or `validation`.
            step: optimiser steps taken so far.
        """
        with self.metrics.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All measurements; a last line that a kill cut short is left out."""
        rows: list[dict[str, Any]] = []
        for line in self.metrics.read_text().splitlines() if self.metrics.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigInvalid(
            f"another process is writing a run into {path}; stop it first, or choose another directory with --output"
        ) from None


class StopSignal:
    """While entered, the first SIGINT or SIGTERM only sets `number`, so that a step is finished; the second breaks off.

    Attributes:
        number: of the signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Self:
        self._previous = {each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
