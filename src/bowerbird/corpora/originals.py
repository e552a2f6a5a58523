"""What a source says about one of its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Text:
    """Words that came with a picture, as noisy as their author left them.

    Attributes:
        field: where they stood: `title`, `description`, `tags`, `name` (of the file), `folder`, and in a language that
            the source names `title:<language>`, `keywords:<language>`, `caption:<language>`.
        text: one line; several keywords are joined by `, `.
        language: ISO 639-1 code if the source says so, else empty.
    """

    field: str
    text: str
    language: str = ""


@dataclasses.dataclass(frozen=True)
class Original:
    """One picture of a source, not yet read.

    Attributes:
        concept: what it shows, as a slug; pictures of the same thing share it.
        title: a few words for people.
        tags: keywords.
        category: coarse topic.
        style: how it was made.
        maker: key of `rendering.MAKERS`: what turns the original into a picture.
        read: its bytes.
        attribution: who made it; empty: the makers of the whole source.
        texts: everything that the source says about it in words, raw.
    """

    concept: str
    title: str
    tags: tuple[str, ...]
    category: str
    style: str
    maker: str
    read: Callable[[], bytes]
    attribution: str = ""
    texts: tuple[Text, ...] = ()
