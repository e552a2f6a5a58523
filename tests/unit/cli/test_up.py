"""What `up` decides before it starts a process, and what it says when the process does not get ready."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bowerbird.cli import app, up
from bowerbird.cli.options import Options, default_target
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.processes import Home, Running
from bowerbird.errors import ConfigInvalid
from bowerbird.testing import run_server


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings from outside, and a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    for variable in ("BOWERBIRD_HOME", "BOWERBIRD_TARGET", "BOWERBIRD_CONFIG", "BOWERBIRD_SERVER_PORT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.directory.mkdir()
    return home


def parse(*words: str) -> Options:
    return app.parse(["up", *words])[1]


def test_options_win_over_the_file_and_the_file_over_what_is_usual(home: Home, tmp_path: Path) -> None:
    """Ports come from options, the rest of the file stays, and only unstated settings get local defaults."""
    file = tmp_path / "b.toml"
    file.write_text('[server]\nport = 1\nadmin_port = -1\ndrain_delay_s = 3.0\n[retrieval]\ndata_dir = "/srv/x"\n')
    environment = up.plan(parse("--config", str(file), "--port", "0"), home).environment
    assert environment["BOWERBIRD_CONFIG"] == str(file)
    assert int(environment["BOWERBIRD_SERVER_PORT"]) > 1023
    assert environment["BOWERBIRD_SERVER_ADMIN_PORT"] == "-1"
    assert "BOWERBIRD_SERVER_DRAIN_DELAY_S" not in environment
    assert "BOWERBIRD_RETRIEVAL_DATA_DIR" not in environment
    assert environment["BOWERBIRD_SERVER_LOG_FORMAT"] == "text"


def test_data_lives_under_the_home(home: Home) -> None:
    """Without a file the index is in the home, and --data says so against everything else."""
    assert (
        up.plan(parse("--port", "0"), home).environment["BOWERBIRD_RETRIEVAL_DATA_DIR"].startswith(str(home.directory))
    )


def test_taken_admin_port_moves_aside(home: Home) -> None:
    """Metrics go to another port when theirs is taken: nobody depends on its number on one machine."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        launch = up.plan(parse("--port", "0", "--admin-port", str(taken)), home)
    assert launch.admin.startswith("127.0.0.1:")
    assert not launch.admin.endswith(f":{taken}")


def test_bad_configuration_is_refused_before_anything_starts(home: Home, tmp_path: Path) -> None:
    """An unknown setting is named."""
    file = tmp_path / "b.toml"
    file.write_text("[server]\nprot = 1\n")
    with pytest.raises(ConfigInvalid, match="prot"):
        up.plan(parse("--config", str(file)), home)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def test_process_that_ends_is_reported_with_its_log(home: Home) -> None:
    """The exit code and the last lines of the log are in the message."""
    home.log_file.write_text("first\ncannot start: no disk\n")
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(CommandFailed, match=r"ended at start with code 7(.|\n)*no disk"):
        up.wait_ready(child, up.Launch("127.0.0.1:1", "127.0.0.1:1", {}), home)


def test_process_that_is_slow_is_reported_and_left_alone(
    home: Home, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time the message says how to stop it; it is not killed, it may be loading a large index."""
    monkeypatch.setattr(up, "START_TIMEOUT_S", 0.05)
    with pytest.raises(CommandFailed, match="not ready after"):
        up.wait_ready(sleeper, up.Launch("127.0.0.1:1", "127.0.0.1:1", {}), home)
    assert sleeper.poll() is None


def test_without_an_admin_port_readiness_is_left_to_the_user(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    """`up` cannot see readiness then, and says what can."""
    with pytest.raises(CommandFailed, match="bowerbird status"):
        up.wait_ready(sleeper, up.Launch("127.0.0.1:1", "", {}), home)


def test_ready_is_what_the_admin_page_says() -> None:
    """A ready server is ready, and a port without one is not."""
    with run_server([], admin_port=0) as (_, server):
        assert up.is_ready(f"127.0.0.1:{server.admin_port}")
    assert not up.is_ready("127.0.0.1:1")


def test_target_is_environment_then_what_runs_here_then_the_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    """Commands typed in the folder of `up` find its services without options."""
    assert default_target() == "127.0.0.1:50051"
    here = Home(tmp_path / ".bowerbird")
    lock = here.acquire()
    assert lock is not None
    here.record(Running(sleeper.pid, "127.0.0.1:6000", "", ""))
    assert default_target() == "127.0.0.1:6000"
    monkeypatch.setenv("BOWERBIRD_TARGET", "elsewhere:1")
    assert default_target() == "elsewhere:1"
