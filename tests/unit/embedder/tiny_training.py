"""A corpus of 60 tiny pictures and a configuration that trains on it in a second, for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16
CONCEPTS, STYLES = 12, 5
CONFIG = """
seed = 3
output = "{root}/run"

[data]
table = "{root}/table.jsonl"
image_size = 16
workers = 1

[model]
width = 16
depth = 2
heads = 2
patch_size = 8
dimension = 16

[optimizer]
steps = 8
batch_size = 12
learning_rate = 3e-3
ema = 0.9
precision = "fp32"
threads = 1
log_every = 2
save_every = 4

[validation]
every = 4

[[task]]
name = "concept"
kind = "metric"
per_class = 2

[[task]]
name = "shade"
kind = "classes"
balance = 0.9
draws = false

[[task]]
name = "words"
kind = "multilabel"
weights = "confidences"
"""


def write_corpus(root: Path) -> Path:
    """The configuration's path; pictures of one concept have one hue, those of one style one brightness."""
    generator = np.random.default_rng(0)
    rows = []
    for concept in range(CONCEPTS):
        hue = generator.uniform(0, 255, 3)
        for style in range(STYLES):
            pixels = np.clip(hue * (0.5 + style / 8) + generator.normal(0, 8, (SIDE, SIDE, 3)), 0, 255)
            name = f"{concept}-{style}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(root / name)
            rows.append(make_row(name, concept, style))
    (root / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = root / "config.toml"
    config.write_text(CONFIG.format(root=root))
    return config


def make_row(name: str, concept: int, style: int) -> dict[str, Any]:
    """Not every picture has every label."""
    words = ["all", f"word{concept % 4}"][: style % 3]
    return {
        "picture": name,
        "concept": f"concept{concept}",
        "shade": None if style == 0 else "dark" if style < 3 else "light",
        "words": words,
        "confidences": [0.9, 0.4][: len(words)],
        "split": "validation" if concept >= 9 else "train",
    }
