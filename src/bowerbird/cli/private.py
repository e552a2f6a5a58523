"""An embedder of one's own: a process on a free loopback port that serves one model and ends with the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bowerbird.cli import processes
from bowerbird.cli.outcome import CommandFailed
from bowerbird.errors import BowerbirdError
from bowerbird.rpc.clients import Connection, connect

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 120.0
READY_POLL_S = 1.0
ENDING = (signal.SIGTERM, signal.SIGHUP)  # beside Ctrl-C
KEPT = ("BOWERBIRD_MODELS_", "BOWERBIRD_ZOO")  # of our variables; the rest describes other services


@contextmanager
def serve_model(name: str) -> Iterator[Connection]:
    """A connection to an embedder that serves this model, and to nobody else.

    Args:
        name: of the zoo.
    Raises:
        CommandFailed: the process ended or is not ready in time; the message shows the end of its log.
    """
    port = processes.choose_port(HOST, 0)
    with _leaving_on_signals(), tempfile.TemporaryDirectory(prefix="bowerbird-eval-") as folder:
        log = Path(folder) / "embedder.log"
        process = _start(name, port, log)
        try:
            with connect(f"{HOST}:{port}", timeout_s=CALL_TIMEOUT_S) as connection:
                _wait_ready(process, connection, log)
                yield connection
        finally:
            _stop(process)


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """While entered, being terminated or hung up on raises SystemExit, so that the process is ended then too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    kept = {number: signal.getsignal(number) for number in ENDING}
    kept = {number: previous for number, previous in kept.items() if previous is not signal.SIG_IGN}  # as of nohup
    for number in kept:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, previous in kept.items():
            signal.signal(number, previous)


def _start(name: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("BOWERBIRD_") or variable.startswith(KEPT)
    }
    environment |= {
        "BOWERBIRD_EMBEDDER_MODEL": name,
        "BOWERBIRD_SERVER_HOST": HOST,
        "BOWERBIRD_SERVER_PORT": str(port),
        "BOWERBIRD_SERVER_ADMIN_PORT": "-1",
        "BOWERBIRD_SERVER_DRAIN_DELAY_S": "0",
        "BOWERBIRD_SERVER_LOG_FORMAT": "text",
    }
    # In a session of its own: Ctrl-C reaches this command only, which then ends the process.
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "services.embedder"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _wait_ready(process: subprocess.Popen[bytes], connection: Connection, log: Path) -> None:
    def has_settled() -> bool:
        if process.poll() is not None:
            return True
        try:
            connection.wait_ready(READY_POLL_S)
        except BowerbirdError:
            return False
        return True

    settled = processes.wait_until(has_settled, START_TIMEOUT_S)
    if process.poll() is None and settled:
        return
    state = f"ended with code {process.returncode}" if settled else f"is not ready after {START_TIMEOUT_S:.0f} s"
    tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-processes.LOG_TAIL_LINES :])
    raise CommandFailed(f"the embedder started for this evaluation {state}; the end of its log:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
