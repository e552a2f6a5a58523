"""Names that are the same wherever the same thing is meant."""

from __future__ import annotations

import re
import unicodedata


def slug(text: str) -> str:
    """`text` in lower-case ASCII words joined by `-`, e.g. `Woman’s hat` -> `womans-hat`; may be empty."""
    text = text.replace("#", " hash ").replace("*", " asterisk ").replace("&", " and ")
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['.]", "", ascii_text)).strip("-")


def words(file_stem: str) -> str:
    """Words of a file name: `Apricot_whole2` -> `apricot whole`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", file_stem)
    return " ".join(re.sub(r"[^a-z]+", " ", spaced.lower()).split())
