"""A corpus drawn by program, for smoke tests: small, free of downloads, and hard enough that chance does not pass.

A concept is an outer shape with an inner shape in it, e.g. `star-in-ring`; a style is a way to draw it: palette, line,
background, tilt. So a concept that was never seen is a new pair of shapes that were, and a style changes every pixel.
The texts about a picture are noisy as real ones are: synonyms, words of other pictures, empty fields.

Faces in five skin tones are drawn beside them, each style with its own light.

Writes what `bowerbird.corpora` writes: `pictures/<style>/<concept>.png`, `pictures.jsonl` and `texts.jsonl`; and, for
tables that are not about how annotations come to be, a training table whose annotations are the words of the tags.
"""

from __future__ import annotations

import argparse
import colorsys
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw
from pyarrow import parquet

from bowerbird.corpora import PictureRecord, TextRecord, save, save_texts, split_of

SIDE = 64
OVERSAMPLING = 4
NOISE_SHARE = 0.15  # of the words of a picture that belong to another one

Point = tuple[float, float]


def _polygon(corners: int, inner: float = 1.0, turn: float = -90.0) -> list[Point]:
    """Corners on the unit circle; with `inner` below 1 a star, every second corner at that radius."""
    count = corners if inner == 1.0 else 2 * corners
    radii = [1.0 if number % 2 == 0 else inner for number in range(count)]
    angles = [math.radians(turn + 360 * number / count) for number in range(count)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in zip(radii, angles, strict=True)]


SHAPES: dict[str, list[Point]] = {
    "disc": _polygon(48),
    "triangle": _polygon(3),
    "square": _polygon(4, turn=-45),
    "pentagon": _polygon(5),
    "star": _polygon(5, 0.42),
    "burst": _polygon(10, 0.62),
    "cross": [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
              (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)],
    "arrow": [(0, -1), (0.9, 0), (0.35, 0), (0.35, 1), (-0.35, 1), (-0.35, 0), (-0.9, 0)],
    "bar": [(-1, -0.35), (1, -0.35), (1, 0.35), (-1, 0.35)],
    "moon": [(math.cos(a) * 1.0, math.sin(a)) for a in np.linspace(0.9, 5.4, 24)]
    + [(0.45 + math.cos(a) * 0.75, math.sin(a) * 0.75) for a in np.linspace(5.0, 1.3, 24)],
}  # fmt: skip
SYNONYMS = {
    "disc": ("circle", "round", "dot"),
    "triangle": ("wedge", "three sides", "warning"),
    "square": ("box", "four sides", "tile"),
    "pentagon": ("five sides", "home plate"),
    "star": ("five points", "night sky", "favourite"),
    "burst": ("explosion", "sun", "many points"),
    "cross": ("plus", "first aid", "addition"),
    "arrow": ("pointer", "upwards", "direction"),
    "bar": ("minus", "dash", "stripe"),
    "moon": ("crescent", "night sky", "lunar"),
}
CATEGORIES = {
    "disc": "round", "moon": "round", "burst": "round", "triangle": "sides", "square": "sides", "pentagon": "sides",
    "star": "signs", "cross": "signs", "arrow": "signs", "bar": "signs",
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How an artist draws.

    Attributes:
        hue: of the palette, in turns; the concept shifts it at random.
        background: grey level, 0 to 255.
        filled: shapes are filled, else outlined.
        line: width of outlines, as a share of the side.
        tilt: largest turn, in degrees.
    """

    name: str
    hue: float
    background: int
    filled: bool
    line: float
    tilt: float


STYLES = (
    Style("poster", hue=0.02, background=255, filled=True, line=0.0, tilt=4),
    Style("blueprint", hue=0.58, background=40, filled=False, line=0.05, tilt=2),
    Style("crayon", hue=0.30, background=235, filled=False, line=0.09, tilt=12),
    Style("enamel", hue=0.80, background=120, filled=True, line=0.03, tilt=8),
    Style("stencil", hue=0.12, background=200, filled=True, line=0.0, tilt=16),
)
HELD_OUT = "stencil"
TABLE = "training.parquet"
TONES = {
    "light": (247, 215, 190),
    "medium-light": (225, 178, 140),
    "medium": (190, 135, 95),
    "medium-dark": (140, 92, 62),
    "dark": (88, 56, 40),
}
FACES = ("star", "bar", "moon", "square", "cross", "triangle")  # what a face has in its middle


def build(directory: Path, *, seed: int = 0) -> int:
    """How many pictures were drawn into `directory`, with their records and texts.

    Args:
        seed: of tilts, hues and the noise of the texts.
    """
    generator = np.random.default_rng(seed)
    records: list[PictureRecord] = []
    texts: list[TextRecord] = []
    tones: list[PictureRecord] = []
    pairs = [(outer, inner) for outer in SHAPES for inner in SHAPES if outer != inner]
    for style in STYLES:
        (directory / "pictures" / style.name).mkdir(parents=True, exist_ok=True)
        for outer, inner in pairs:
            concept = f"{inner}-in-{outer}"
            path = f"pictures/{style.name}/{concept}.png"
            draw(style, outer, inner, generator).save(directory / path)
            records.append(_describe(path, style, concept, (inner, outer), CATEGORIES[outer]))
            texts += _write_texts(path, outer, inner, generator)
        for inner in FACES:
            for tone, colour in TONES.items():
                path = f"pictures/{style.name}/{inner}-face--{tone}.png"
                draw(style, "disc", inner, generator, skin=colour).save(directory / path)
                tones.append(_describe(path, style, f"{inner}-face", (inner, tone), "faces"))
    save(directory, records)
    save_texts(directory, texts)
    _write_table(directory / TABLE, records, texts, tones)
    return len(records) + len(tones)


def _write_table(file: Path, records: list[PictureRecord], texts: list[TextRecord], tones: list[PictureRecord]) -> None:
    """The training table that the pipelines would make, its annotations being the words of the tags."""
    words = {text.picture: text.text.split(", ") for text in texts if text.field == "tags"}
    labels = [sorted(set(words[record.path])) for record in records] + [[] for _ in tones]
    both = [*records, *tones]
    columns = {
        "picture": [record.path for record in both],
        "style": [record.style for record in both],
        "concept": [record.concept for record in both],
        "category": [record.category for record in both],
        "tone": [None] * len(records) + [record.tags[1] for record in tones],
        "annotations": labels,
        "annotation_scores": [[1.0] * len(own) for own in labels],
        "split": [split_of(record.concept) for record in both],
    }
    parquet.write_table(pa.table(columns), file)


def draw(
    style: Style, outer: str, inner: str, generator: np.random.Generator, *, skin: tuple[int, int, int] | None = None
) -> Image.Image:
    """One picture, SIDE x SIDE, RGB.

    Args:
        skin: what the outer shape is filled with, under the light of the style; None: the palette decides.
    """
    side = SIDE * OVERSAMPLING
    canvas = Image.new("RGB", (side, side), (style.background,) * 3)
    pen = ImageDraw.Draw(canvas)
    hue = style.hue + generator.uniform(-0.08, 0.08)
    middle = side / 2 + generator.uniform(-0.04, 0.04, 2) * side
    tilt = math.radians(generator.uniform(-style.tilt, style.tilt))
    for shape, radius, lightness, turn in ((outer, 0.43, 0.45, 0.0), (inner, 0.17, 0.8, 0.5)):
        points = _place(SHAPES[shape], middle, radius * side * generator.uniform(0.92, 1.05), tilt)
        level = lightness if style.background > 100 else 1.1 - lightness / 2
        colour = tuple(round(255 * part) for part in colorsys.hls_to_rgb((hue + turn) % 1, min(level, 0.9), 0.85))
        if skin and shape == outer:
            light = 0.75 + 0.25 * style.background / 255 * generator.uniform(0.9, 1.1)
            pen.polygon(points, fill=tuple(min(255, round(part * light)) for part in skin))
        else:
            pen.polygon(points, fill=colour if style.filled else None)
        if style.line:
            ink = colour if not style.filled else (0, 0, 0)
            pen.line([*points, points[0], points[1]], fill=ink, width=round(style.line * side), joint="curve")
    return canvas.resize((SIDE, SIDE), Image.Resampling.BOX)


def _place(points: list[Point], middle: npt.NDArray[np.float64], radius: float, tilt: float) -> list[Point]:
    cosine, sine = math.cos(tilt) * radius, math.sin(tilt) * radius
    return [(middle[0] + x * cosine - y * sine, middle[1] + x * sine + y * cosine) for x, y in points]


def _describe(path: str, style: Style, concept: str, tags: tuple[str, ...], category: str) -> PictureRecord:
    return PictureRecord(
        path=path,
        source="drawn",
        title=concept.replace("-", " "),
        tags=tags,
        category=category,
        style=style.name,
        concept=concept,
        licence="CC0-1.0",
        attribution="drawn by Bowerbird",
    )


def _write_texts(path: str, outer: str, inner: str, generator: np.random.Generator) -> list[TextRecord]:
    """The noisy texts about a picture: a title that may be missing, tags of which some are wrong, a description."""

    def choose(words: tuple[str, ...]) -> str:
        return words[int(generator.integers(len(words)))]

    words = [inner, outer, choose(SYNONYMS[inner]), choose(SYNONYMS[outer]), CATEGORIES[outer]]
    strangers = tuple(word for shape in SHAPES if shape not in (outer, inner) for word in (shape, *SYNONYMS[shape]))
    words = [choose(strangers) if generator.random() < NOISE_SHARE else word for word in words]
    texts = [TextRecord(path, "tags", "en", ", ".join(words))]
    if generator.random() < 0.8:
        texts.append(TextRecord(path, "title", "en", f"{inner} in {outer}"))
    if generator.random() < 0.5:
        text = f"A picture of a {choose(SYNONYMS[inner])} that stands in the middle of a large {outer}."
        texts.append(TextRecord(path, "description", "en", text))
    return texts


def main() -> None:
    """Draw the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    options = parser.parse_args()
    print(f"{build(options.out):,} pictures in {options.out}")


if __name__ == "__main__":
    main()
