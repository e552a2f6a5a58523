import dataclasses
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bowerbird.corpora import FetchReport, fetch
from bowerbird.corpora.fetching import default_cache_dir
from bowerbird.corpora.manifest import Source
from bowerbird.errors import ArgumentInvalid, PackageUnavailable
from tests.golden.corpora.make import make_npm

Sources = tuple[Source, ...]


def states(report: FetchReport) -> dict[str, str]:
    return {result.source.name: result.state for result in report.results}


def test_fetch_downloads_checks_and_unpacks(tmp_path: Path, sources: Sources, client: Any) -> None:
    """All sources end up in the cache with their wanted members only, and the progress is told."""
    told: list[tuple[int, int, str]] = []
    report = fetch(None, tmp_path, sources=sources, download=client, progress=lambda *step: told.append(step))

    assert set(states(report).values()) == {"downloaded"}
    directory = report.directories["style-a"]
    assert sorted(path.name for path in (directory / "package").iterdir()) == ["chars.json", "icons.json"]
    assert told[0] == (0, 5, "fetch labels")
    assert told[-1] == (5, 5, "fetched")
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


def test_second_fetch_needs_no_client(tmp_path: Path, sources: Sources, client: Any) -> None:
    """What is in the cache is used without any client, so an offline run works."""
    first = fetch(None, tmp_path, sources=sources, download=client)
    client.brought.clear()
    second = fetch(None, tmp_path, sources=sources, download=client)

    assert client.brought == []
    assert set(states(second).values()) == {"cached"}
    assert second.directories == first.directories


def test_fetches_at_once_download_once(tmp_path: Path, sources: Sources, client: Any) -> None:
    """A second fetch into the same cache waits for the first and uses what it brought."""
    client.before = lambda source, directory: time.sleep(0.02)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(fetch, None, tmp_path, sources=sources, download=client) for _ in range(2)]
        found = [set(states(run.result()).values()) for run in runs]

    assert sorted(client.brought) == sorted(source.name for source in sources)
    assert sorted(map(sorted, found)) == [["cached"], ["downloaded"]]


def test_fetch_brings_named_sources_and_what_they_need(tmp_path: Path, sources: Sources, client: Any) -> None:
    """Only what is named, and what that needs, is fetched."""
    fetch(["style-b"], tmp_path, sources=sources, download=client)
    assert client.brought == ["labels", "keywords", "style-b"]

    with pytest.raises(ArgumentInvalid, match="unknown source"):
        fetch(["style-c"], tmp_path, sources=sources, download=client)


def test_fetch_goes_on_without_what_cannot_be_had(tmp_path: Path, sources: Sources, client: Any) -> None:
    """A source whose client is missing is reported with the reason, and the others are fetched."""

    def fail_for_debian(source: Source, _: Path) -> None:
        if source.registry == "debian":
            raise PackageUnavailable("apt-get is not on PATH")

    client.before = fail_for_debian
    report = fetch(None, tmp_path, sources=sources, download=client)

    assert [(missing.source.name, missing.state, missing.reason) for missing in report.missing] == [
        ("stamps", "unavailable", "apt-get is not on PATH")
    ]
    assert len(report.directories) == 4


def test_fetch_without_any_client_reports_every_source(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real clients and an empty PATH, nothing is fetched and each source says what to install."""
    monkeypatch.setenv("PATH", "")
    report = fetch(None, tmp_path, sources=sources)

    assert set(states(report).values()) == {"unavailable"}
    assert all("is not on PATH" in missing.reason for missing in report.missing)


def test_fetch_refuses_an_archive_with_another_checksum(tmp_path: Path, sources: Sources, client: Any) -> None:
    """An altered archive is refused with both checksums, and nothing of it stays."""
    altered = dataclasses.replace(sources[0], sha256="0" * 64)
    (result,) = fetch(None, tmp_path, sources=[altered], download=client).results

    assert result.state == "refused"
    assert "0" * 64 in result.reason
    assert sources[0].sha256 in result.reason
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_fetch_refuses_a_hostile_archive_and_goes_on(tmp_path: Path, sources: Sources, client: Any) -> None:
    """An archive with the pinned checksum but a name that climbs out is refused; the next source is fetched."""
    evil = make_npm({"package/en/data.json": b"{}", "../evil": b"x"})
    hostile = dataclasses.replace(sources[0], sha256=hashlib.sha256(evil).hexdigest())

    def download(source: Source, directory: Path) -> Path:
        if source.name != "labels":
            return client(source, directory)
        (directory / "labels.tgz").write_bytes(evil)
        return directory / "labels.tgz"

    report = fetch(None, tmp_path, sources=[hostile, sources[1]], download=download)

    assert states(report) == {"labels": "refused", "keywords": "downloaded"}
    assert not list(tmp_path.rglob("evil"))


def test_fetch_refuses_an_archive_without_the_wanted_members(tmp_path: Path, sources: Sources, client: Any) -> None:
    """A package that has none of the wanted members is refused."""
    elsewhere = dataclasses.replace(sources[0], members=("nowhere/*",))
    (result,) = fetch(None, tmp_path, sources=[elsewhere], download=client).results
    assert (result.state, "nowhere/*" in result.reason) == ("refused", True)


def test_fetch_records_a_debian_package_that_moved_on(tmp_path: Path, sources: Sources, client: Any) -> None:
    """A Debian archive of another version than pinned is used, and the report says that its hash was not checked."""
    moved = dataclasses.replace(sources[4], version="1:1.9", sha256="0" * 64)
    (result,) = fetch(None, tmp_path, sources=[moved], download=client).results

    assert (result.state, result.version, result.sha256) == ("downloaded", "1:2.0", sources[4].sha256)
    assert "instead of the pinned 1:1.9" in result.reason
    (again,) = fetch(None, tmp_path, sources=[moved], download=client).results
    assert (again.state, again.reason) == ("cached", result.reason)


def test_fetch_refuses_a_debian_package_of_the_pinned_version_that_differs(
    tmp_path: Path, sources: Sources, client: Any
) -> None:
    """Where the version is the pinned one, the checksum must be, too."""
    altered = dataclasses.replace(sources[4], sha256="0" * 64)
    (result,) = fetch(None, tmp_path, sources=[altered], download=client).results
    assert result.state == "refused"


def test_fetch_resumes_after_an_interrupted_download(tmp_path: Path, sources: Sources, client: Any) -> None:
    """A kill in the middle of a download loses that download alone; the next run cleans up and goes on."""

    def die(source: Source, directory: Path) -> None:
        if source.name == "style-a":
            (directory / "half.tgz.part").write_bytes(b"half")
            raise KeyboardInterrupt

    client.before = die
    with pytest.raises(KeyboardInterrupt):
        fetch(None, tmp_path, sources=sources, download=client)
    leftover = tmp_path / "corpora/archives/.style-a.killed"  # as SIGKILL would leave it
    leftover.mkdir()
    (leftover / "half.tgz").write_bytes(b"half")
    client.before = lambda source, directory: None
    client.brought.clear()
    report = fetch(None, tmp_path, sources=sources, download=client)

    assert client.brought == ["style-a", "style-b", "stamps"]
    assert not report.missing
    assert not leftover.exists()


def test_fetch_unpacks_again_after_a_kill_between_download_and_unpacking(
    tmp_path: Path, sources: Sources, client: Any
) -> None:
    """An archive that is in the cache already is unpacked without a download."""
    fetch(["labels"], tmp_path, sources=sources, download=client)
    (tmp_path / "corpora/fetched/labels.json").unlink()
    client.brought.clear()
    report = fetch(["labels"], tmp_path, sources=sources, download=client)

    assert client.brought == []
    assert states(report) == {"labels": "downloaded"}


@pytest.mark.parametrize("damage", ["cut", "gone", "record"])
def test_fetch_mends_a_damaged_cache(tmp_path: Path, sources: Sources, client: Any, damage: str) -> None:
    """A member that is missing or cut, or a record that cannot be read, is noticed and made anew."""
    directory = fetch(["labels"], tmp_path, sources=sources, download=client).directories["labels"]
    file = directory / "package/en/data.json"
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:-1])
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / "corpora/fetched/labels.json").write_text("[")
    fetch(["labels"], tmp_path, sources=sources, download=client)

    assert file.read_bytes() == whole


def test_fetch_follows_a_changed_manifest(tmp_path: Path, sources: Sources, client: Any) -> None:
    """Other globs unpack the cached archive again; another checksum asks the registry again."""
    fetch(["labels"], tmp_path, sources=sources, download=client)
    narrower = dataclasses.replace(sources[0], members=("package/en/data.json",))
    directory = fetch(None, tmp_path, sources=[narrower], download=client).directories["labels"]
    assert [path.name for path in (directory / "package/en").iterdir()] == ["data.json"]
    assert client.brought == ["labels"]

    newer = dataclasses.replace(narrower, version="2.0", sha256="1" * 64)
    assert states(fetch(None, tmp_path, sources=[newer], download=client)) == {"labels": "refused"}
    assert client.brought == ["labels", "labels"]


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`BOWERBIRD_CACHE` moves the cache; else it is in the home directory."""
    monkeypatch.setenv("BOWERBIRD_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("BOWERBIRD_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache_dir() == Path("/home/somebody/.cache/bowerbird")


def test_fetched_record_names_version_and_checksum(tmp_path: Path, sources: Sources, client: Any) -> None:
    """What was fetched is on record for the one who wants to check it."""
    fetch(["labels"], tmp_path, sources=sources, download=client)
    record = json.loads((tmp_path / "corpora/fetched/labels.json").read_text())
    assert (record["version"], record["sha256"]) == ("1.0", sources[0].sha256)
