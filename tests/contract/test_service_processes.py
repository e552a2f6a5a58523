"""Every service as a command: settings that are wrong end it at once, with the name of what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = ("services", "services.detector", "services.embedder", "services.retrieval", "services.discovery")
OWN_SECTIONS = {
    "services": ("server", "models", "detector", "embedder", "retrieval", "discovery"),
    "services.detector": ("server", "models", "detector"),
    "services.embedder": ("server", "models", "embedder"),
    "services.retrieval": ("server", "retrieval"),
    "services.discovery": ("server", "discovery"),
}
TIMEOUT_S = 60


def run(module: str, folder: Path, config: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """The ended process of a service that was started with these settings."""
    file = folder / "bowerbird.toml"
    file.write_text(config)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BOWERBIRD_")}
    environment |= {"BOWERBIRD_CONFIG": str(file), "BOWERBIRD_SERVER_PORT": "0", "BOWERBIRD_SERVER_ADMIN_PORT": "-1"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_section_is_refused(module: str, tmp_path: Path) -> None:
    """A table of the file that the process does not read ends it, and the message names it and the known ones."""
    ended = run(module, tmp_path, "[discvery]\nimage_token_ttl_s = 5\n")
    assert ended.returncode != 0
    assert "discvery" in ended.stderr
    assert all(section in ended.stderr for section in OWN_SECTIONS[module])
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_key_is_refused(module: str, tmp_path: Path) -> None:
    """A misspelt setting in the file or in a variable ends the process with its name."""
    section = OWN_SECTIONS[module][-1]
    in_file = run(module, tmp_path, f"[{section}]\nnonsense = 1\n")
    variable = f"BOWERBIRD_{section.upper()}_NONSENSE"
    in_variable = run(module, tmp_path, **{variable: "1"})
    assert in_file.returncode != 0
    assert in_variable.returncode != 0
    assert f"[{section}] nonsense" in in_file.stderr
    assert variable in in_variable.stderr
    assert "Traceback" not in in_file.stderr + in_variable.stderr


@pytest.mark.parametrize("module", ["services", "services.discovery"])
def test_a_wrong_value_is_refused(module: str, tmp_path: Path) -> None:
    """A value out of range ends the process with what was expected."""
    ended = run(module, tmp_path, "[discovery]\nimage_token_ttl_s = 0\n")
    assert ended.returncode != 0
    assert "[discovery] image_token_ttl_s: expected more than 0" in ended.stderr


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    """A model that the zoo does not have ends the process with its name."""
    ended = run("services", tmp_path, '[embedder]\nmodel = "resnet-9000"\n')
    assert ended.returncode != 0
    assert "resnet-9000" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_token_file_is_refused(tmp_path: Path) -> None:
    """Discovery does not start without the token that it was told to send."""
    ended = run("services.discovery", tmp_path, '[discovery]\nauth_token_file = "missing.token"\n')
    assert ended.returncode != 0
    assert "missing.token" in ended.stderr
    assert "Traceback" not in ended.stderr
