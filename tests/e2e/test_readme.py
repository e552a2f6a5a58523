"""What the README tells a newcomer to type works as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import PICTURES, free_port

pytestmark = pytest.mark.e2e

README = (Path(__file__).parents[2] / "README.md").read_text()
TIMEOUT_S = 120


def section(title: str, language: str) -> str:
    """The first code block of a section."""
    text = README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[0]


def test_the_commands_and_the_program_of_the_readme_run(tmp_path: Path) -> None:
    """Every `bowerbird` command of the README succeeds in its order, and so does its Python program."""
    home = tmp_path / "home"
    shutil.copytree(PICTURES / "twemoji", home / "Pictures/drawings")
    shutil.copytree(PICTURES / "photographs", home / "Pictures/photographs")
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(PICTURES / "photographs/cat.jpg", work)
    port = str(free_port())
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run(*command: str) -> str:
        process = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert process.returncode == 0, f"{command}: {process.stdout}{process.stderr}"
        return process.stdout

    commands = [line.partition("#")[0].strip() for line in section("Your own pictures", "sh").splitlines()]
    commands = [command for command in commands if command.startswith("bowerbird ")]
    program = section("From your product", "python").replace("127.0.0.1:50051", f"127.0.0.1:{port}")
    assert commands[0] == "bowerbird up"
    assert commands[-1] == "bowerbird down"
    run("bowerbird", "up", "--port", port)
    try:
        for command in commands[1:-1]:
            run("bash", "-c", command)
        printed = run(sys.executable, "-c", program)
    finally:
        run("bash", "-c", commands[-1])

    scores = re.findall(r"^(\d\.\d{3}) (\S+)$", printed, re.MULTILINE)
    assert len(scores) == 3
    assert scores[0][1] == "photographs/cat.jpg"
    assert re.search(r"^cat Region\(", printed, re.MULTILINE)
    assert (work / "result.html").stat().st_size > 10_000
    assert (work / "objects.png").read_bytes().startswith(b"\x89PNG")
