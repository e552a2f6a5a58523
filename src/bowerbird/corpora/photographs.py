"""Photographs: of animals, monuments and tools in bundles, cut out for a painting program, and scenes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from bowerbird.corpora.originals import Original, Text
from bowerbird.corpora.qt_resources import read_files
from bowerbird.corpora.slugs import slug, words

SCENES_FILE = Path(__file__).with_name("scenes.toml")

# Folders of photographs in the bundles of GCompris, and what they show.
_GCOMPRIS_FOLDERS = {
    "categorization/resource/images/fishes": "fishes",
    "categorization/resource/images/monuments": "monuments",
    "categorization/resource/images/others": "household",
    "categorization/resource/images/renewable": "renewable-energy",
    "categorization/resource/images/tools": "tools",
    "erase/resource": "animals",
    "explore_farm_animals/resource/animals": "animals",
    "explore_world_animals/resource/animals": "animals",
    "explore_monuments/resource": "monuments",
}
_GCOMPRIS_SCAFFOLDING = {"gcompris", "src", "activities", "resource", "images"}  # folders that say nothing
_GENERIC_MONUMENT = re.compile(r"monument\d+")  # numbered instead of named
_STAMPS = "usr/share/tuxpaint/stamps"
_NOT_OBJECTS = {"symbols", "cartoon", "roadsigns", "flags"}  # folders, at any depth
_NO_KEYWORDS = {"a", "an", "the", "of", "in", "on", "at", "and", "with", "to", "from", "for", "between", "through"}
_MAX_CAPTION_WORDS = 5
_CHATTY = re.compile(r"(it|it.s|this|these|eat|with|we|very|i)\b")  # sentences about the picture, not names
_TWIN = re.compile(r"_(mirror|flip)(_|$)")


def read_gcompris(directory: Path) -> Iterator[Original]:
    """Named photographs of GCompris; the file name says what is to be seen."""
    for bundle in sorted(directory.rglob("*.rcc")):
        for name, content in read_files(bundle.read_bytes()):
            path = PurePosixPath(name)
            category = _gcompris_category(path)
            if category is None or path.suffix != ".webp" or _GENERIC_MONUMENT.fullmatch(path.stem):
                continue
            title = words(path.stem)
            place = words(path.parent.name) if "explore_monuments" in path.parts else ""
            tags = dict.fromkeys(tag for tag in [*title.split(), place, category] if tag)
            yield Original(
                concept=slug(title),
                title=title,
                tags=tuple(tags),
                category=category,
                style="photograph",
                maker="photograph",
                read=partial(bytes, content),
                texts=(Text("name", path.stem), Text("folder", _gcompris_folder(path))),
            )


def _gcompris_folder(path: PurePosixPath) -> str:
    return "/".join(part for part in path.parent.parts if part not in _GCOMPRIS_SCAFFOLDING)


def _gcompris_category(path: PurePosixPath) -> str | None:
    where = f"/{path.parent}/"
    return next((category for folder, category in _GCOMPRIS_FOLDERS.items() if f"/{folder}/" in where), None)


def read_tuxpaint(directory: Path) -> Iterator[Original]:
    """Stamps of Tux Paint that may be photographs of an object; drawings are told apart when they are made."""
    root = directory / _STAMPS
    for file in sorted(root.rglob("*.png")):
        path = file.relative_to(root)
        if _NOT_OBJECTS & set(path.parts) or _TWIN.search(file.stem) or file.with_suffix(".svg").exists():
            continue
        title = _read_caption(file)
        if slug(title):
            folders = [words(folder) for folder in reversed(path.parts[:-1])]
            yield Original(
                concept=slug(title),
                title=title,
                tags=tuple(dict.fromkeys([*slug(title).split("-"), *folders])),
                category=slug(path.parts[0]),
                style="cutout",
                maker="cutout",
                read=partial(file.read_bytes),
                texts=(*_read_captions(file), Text("name", file.stem), Text("folder", path.parent.as_posix())),
            )


def _read_captions(file: Path) -> Iterator[Text]:
    """Captions of a stamp as they stand: the first line is English, the others begin with `<language>.utf8=`."""
    captions = file.with_suffix(".txt")
    lines = captions.read_text("utf-8", "replace").splitlines() if captions.exists() else []
    for number, line in enumerate(lines):
        language, marked, text = line.partition(".utf8=")
        if number == 0 and not marked:
            language, text = "en", line
        language = "zh" if language == "zh_CN" else language
        if text.strip() and re.fullmatch(r"[a-z]{2,3}", language):  # not a dialect, such as `en_GB` or `sr@latin`
            yield Text(f"caption:{language}", " ".join(text.split()), language)


def _read_caption(file: Path) -> str:
    """English caption of a stamp without article and asides; the words of its file name if that is not a short one."""
    captions = file.with_suffix(".txt")
    line = captions.read_text("utf-8", "replace").split("\n", 1)[0] if captions.exists() else ""
    plain = re.split(r"[,;:!?(—–]|\. |\.$| - ", re.sub(r"[“”\"‘]", "", line).strip())[0].strip().lower()
    plain = re.sub(r"^(a|an|the|some)\s+", "", plain)
    chatty = not plain or "=" in plain or len(plain.split()) > _MAX_CAPTION_WORDS or _CHATTY.match(plain)
    return words(file.stem) if chatty else plain


def read_scenes(directory: Path, *, name: str) -> Iterator[Original]:
    """Photographs that `scenes.toml` describes for the source of this name; their file names say nothing."""
    entry = tomllib.loads(SCENES_FILE.read_text())[name]
    for file_name, title, category in entry["pictures"]:
        file = directory / entry["folder"] / file_name
        tags = dict.fromkeys([*(word for word in slug(title).split("-") if word not in _NO_KEYWORDS), category])
        yield Original(
            concept=slug(title),
            title=title,
            tags=tuple(tags),
            category=category,
            style="photograph",
            maker="photograph",
            read=partial(file.read_bytes),
            texts=(Text("title", title, "en"), Text("name", file.stem)),
        )
