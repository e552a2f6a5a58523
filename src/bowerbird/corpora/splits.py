"""Which concepts and styles a model may learn from, and which are kept to examine it: pure functions of names.

The unit is the family: variants of one emoji by gender, age, skin tone or direction, and numbered copies of a clip-art,
are near-duplicates, so a model that has learnt from one has seen the others. A concept is put on a side by a hash of
its family, so the split is the same in every run, on every machine and for every subset of the sources.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
UNSEEN_STYLE = "openmoji"  # never trained on: what is learnt must carry over to an artist who was not met

_TEST_SHARE = 0.2  # of the keys
_VALIDATION_SHARE = 0.1

_SKIN_TONE = re.compile(r"-(medium-light|medium-dark|light|medium|dark)-skin-tone")
_CLOCK = re.compile(r"(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)-(oclock|thirty)")
_NUMBER = re.compile(r"(-?\d+)+$")  # of a numbered copy
_CHILDREN = {"boy", "girl", "child", "children", "boys", "girls"}
_ADULTS = {"man", "woman", "person", "men", "women", "people", "mans", "womans", "mens", "womens", "male", "female"}
_DIRECTIONS = {"left", "right", "up", "down", "leftwards", "rightwards", "upwards", "downwards", "facing"}
_NOISE = {"and", *_DIRECTIONS}
_SAME = {  # words whose variants do not follow the pattern
    "older": "old",
    "merman": "merperson",
    "mermaid": "merperson",
    "princess": "prince",
    "mx": "santa",
    "mrs": "santa",
}


def concept_family(concept: str) -> str:
    """Name that the variants of one thing share: `man-cook`, `woman-cook` and `cook` -> `cook`.

    Args:
        concept: a slug; see `bowerbird.corpora.records.PictureRecord`.
    """
    plain = _SKIN_TONE.sub("", concept)
    if _CLOCK.fullmatch(plain):
        return "clock-face"
    words = [_SAME.get(word, word) for word in _NUMBER.sub("", plain).split("-") if word]
    rest = [word for word in words if word not in _NOISE | _ADULTS | _CHILDREN]
    if rest:
        return "-".join(rest)
    if _CHILDREN & set(words):
        return "child"
    return "person" if _ADULTS & set(words) else concept


def split_of(concept: str) -> Split:
    """Side on which a concept stands: that of its family."""
    return side_of(concept_family(concept))


def side_of(key: str) -> Split:
    """Side on which everything of one key stands: a tenth of the keys validates, a fifth tests, the rest trains."""
    place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    if place < _TEST_SHARE:
        return "test"
    return "validation" if place < _TEST_SHARE + _VALIDATION_SHARE else "train"
