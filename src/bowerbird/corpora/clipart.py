"""Open clip-art: drawings with the title, keywords, author and licence that their makers wrote into them.

The metadata are RDF inside each SVG. They are found with patterns, not with an XML parser: many of the files are not
well-formed, and a parser would expand their entities.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from bowerbird.corpora.originals import Original, Text
from bowerbird.corpora.slugs import slug, words

_ROOT = "usr/share/openclipart/svg"
_PUBLIC_DOMAIN = re.compile(r'<cc:license\s+rdf:resource="[^"]*public_?domain[^"]*"', re.IGNORECASE)
_WORK = re.compile(r"<(?:cc:)?Work\b.*?</(?:cc:)?Work>", re.DOTALL)
_TITLE = re.compile(r"<dc:title>([^<]*)</dc:title>")
_DESCRIPTION = re.compile(r"<dc:description>([^<]*)</dc:description>")
_KEYWORD = re.compile(r"<rdf:li>([^<]*)</rdf:li>")
_AGENT = re.compile(r"<dc:(publisher|creator|rights|contributor)>.*?</dc:\1>", re.DOTALL)
_MAX_SVG_BYTES = 4 << 20  # a few maps are larger and take seconds to draw
_MAX_TAGS = 24
_MAX_SLUG = 80
_MAX_LINE = 120  # characters of a title or a keyword
_MAX_DESCRIPTION = 1000  # characters; a few authors tell a story
_MAX_USES = 3
_NOT_DEPICTIONS = {"cards"}  # folders: four decks of playing cards, nearly the same
_NOT_FOR_ALL = {"naked", "nude", "sex", "sexy", "stripper"}  # keywords: a demo is shown to everybody
_ADDRESS = re.compile(r"[\s(<\[-]*(?:e-?mail:\s*)?\b([\w.+-]+)@[\w-]+\.[\w.-]*\w[)>\]]*")
_CREDIT = re.compile(r"clip-?art by", re.IGNORECASE)
_NO_TITLE = {"", "unnamed", "untitled", "new document", "new-document", "no title", "clipart"}


def read_clipart(directory: Path) -> Iterator[Original]:
    """Drawings that declare to be in the public domain, each once, in the order of their paths."""
    root = directory / _ROOT
    works = {file: work for file, work in _find_works(root) if _PUBLIC_DOMAIN.search(work)}
    titles = {file: _read_title(work) for file, work in works.items()}
    uses = Counter(titles.values())
    for file, work in works.items():
        path = file.relative_to(root)
        title = titles[file]
        if uses[title] > _MAX_USES or title.lower() in _NO_TITLE or _CREDIT.match(title):
            title = words(file.stem)  # a title that the author's template gave to all drawings
        if slug(title) and not _NOT_DEPICTIONS & set(path.parts):
            original = _describe(file, path, title, work)
            if not _NOT_FOR_ALL & {*original.tags, *title.lower().split()}:
                yield original


def _find_works(root: Path) -> Iterator[tuple[Path, str]]:
    """Every distinct drawing with what its metadata say about it."""
    seen: set[bytes] = set()
    for file in sorted(root.rglob("*.svg")):
        if file.stat().st_size > _MAX_SVG_BYTES:
            continue
        content = file.read_bytes()
        digest = hashlib.sha256(content).digest()
        work = _WORK.search(content.decode("utf-8", "replace"))
        if digest not in seen and work is not None:
            seen.add(digest)
            yield file, work[0]


def _read_title(work: str) -> str:
    found = _TITLE.search(_AGENT.sub("", work))  # what is left speaks of the drawing, not of people
    return _ADDRESS.sub("", _clean(found[1])).strip() if found else ""


def _describe(file: Path, path: PurePath, title: str, work: str) -> Original:
    keywords = [_clean(tag).lower() for tag in _KEYWORD.findall(_AGENT.sub("", work))]
    folders = [words(folder) for folder in path.parts[:-1]]
    tags = [part for tag in [*keywords, *folders] for part in tag.split("/") if slug(part) and "@" not in part]
    creators = [_TITLE.search(agent[0]) for agent in _AGENT.finditer(work) if agent[1] == "creator"]
    creator = next((_without_address(_clean(found[1])) for found in creators if found), "")
    return Original(
        concept=slug(title)[:_MAX_SLUG].strip("-"),
        title=title,
        tags=tuple(dict.fromkeys(tags))[:_MAX_TAGS],
        category=slug(path.parts[0]),
        style="clipart",
        maker="clipart",
        read=partial(file.read_bytes),
        attribution=f"{creator}, Open Clip Art Library" if creator else "",
        texts=_read_texts(path, _AGENT.sub("", work)),
    )


def _read_texts(path: PurePath, work: str) -> tuple[Text, ...]:
    """What the maker wrote, as written, but for mail addresses; `work` without the parts that speak of people."""
    description = _DESCRIPTION.search(work)
    keywords = [_clean(keyword) for keyword in _KEYWORD.findall(work)]
    fields = {
        "title": _read_title(work),
        "description": _ADDRESS.sub("", _clean(description[1], _MAX_DESCRIPTION)).strip() if description else "",
        "tags": ", ".join(keyword for keyword in keywords if keyword and "@" not in keyword),
        "name": path.stem,
        "folder": path.parent.as_posix(),
    }
    return tuple(Text(field, text) for field, text in fields.items() if text)


def _without_address(creator: str) -> str:
    """The name without the mail address that some makers wrote beside it; of an address alone what is before the @."""
    address = _ADDRESS.search(creator)
    return _ADDRESS.sub("", creator).strip(" ,;-") or (address[1] if address else "")


def _clean(text: str, max_characters: int = _MAX_LINE) -> str:
    """One line of plain text."""
    return " ".join(html.unescape(text).split())[:max_characters]
