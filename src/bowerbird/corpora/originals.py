"""What a source says about one of its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


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
    """

    concept: str
    title: str
    tags: tuple[str, ...]
    category: str
    style: str
    maker: str
    read: Callable[[], bytes]
    attribution: str = ""
