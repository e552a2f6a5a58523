"""`bowerbird export` becomes the exporter."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import pytest

from bowerbird.cli import app, outcome


def test_everything_after_the_model_goes_to_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that the command line itself has too, such as --help, included."""
    executed: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(os, "execv", lambda _path, command: executed.append(command) or sys.exit(0))
    with pytest.raises(SystemExit):
        app.main(["export", "embedder", "runs/mine", "--name", "mine", "--int8", "--help"])
    assert executed[0][1:] == [
        "-P",
        "-m",
        "services.embedder.export",
        "runs/mine",
        "--name",
        "mine",
        "--int8",
        "--help",
    ]


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Serving machines have no torch; the message names the extra."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else object())
    assert app.main(["export", "embedder", "runs/mine", "--name", "mine"]) == outcome.EXIT_FAILED
    assert "exporting needs torch: pip install 'bowerbird[train]'" in capsys.readouterr().err
