"""Keeping a model card in step with its model file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path


def stamp(model_path: Path) -> str:
    """The sha256 of the model file, which is written into its card if there is one.

    Raises:
        ValueError: the card has no `sha256` line to write to.
    """
    digest = hashlib.sha256(model_path.read_bytes()).hexdigest()
    card = model_path.with_suffix(".toml")
    if card.exists():
        text, count = re.subn(r'(?m)^sha256 = "[0-9a-f]*"', f'sha256 = "{digest}"', card.read_text(), count=1)
        if count != 1:
            raise ValueError(f'{card} has no line `sha256 = "..."`')
        card.write_text(text)
    return digest
