"""The Dockerfile agrees with the manifests and the settings. No image is built here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bowerbird import config
from bowerbird.models.settings import ModelsConfig
from bowerbird.rpc.server import ServerConfig
from services.retrieval.config import RetrievalConfig
from tests.contract import kustomization

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"server": ServerConfig, "models": ModelsConfig, "retrieval": RetrievalConfig}


def dockerfile_stage(name: str) -> str:
    stages = re.split(r"^(?=FROM )", (ROOT / "Dockerfile").read_text(), flags=re.M)
    (only,) = [stage for stage in stages if re.match(rf"FROM \S+ AS {name}\n", stage)]
    return only


def test_image_agrees_with_the_manifests() -> None:
    """User, ports, and the directory for data are the same in image and pods."""
    stage = dockerfile_stage("runtime")
    (user,) = re.findall(r"^USER (\d+):(\d+)$", stage, re.M)
    exposed = {int(port) for port in re.search(r"^EXPOSE (.*)$", stage, re.M)[1].split()}  # type: ignore[index]
    for manifest in kustomization.render(ROOT / "k8s/base"):
        if manifest["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = manifest["spec"]["template"]["spec"]
        assert (str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"])) == user
        assert {port["containerPort"] for port in pod["containers"][0]["ports"]} == exposed


@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_image_sets_variables_that_exist(stage: str) -> None:
    """Every BOWERBIRD_ variable of the Dockerfile is a setting, with a legal value."""
    variables = dict(re.findall(r"\b(BOWERBIRD_\w+)=(\S+)", dockerfile_stage(stage)))
    assert variables
    for variable in variables:
        section = variable.removeprefix(config.PREFIX).partition("_")[0].lower()
        config.load(SETTINGS[section], section, environ=variables)


def test_dockerfile_passes_hadolint() -> None:
    """The linter finds nothing that the Dockerfile does not explain."""
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: the Dockerfile is not linted")
    run = subprocess.run([linter, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
