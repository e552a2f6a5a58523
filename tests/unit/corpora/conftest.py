"""Sources of the tiny golden packages, and a client that brings them from their folder."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bowerbird.corpora.manifest import Source

GOLDEN = Path(__file__).parents[2] / "golden/corpora"
_WORDS = ("labels", "keywords")


def golden_source(
    name: str, kind: str, file: str, *, registry: str = "npm", version: str = "1.0", needs: tuple[str, ...] = ()
) -> Source:
    content = (GOLDEN / file).read_bytes()
    globs = {
        "labels": ("package/*.json",),
        "keywords": ("package/dist/*",),
        "emoji": ("package/icons.json", "package/chars.json"),
        "scenes": ("photos/*.jpg",),
        "tuxpaint": ("usr/share/tuxpaint/stamps/*",),
    }
    return Source(
        name=name,
        kind=kind,
        registry=registry,
        package=file,
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        members=globs[kind],
        licence="CC0-1.0",
        attribution=f"makers of {name}",
        homepage=f"https://example.org/{name}",
        needs=needs,
    )


@pytest.fixture
def sources() -> tuple[Source, ...]:
    return (
        golden_source("labels", "labels", "labels.tgz"),
        golden_source("keywords", "keywords", "keywords.tgz"),
        golden_source("style-a", "emoji", "style-a.tgz", needs=_WORDS),
        golden_source("style-b", "emoji", "style-b.tgz", needs=_WORDS),
        golden_source("stamps", "tuxpaint", "stamps_1%3a2.0_all.deb", registry="debian", version="1:2.0"),
    )


class FolderClient:
    """Copies the package of a source out of the golden folder; counts, and fails where told to."""

    def __init__(self) -> None:
        self.brought: list[str] = []
        self.before: Callable[[Source, Path], None] = lambda source, directory: None
        self.rename: dict[str, str] = {}

    def __call__(self, source: Source, directory: Path) -> Path:
        self.before(source, directory)
        self.brought.append(source.name)
        target = directory / self.rename.get(source.package, source.package)
        return Path(shutil.copyfile(GOLDEN / source.package, target))


@pytest.fixture
def client() -> FolderClient:
    return FolderClient()
