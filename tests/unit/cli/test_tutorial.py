"""What the tutorial shows can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from bowerbird.cli import app
from bowerbird.rpc.clients import connect
from tests.unit.cli.conftest import Run, Served, paint

TUTORIAL = (Path(__file__).parents[3] / "docs/tutorial.md").read_text()
SHELL = re.findall(r"```(?:sh|console)\n(.*?)```", TUTORIAL, re.DOTALL)
COMMANDS = re.findall(r"^(?:\$ )?bowerbird (.*)$", "\n".join(SHELL), re.MULTILINE)


def test_tutorial_shows_every_command() -> None:
    """A newcomer meets every command but `embed`, which is for people with vectors of their own."""
    shown = {words.split()[0] for words in COMMANDS}
    assert shown >= set(app.COMMANDS) - {"embed"}


@pytest.mark.parametrize("words", COMMANDS)
def test_command_line_of_the_tutorial_is_understood(words: str) -> None:
    """Commands and options are spelt as the program knows them."""
    _, arguments = app.parse(shlex.split(words, comments=True))
    assert arguments.command == words.split()[0]


def test_program_of_the_tutorial_runs(
    run: Run, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python lines print the nearest items of each object."""
    (program,) = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "demo/corpus/pictures/scikit-image/cup-of-coffee.jpg", "red")
    run("index", tmp_path / "demo")
    capsys.readouterr()
    with connect(served.target) as connection:
        connection.wait_ready(5)
    exec(program.replace("127.0.0.1:50051", served.target), {})
    assert capsys.readouterr().out.startswith("corner ['corpus/pictures/scikit-image/cup-of-coffee.jpg'")
