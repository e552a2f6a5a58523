"""The list of packages that the corpora come from, read from `manifest.toml`."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bowerbird.errors import ArgumentInvalid, ConfigInvalid

REGISTRIES = ("npm", "pypi", "debian")
KINDS = ("emoji", "keywords", "labels", "clipart", "gcompris", "tuxpaint", "scenes", "model")
MANIFEST_FILE = Path(__file__).with_name("manifest.toml")


@dataclasses.dataclass(frozen=True)
class Source:
    """One package, pinned.

    Attributes:
        name: ours, unique; also the folder of its pictures.
        kind: which reader understands it, one of `KINDS`.
        registry: one of `REGISTRIES`.
        package: name in the registry.
        version: pinned; a Debian archive moves on, so there it is the version that the checksum belongs to.
        sha256: of the archive.
        size_bytes: of the archive.
        members: globs of the members that are extracted.
        licence: SPDX expression of the pictures, or a short text.
        attribution: who made them, in the words to be shown.
        homepage: where the licence and the originals are found.
        icon_names: emoji only: the source whose list of code points also fits this one; empty: its own, if any.
        needs: sources that must be there too.
        optional: no part of the demo; fetched only when named.
    """

    name: str
    kind: str
    registry: str
    package: str
    version: str
    sha256: str
    size_bytes: int
    members: tuple[str, ...]
    licence: str
    attribution: str
    homepage: str
    icon_names: str = ""
    needs: tuple[str, ...] = ()
    optional: bool = False


def load_manifest(file: Path = MANIFEST_FILE) -> tuple[Source, ...]:
    """All sources, in the order of the file.

    Raises:
        ConfigInvalid: the file is not TOML, or an entry is incomplete, misspelt or contradicts another.
    """
    try:
        sources = tuple(_read_source(entry) for entry in tomllib.loads(file.read_text())["source"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConfigInvalid(f"{file}: expected [[source]] tables with the fields of `Source`: {error}") from error
    names = {source.name for source in sources}
    if len(names) != len(sources):
        raise ConfigInvalid(f"{file}: every source must have a name of its own")
    for source in sources:
        _check(source, names, file)
    return sources


def select(sources: Sequence[Source], names: Iterable[str] | None) -> tuple[Source, ...]:
    """The named sources and those that they need, in the order of `sources`; None: all that are not optional.

    Raises:
        ArgumentInvalid: a name is not in the manifest.
    """
    if names is None:
        names = [source.name for source in sources if not source.optional]
    by_name = {source.name: source for source in sources}
    wanted: set[str] = set()
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name not in by_name:
            raise ArgumentInvalid(f"unknown source {name!r}; known: {', '.join(by_name)}")
        if name not in wanted:
            wanted.add(name)
            open_names += by_name[name].needs
    return tuple(source for source in sources if source.name in wanted)


def _read_source(entry: dict[str, Any]) -> Source:
    """Raises TypeError if a field is missing, unknown or of the wrong type."""
    lists, types = {"members", "needs"}, {"size_bytes": int, "optional": bool}
    for key, value in entry.items():
        expected = list if key in lists else types.get(key, str)
        if type(value) is not expected:
            raise TypeError(f"{key} of {entry.get('name')!r} must be {expected.__name__}, got {value!r}")
    fields: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in entry.items()}
    return Source(**fields)


def _check(source: Source, names: set[str], file: Path) -> None:
    where = f"{file}: source {source.name}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", source.name):
        raise ConfigInvalid(f"{where}: a name has only a-z, 0-9 and -")
    if source.kind not in KINDS or source.registry not in REGISTRIES:
        raise ConfigInvalid(f"{where}: kind must be one of {KINDS}, registry one of {REGISTRIES}")
    if not re.fullmatch(r"[0-9a-f]{64}", source.sha256) or source.size_bytes <= 0 or not source.members:
        raise ConfigInvalid(f"{where}: sha256, size_bytes and members must be filled in")
    unknown = {*source.needs, *filter(None, [source.icon_names])} - names
    if unknown:
        raise ConfigInvalid(f"{where}: refers to {', '.join(sorted(unknown))}, which is not in the manifest")
