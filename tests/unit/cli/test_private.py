"""The embedder that an evaluation starts for itself ends with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

import pytest

from bowerbird.cli import private


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Processes that were started, each of which would go on for minutes; all are ready at once."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*_: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(300)"]
        processes.append(subprocess.Popen(command, start_new_session=True))
        return processes[-1]

    monkeypatch.setattr(private, "_start", start)
    monkeypatch.setattr(private, "_wait_ready", lambda *_: None)
    return processes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_when_the_command_is_ended(started: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """`kill`, and a terminal that is closed, end both; afterwards signals do what they did before."""

    def overhear(_number: int, _frame: FrameType | None) -> None: ...

    before = signal.signal(number, overhear)
    try:
        with pytest.raises(SystemExit) as caught, private.serve_model("any"):
            os.kill(os.getpid(), number)
            time.sleep(0.2)
        assert caught.value.code == 128 + number
        assert signal.getsignal(number) is overhear
    finally:
        signal.signal(number, before)
        for process in started:
            process.kill()
    assert started[0].wait() == -signal.SIGTERM


def test_nohup_stays_in_force(started: list[subprocess.Popen[bytes]]) -> None:
    """What ignored hang-ups goes on ignoring them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with private.serve_model("any"):
            os.kill(os.getpid(), signal.SIGHUP)
            assert started[0].poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)
    assert started[0].returncode == -signal.SIGTERM
