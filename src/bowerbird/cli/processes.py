"""The services that `bowerbird up` starts: one process, a lock that it holds, and a file that describes it.

The lock proves who is alive. `up` opens `services.lock`, locks it, and hands the open file to the process it starts;
the system drops the lock when that process ends, however it ends. So a process id is trusted only while the lock is
held, and an id that the system gave to another program meanwhile is never signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bowerbird.cli.outcome import CommandFailed

HOME_VARIABLE = "BOWERBIRD_HOME"
DEFAULT_HOME = ".bowerbird"
POLL_S = 0.1
LOG_TAIL_LINES = 20


def home_directory(data: str | None = None) -> Path:
    """Directory of state, log and index: the argument, else `BOWERBIRD_HOME`, else `.bowerbird` here."""
    return Path(data or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute()


@dataclass(frozen=True)
class Running:
    """A process that `up` started.

    Attributes:
        pid: process id.
        target: host:port of its gRPC server.
        admin: host:port of its metrics page; empty if off.
        log: its log file.
    """

    pid: int
    target: str
    admin: str
    log: str


class Home:
    """The directory in which one set of services keeps its lock, state, log and data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock_file = directory / "services.lock"
        self.state_file = directory / "services.json"
        self.log_file = directory / "services.log"

    def acquire(self) -> int | None:
        """File descriptor of the lock, inheritable; None while another process holds it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.set_inheritable(descriptor, True)  # noqa: FBT003 (takes no keyword)
        return descriptor

    def is_locked(self) -> bool:
        """True while a process started by `up` is alive."""
        if not self.lock_file.exists():
            return False
        descriptor = self.acquire()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def running(self) -> Running | None:
        """The living process, or None; a state file left by a dead one is ignored."""
        if not self.is_locked():
            return None
        try:
            return Running(**json.loads(self.state_file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CommandFailed(
                f"services hold {self.lock_file}, but {self.state_file} cannot be read ({error}); "
                f"another `bowerbird up` may be starting: try again, or stop the process by hand"
            ) from error

    def record(self, running: Running) -> None:
        """Write the state file; readers see the old or the new one, never a half."""
        fresh = self.state_file.with_suffix(".tmp")
        fresh.write_text(json.dumps(asdict(running), indent=2) + "\n")
        fresh.replace(self.state_file)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log, each indented."""
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError:
            return "  (no log)"
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (the log is empty)"


def choose_port(host: str, port: int) -> int:
    """`port` if it is free, or any free one for 0.

    Raises:
        CommandFailed: another program listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandFailed(
                f"port {port} on {host} cannot be used: {error.strerror}; give another: bowerbird up --port N, "
                f"or --port 0 for any free one"
            ) from error
        return int(probe.getsockname()[1])


def service_command() -> list[str]:
    """The command that runs all services; -P keeps a folder called `services` in the working directory out of it."""
    return [sys.executable, "-P", "-m", "services"]


def spawn(home: Home, lock: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The started process, detached from this terminal, its output in the log file."""
    with home.log_file.open("wb") as log:
        return subprocess.Popen(
            service_command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """True as soon as the condition holds; False when it has not within the time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def terminate(home: Home, running: Running, timeout_s: float) -> bool:
    """True when the process has ended after SIGTERM; False when it still drains after the time.

    The lock is checked right before the signal, so only a process that `up` started here is ever signalled.
    """
    if not home.is_locked():
        return True
    os.kill(running.pid, signal.SIGTERM)
    return wait_until(lambda: not home.is_locked(), timeout_s)
