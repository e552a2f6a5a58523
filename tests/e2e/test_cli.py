"""User stories of the command line: real processes, started by `bowerbird up`, and real pictures."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bowerbird.cli import outcome
from bowerbird.cli.processes import Home, wait_until
from bowerbird.cli.up import is_ready
from tests.e2e.conftest import PICTURES

pytestmark = pytest.mark.e2e

TIMEOUT_S = 120
# With 30 concepts, chance is 0.03; the open model finds the twin of most drawings.
MIN_P_AT_1 = 0.5


@dataclass
class Shell:
    """Runs `bowerbird` with its state in one directory."""

    folder: Path

    def start(self, *words: object) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOWERBIRD_")}
        return subprocess.Popen(
            [sys.executable, "-m", "bowerbird.cli", *map(str, words)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, code: int = outcome.EXIT_OK) -> str:
        """Standard output and error of a command that ends with `code`."""
        process = self.start(*words)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, f"bowerbird {words} ended with {process.returncode}\n{out}\n{err}"
        return out + err

    def run_json(self, *words: object) -> dict[str, Any]:
        """The JSON object that a command prints."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == outcome.EXIT_OK, err
        parsed = json.loads(out)
        assert isinstance(parsed, dict)
        return parsed


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty directory; services that a test leaves behind are stopped."""
    shell = Shell(tmp_path)
    yield shell
    home = Home(tmp_path / ".bowerbird")
    if running := home.running():
        os.kill(running.pid, signal.SIGKILL)


@pytest.fixture
def up(shell: Shell) -> Shell:
    """A shell with services running."""
    assert "ready at" in shell.run("up", "--port", "0", "--admin-port", "0")
    return shell


def make_corpus(root: Path) -> Path:
    """The drawings of two styles with records, as the demo corpus has them."""
    root.mkdir()
    lines = []
    for style in ("noto", "twemoji"):
        (root / style).symlink_to(PICTURES / style)
        lines += [
            json.dumps({"path": f"{style}/{file.name}", "style": style, "concept": file.stem, "title": file.stem})
            for file in sorted((PICTURES / style).glob("*.png"))
        ]
    (root / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    return root


def make_many(root: Path, count: int) -> Path:
    """Many small pictures, no two of the same content."""
    root.mkdir()
    for number in range(count):
        Image.new("RGB", (48, 48), (number % 256, number // 256, 90)).save(root / f"{number:04}.png")
    return root


def test_a_folder_becomes_searchable_and_survives_a_restart(up: Shell) -> None:
    """Up, index, search by picture, region and item, restart, search again, down."""
    corpus = make_corpus(up.folder / "corpus")
    assert "60 written" in up.run("index", corpus)
    found = up.run_json("search", PICTURES / "noto/cat-face.png", "--filter", "style=twemoji")
    assert found["hits"][0]["fields"]["concept"] == "cat-face"
    page = up.folder / "page.html"
    up.run("search", PICTURES / "photographs/coffee.jpg", "--region", "0.2,0,0.8,1", "--html", page)
    assert page.read_text().count("data:image/webp") == 11
    up.run("search", "--item", "noto/pizza.png")
    assert "stopped process" in up.run("down")
    assert "no service answers" in up.run("items", "--target", "127.0.0.1:1", code=outcome.EXIT_UNREACHABLE)
    up.run("up", "--port", "0", "--admin-port", "0")
    assert up.run_json("status")["indexes"][0]["items"] == 60
    again = up.run_json("search", PICTURES / "noto/cat-face.png", "--filter", "style=twemoji")
    assert again["hits"] == found["hits"]
    assert "0 written, 60 unchanged" in up.run("index", corpus)


def test_evaluation_finds_the_concept_across_styles(up: Shell) -> None:
    """The report is one JSON object with the headline, its intervals and the pairs."""
    corpus = make_corpus(up.folder / "corpus")
    report = up.run_json("eval", "retrieval", "--corpus", corpus)
    assert report["concepts"] == 30
    assert report["p_at_1"] >= MIN_P_AT_1
    assert report["r_at_10"] >= report["p_at_1"]
    low, high = report["p_at_1_interval"]
    assert low <= report["p_at_1"] <= high
    assert len(report["per_pair"]) == 2
    assert report["binary"]["r_at_10_kept"] >= 0.99


def test_a_model_is_examined_without_services(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private embedder is started, asked and ended; the second call needs none."""
    corpus = make_corpus(shell.folder / "corpus")
    words = ("eval", "retrieval", "--corpus", corpus, "--model", "efficientnet-lite0", "--split", "unseen-concepts")
    monkeypatch.setenv("HOME", str(shell.folder))
    [model] = shell.run_json(*words)["models"]
    assert model["computed_now"] == model["pictures"] == 2 * model["unseen_concepts"]["concepts"] > 0
    assert model["unseen_concepts"]["float"]["p_at_1"] >= MIN_P_AT_1
    assert shell.run_json(*words)["models"][0]["computed_now"] == 0


def test_interrupted_index_goes_on_where_it_was(up: Shell) -> None:
    """Ctrl-C keeps what was written, says how to go on, and the next run does the rest only."""
    many = make_many(up.folder / "many", 1500)
    process = up.start("index", many, "--in-flight", "1")
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        indexes = up.run_json("status")["indexes"]
        if indexes and indexes[0]["items"] > 0:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == outcome.EXIT_INTERRUPTED, out + err
    assert "Run the same command again" in err
    before = up.run_json("status")["indexes"][0]["items"]
    assert 0 < before < 1500
    report = up.run_json("index", many)
    assert (report["unchanged"], report["written"]) == (before, 1500 - before)


def test_two_index_commands_at_once_make_no_duplicates(up: Shell) -> None:
    """Whoever is later writes the same items again; none is lost and none is double."""
    corpus = make_corpus(up.folder / "corpus")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: up.run("index", corpus), range(2)))
    assert up.run_json("status")["indexes"][0]["items"] == 60


def test_index_survives_a_restart_of_the_services(up: Shell) -> None:
    """Services that are killed in the middle and come back lose no acknowledged picture; a second run finishes."""
    many = make_many(up.folder / "many", 600)
    process = up.start("index", many, "--in-flight", "1", "--timeout", "5")
    running = Home(up.folder / ".bowerbird").running()
    assert running is not None
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        indexes = up.run_json("status")["indexes"]
        if indexes and indexes[0]["items"] > 0:
            break
    os.kill(running.pid, signal.SIGKILL)
    port = running.target.rpartition(":")[2]
    time.sleep(0.5)
    up.run("up", "--port", port, "--admin-port", "0")
    process.communicate(timeout=TIMEOUT_S)
    up.run("index", many)
    assert up.run_json("status")["indexes"][0]["items"] == 600


def test_up_twice_names_the_first_process(up: Shell) -> None:
    """A second `up` in the same place changes nothing and says who runs."""
    running = Home(up.folder / ".bowerbird").running()
    assert running is not None
    said = up.run("up", "--port", "0", code=outcome.EXIT_FAILED)
    assert str(running.pid) in said
    assert "bowerbird down" in said


def test_taken_port_is_said_clearly(shell: Shell) -> None:
    """The message names the port and the option; nothing is left running."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = shell.run("up", "--port", port, code=outcome.EXIT_FAILED)
    assert f"port {port}" in said
    assert "no services run" in shell.run("down")


def test_crash_at_start_shows_the_log(shell: Shell) -> None:
    """What the services said before they ended is part of the message."""
    config = shell.folder / "bad.toml"
    config.write_text('[retrieval]\nbackend = "nonsense"\n')
    said = shell.run("up", "--port", "0", "--config", config, code=outcome.EXIT_FAILED)
    assert "ended at start" in said
    assert "nonsense" in said
    config.write_text("[server]\nprot = 1\n")
    assert "unknown setting [server] prot" in shell.run("up", "--config", config, code=outcome.EXIT_FAILED)


def test_killed_services_are_not_taken_for_running(up: Shell) -> None:
    """After kill -9 `down` has nothing to do, and `up` starts again with what was written."""
    up.run("index", PICTURES / "noto")
    running = Home(up.folder / ".bowerbird").running()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert "no services run" in up.run("down")
    up.run("up", "--port", "0", "--admin-port", "0")
    assert up.run_json("status")["indexes"][0]["items"] == 30


def test_foreground_services_end_with_ctrl_c(shell: Shell) -> None:
    """--foreground stays, serves, and drains on the first SIGINT."""
    process = shell.start("up", "--port", "0", "--admin-port", "0", "--foreground")
    home = Home(shell.folder / ".bowerbird")
    assert wait_until(lambda: (running := home.running()) is not None and is_ready(running.admin), TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + err
