"""Real processes on loopback for the end-to-end stories."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bowerbird.errors import BowerbirdError
from bowerbird.rpc import clients

PICTURES = Path(__file__).parents[1] / "golden/pictures"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Services:
    """`python -m services` as a process of its own, with one data directory over several lives."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.log_path = data_dir.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait."""
        environment = {
            **os.environ,
            "BOWERBIRD_SERVER_PORT": str(self.port),
            "BOWERBIRD_SERVER_ADMIN_PORT": "-1",
            "BOWERBIRD_SERVER_DRAIN_DELAY_S": "0.1",
            "BOWERBIRD_RETRIEVAL_DATA_DIR": str(self.data_dir),
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services"], env=environment, stdout=log, stderr=log)
        return self.process

    def start(self) -> None:
        """Start and wait until every service is ready."""
        self.spawn()
        try:
            with self.connect() as connection:
                connection.wait_ready(START_TIMEOUT_S)
        except BowerbirdError as error:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"the services did not start: {error}\n{self.log_path.read_text()}") from error

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the process and wait; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def connect(self) -> clients.Connection:
        return clients.connect(self.target)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """All services, started, with an empty data directory."""
    running = Services(tmp_path / "data")
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop(signal.SIGKILL)
