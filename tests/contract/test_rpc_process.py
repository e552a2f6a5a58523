"""The life of a server process: ready, signals, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bowerbird.errors import DependencyDown
from bowerbird.rpc.clients import DetectorClient, connect
from bowerbird.v1 import detector_pb2
from tests.contract.rpc_probe import Failed, call

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = {"PORT": "0", "ADMIN_PORT": "-1", "DRAIN_DELAY_S": "0.2", "GRACE_S": "20"}


class Process:
    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        variables = {f"BOWERBIRD_SERVER_{key}": value for key, value in (QUICK | settings).items()}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.contract.rpc_process", str(folder)],
            cwd=REPOSITORY,
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, name: str) -> str:
        end = time.monotonic() + 20
        while not (self.folder / name).exists():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, f"{name} did not appear"
            time.sleep(0.01)
        return (self.folder / name).read_text()

    @property
    def target(self) -> str:
        return self.wait_for("address").split()[0]

    def end(self, timeout: float = 20) -> tuple[int, str]:
        log = self.process.communicate(timeout=timeout)[1]
        return self.process.returncode, log


def hang(target: str, outcome: list[Failed]) -> None:
    """A call that is never answered; appends how it failed."""
    try:
        call(target, timeout=20, request=detector_pb2.DetectRequest(model="wait"))
    except Failed as failed:
        outcome.append(failed)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    (tmp_path / "release").touch()  # so that no process of a failed test stays


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_zero(folder: Path, number: signal.Signals) -> None:
    """The call under way is answered, the service is closed, the exit code is 0 and the log is JSON without noise."""
    process = Process(folder)
    target, answers = process.target, []
    waiting = detector_pb2.DetectRequest(model="wait")
    caller = threading.Thread(target=lambda: answers.append(call(target, timeout=20, request=waiting)[0]))
    caller.start()
    process.wait_for("called")
    process.process.send_signal(number)
    time.sleep(0.4)
    assert process.process.poll() is None
    (folder / "release").touch()
    code, log = process.end()
    caller.join()
    assert code == 0, log
    assert answers[0].image_width == 1
    assert (folder / "closed").exists()
    assert all(line.startswith("{") for line in log.splitlines()), log
    assert '"message": "stopped"' in log


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    """Whoever asks twice does not wait for calls that hang, nor for the drain delay."""
    process = Process(folder, DRAIN_DELAY_S="30")
    target = process.target
    outcome: list[Failed] = []
    caller = threading.Thread(target=hang, args=(target, outcome))
    caller.start()
    process.wait_for("called")
    process.process.terminate()
    time.sleep(0.3)
    assert process.process.poll() is None
    start = time.monotonic()
    process.process.terminate()
    code, _ = process.end()
    caller.join()
    assert code == 128 + signal.SIGTERM
    assert time.monotonic() - start < 3
    assert len(outcome) == 1


def test_a_handler_that_hangs_does_not_keep_the_process(folder: Path) -> None:
    """After the grace period the process ends although a thread never returns; the exit code says so."""
    process = Process(folder, DRAIN_DELAY_S="0", GRACE_S="0.2")
    target = process.target
    outcome: list[Failed] = []
    caller = threading.Thread(target=hang, args=(target, outcome))
    caller.start()
    process.wait_for("called")
    process.process.terminate()
    code, log = process.end()
    caller.join()
    assert code == 1
    assert "grace period" in log
    assert len(outcome) == 1


def test_a_taken_port_is_a_clear_error(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The second server exits with 1 and says what to do; the first one goes on."""
    first = Process(folder)
    port = first.target.rpartition(":")[2]
    code, log = Process(tmp_path_factory.mktemp("second"), PORT=port).end()
    assert code == 1
    assert f":{port} (taken, or not ours)" in log
    assert "Traceback" not in log
    call(first.target)
    first.process.terminate()
    assert first.end()[0] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORTT": "1"}, "unknown variable BOWERBIRD_SERVER_PORTT"),
        ({"GRACE_S": "soon"}, "expected float, got 'soon'"),
        ({"AUTH_TOKENS_FILE": "/nowhere"}, "expected a file that exists, got /nowhere"),
    ],
)
def test_a_wrong_setting_stops_the_start(folder: Path, settings: dict[str, str], message: str) -> None:
    """Unknown or wrong settings end the process before it listens, with a line and no stack."""
    code, log = Process(folder, **settings).end()
    assert code == 2
    assert message in log
    assert "Traceback" not in log


def test_a_killed_server_is_named_to_its_clients(folder: Path) -> None:
    """After kill -9 a client gets DependencyDown with the address, not a stack of the transport."""
    process = Process(folder)
    with connect(process.target) as connection:
        client = DetectorClient(connection)
        assert client.detect(b"").width == 1
        process.process.kill()
        process.end()
        with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:\d+ .*is the server running\?"):
            client.detect(b"")
