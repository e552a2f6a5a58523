"""Write the small real pictures that tests and the wheel check use: `python tests/golden/pictures/make.py DEMO_CORPUS`.

DEMO_CORPUS is what `python -m bowerbird.corpora --out DIR` builds. Only sources whose licence lets the pictures travel
with this repository are taken; LICENSES.md beside this file names them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
STYLES = ("noto", "twemoji")
CONCEPTS = (
    "airplane", "banana", "bicycle", "birthday-cake", "butterfly", "cactus", "camera", "cat-face", "cherries",
    "fire-engine", "grapes", "guitar", "hot-beverage", "key", "mushroom", "octopus", "panda", "pizza", "red-apple",
    "rocket", "sailboat", "snail", "strawberry", "sunflower", "tiger-face", "tractor", "trophy", "umbrella",
    "watermelon", "whale",
)  # fmt: skip
PHOTOGRAPHS = {"cat": "cat", "cup-of-coffee": "coffee", "astronaut": "astronaut"}  # scikit-image, CC0 or public domain
LONGER_SIDE_PX = 640


def main(demo: Path) -> None:
    """Copy the drawings and shrink the photographs."""
    for style in STYLES:
        (HERE / style).mkdir(exist_ok=True)
        for concept in CONCEPTS:
            shutil.copyfile(demo / "pictures" / style / f"{concept}.png", HERE / style / f"{concept}.png")
    (HERE / "photographs").mkdir(exist_ok=True)
    for stem, name in PHOTOGRAPHS.items():
        path = next((demo / "pictures" / "scikit-image").glob(f"{stem}.*"))
        with Image.open(path) as picture:
            picture.thumbnail((LONGER_SIDE_PX, LONGER_SIDE_PX))
            picture.convert("RGB").save(HERE / "photographs" / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
