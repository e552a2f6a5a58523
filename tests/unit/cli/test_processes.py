"""The lock and the state file of started services."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bowerbird.cli import processes
from bowerbird.cli.outcome import CommandFailed
from bowerbird.cli.processes import Home, Running

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def start_sleeper(home: Home) -> subprocess.Popen[bytes]:
    lock = home.acquire()
    assert lock is not None
    child = subprocess.Popen(SLEEPER, pass_fds=(lock,))
    os.close(lock)
    home.record(Running(child.pid, "127.0.0.1:1", "", str(home.log_file)))
    return child


def test_nothing_runs_in_a_new_home(home: Home) -> None:
    """A directory that does not exist yet has no services, and asking does not create it."""
    assert home.running() is None
    assert not home.directory.exists()


def test_lock_belongs_to_the_child_until_it_dies(home: Home) -> None:
    """While the child lives nobody else gets the lock; after kill -9 the state file no longer counts."""
    child = start_sleeper(home)
    running = home.running()
    assert running is not None
    assert running.pid == child.pid
    assert home.acquire() is None
    child.kill()
    child.wait()
    assert home.running() is None
    assert home.state_file.exists()


def test_terminate_ends_the_child(home: Home) -> None:
    """SIGTERM goes to the recorded process and its end is waited for."""
    child = start_sleeper(home)
    running = home.running()
    assert running is not None
    assert processes.terminate(home, running, timeout_s=5)
    assert child.wait() == -signal.SIGTERM


def test_process_that_took_over_the_id_is_not_signalled(home: Home) -> None:
    """A recorded id whose lock is free belongs to a stranger."""
    stranger = subprocess.Popen(SLEEPER)
    home.directory.mkdir()
    home.record(Running(stranger.pid, "127.0.0.1:1", "", ""))
    assert home.running() is None
    assert processes.terminate(home, Running(stranger.pid, "", "", ""), timeout_s=0.2)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_terminate_gives_up_on_a_child_that_drains(home: Home) -> None:
    """A process that ignores SIGTERM is reported as still running."""
    lock = home.acquire()
    assert lock is not None
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=(lock,), stdout=subprocess.PIPE) as child:
        os.close(lock)
        assert child.stdout is not None
        child.stdout.readline()
        assert not processes.terminate(home, Running(child.pid, "", "", ""), timeout_s=0.2)
        child.kill()


def test_unreadable_state_of_living_services_is_an_error(home: Home) -> None:
    """Services that hold the lock but left no state are not taken for stopped."""
    child = start_sleeper(home)
    home.state_file.write_text("{")
    with pytest.raises(CommandFailed, match="cannot be read"):
        home.running()
    child.kill()
    child.wait()


def test_taken_port_is_named_with_what_to_do() -> None:
    """The message names the port and the option that picks another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandFailed, match=rf"port {port} .*--port"):
            processes.choose_port("127.0.0.1", port)


def test_port_zero_is_any_free_one() -> None:
    """Port 0 gives a real port."""
    assert processes.choose_port("127.0.0.1", 0) > 1023


def test_log_tail_is_the_end(home: Home) -> None:
    """Only the last lines are shown, and a missing log says so."""
    assert "no log" in home.log_tail()
    home.directory.mkdir()
    home.log_file.write_text("".join(f"line {number}\n" for number in range(100)))
    assert home.log_tail(2) == "  line 98\n  line 99"


def test_wait_until_ends_early_or_at_the_time() -> None:
    """A true condition returns at once, a false one after the time."""
    assert processes.wait_until(lambda: True, timeout_s=10)
    start = time.monotonic()
    assert not processes.wait_until(lambda: False, timeout_s=0.15)
    assert time.monotonic() - start < 5


def test_home_is_argument_then_variable_then_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--data wins over BOWERBIRD_HOME, which wins over ./.bowerbird."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(processes.HOME_VARIABLE, raising=False)
    assert processes.home_directory() == tmp_path / ".bowerbird"
    monkeypatch.setenv(processes.HOME_VARIABLE, "/srv/birds")
    assert processes.home_directory() == Path("/srv/birds")
    assert processes.home_directory(str(tmp_path / "x")) == tmp_path / "x"
