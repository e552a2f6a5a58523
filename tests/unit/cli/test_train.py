"""`bowerbird train` becomes the training program."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import pytest

from bowerbird.cli import app


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that this process would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, command: commands.append(command))
    return commands


def test_everything_after_the_model_goes_to_its_program(
    monkeypatch: pytest.MonkeyPatch, executed: list[list[str]]
) -> None:
    """Options that the command line itself has too, such as --help, included."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(os, "execv", lambda _path, command: executed.append(command) or sys.exit(0))
    with pytest.raises(SystemExit):
        app.main(["train", "embedder", "my.toml", "--resume", "--set", "optimizer.steps=5", "--help"])
    [command] = executed
    assert command[0] == sys.executable
    assert command[1:] == [
        "-P", "-m", "services.embedder.train", "my.toml", "--resume", "--set", "optimizer.steps=5", "--help",
    ]  # fmt: skip


def test_without_torch_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, executed: list[list[str]], capsys: Any
) -> None:
    """Serving installs have none; nothing is started."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert app.main(["train", "embedder", "my.toml"]) == 1
    assert "pip install 'bowerbird[train]'" in capsys.readouterr().err
    assert executed == []


def test_an_unknown_model_is_a_usage_error(executed: list[list[str]], capsys: Any) -> None:
    """The known ones are named."""
    with pytest.raises(SystemExit):
        app.main(["train", "ranker", "my.toml"])
    assert "embedder" in capsys.readouterr().err
    assert executed == []
