import sys
from pathlib import Path

import pytest

from bowerbird.corpora.clients import debian_version, download
from bowerbird.corpora.manifest import Source
from bowerbird.errors import PackageUnavailable

GOLDEN = Path(__file__).parents[2] / "golden/corpora"


def source(registry: str, package: str = "photos", version: str = "1.0") -> Source:
    return Source("photos", "scenes", registry, package, version, "0" * 64, 1, ("*",), "MIT", "nobody", "https://x")


def install(directory: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a client of that name, which runs `script`, alone on PATH."""
    file = directory / "bin" / name
    file.parent.mkdir()
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(("registry", "client"), [("npm", "npm"), ("debian", "apt-get")])
def test_download_says_which_client_is_missing(
    registry: str, client: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the client on PATH, the error names it and what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PackageUnavailable, match=rf"{client} is not on PATH: (install Node|.*Debian)"):
        download(source(registry), scratch)


def test_download_packs_with_npm_without_running_scripts(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm is asked for the exact version, for this directory, and to run nothing."""
    log = tmp_path / "log"
    install(tmp_path, "npm", f'echo "$@" > {log}; cp {GOLDEN}/labels.tgz .', monkeypatch)
    archive = download(source("npm", "@scope/set", "1.2.3"), scratch)

    assert archive == scratch / "labels.tgz"
    assert log.read_text().split() == [
        *("pack", "@scope/set@1.2.3", "--ignore-scripts", "--silent", "--pack-destination", str(scratch))
    ]


def test_download_finds_the_archive_that_apt_brings(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt-get is asked by name, and the version is read from the file that it brings."""
    install(tmp_path, "apt-get", f"cp {GOLDEN}/stamps_1%3a2.0_all.deb .", monkeypatch)
    archive = download(source("debian", "stamps", "9"), scratch)
    assert debian_version(archive) == "1:2.0"


def test_download_brings_a_wheel_with_pip(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip brings the wheel, here from a directory instead of an index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(GOLDEN))
    assert download(source("pypi"), scratch).name == "photos-1.0-py3-none-any.whl"


def test_download_reports_what_the_client_said(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that fails is quoted, with advice."""
    install(tmp_path, "apt-get", "echo 'E: Unable to locate package photos' >&2; exit 100", monkeypatch)
    with pytest.raises(PackageUnavailable, match=r"exit status 100.*Unable to locate package.*apt-get update"):
        download(source("debian"), scratch)


def test_download_refuses_success_without_an_archive(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that says it went well but brings nothing has not brought the package."""
    install(tmp_path, "npm", "exit 0", monkeypatch)
    with pytest.raises(PackageUnavailable, match="did not bring photos"):
        download(source("npm"), scratch)


def test_download_gives_up_on_a_client_that_hangs(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not end is stopped after the time limit."""
    install(tmp_path, "npm", "exec sleep 60", monkeypatch)
    with pytest.raises(PackageUnavailable, match="longer than 0 s"):
        download(source("npm"), scratch, timeout_s=0.2)


def test_download_says_when_python_has_no_pip(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without pip is reported like a missing client."""
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(PackageUnavailable, match="No module named pip"):
        download(source("pypi"), scratch)


def test_debian_version_of_a_foreign_name_is_empty() -> None:
    """A file name that apt-get does not write has no version."""
    assert debian_version(Path("something.deb")) == ""
