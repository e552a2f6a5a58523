"""Find the objects in a picture.

examples:
  bowerbird detect street.jpg
  bowerbird detect street.jpg --draw boxes.png --min-score 0.5
  bowerbird detect street.jpg --label person --json
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from bowerbird.cli.options import Options, add_json_option, format_region, open_connection, read_file
from bowerbird.cli.outcome import EXIT_OK, CommandFailed
from bowerbird.cli.show import format_timings, print_json, table
from bowerbird.rpc.clients import Detection, Detections, DetectorClient

COLOURS = ("#2340b8", "#c2410c", "#15803d", "#a21caf", "#b45309", "#0e7490", "#be123c", "#4d7c0f")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `detect`."""
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="JPEG, PNG, WebP, GIF or BMP file")
    parser.add_argument("--draw", type=Path, metavar="OUT", help="write the picture with its boxes (PNG, JPEG or WebP)")
    parser.add_argument("--min-score", type=float, metavar="S", help="leave out less sure ones (default: the model's)")
    parser.add_argument("--label", action="append", default=[], metavar="NAME", help="only this label; may be repeated")
    parser.add_argument("--max", type=int, default=0, metavar="N", help="at most so many (20)")
    add_json_option(parser)


def run(arguments: Options) -> int:
    """Exit code 0, also when there is nothing in the picture."""
    data = read_file(arguments.picture)
    with open_connection(arguments) as connection:
        found = DetectorClient(connection).detect(
            data, max_detections=arguments.max, min_score=arguments.min_score, labels=arguments.label
        )
    if arguments.draw:
        draw(data, found.detections, arguments.draw)
    if arguments.json:
        print_json(to_json(found))
        return EXIT_OK
    rows = [(each.label, each.score, format_region(each.region)) for each in found.detections]
    print(table(rows, header=("label", "score", "region")) if rows else "no objects found")
    print(f"\n{found.width} x {found.height} pixels  ({format_timings(found.info.timings)})")
    if arguments.draw:
        print(f"wrote {arguments.draw}")
    return EXIT_OK


def to_json(found: Detections) -> dict[str, Any]:
    """The answer as plain values; regions are [x0, y0, x1, y1] as parts of width and height."""
    return {
        "width": found.width,
        "height": found.height,
        "detections": [
            {
                "label": each.label,
                "score": round(each.score, 4),
                "region": [
                    round(side, 5)
                    for side in (each.region.x_min, each.region.y_min, each.region.x_max, each.region.y_max)
                ],
            }
            for each in found.detections
        ],
        "timings": [{"stage": stage, "seconds": round(seconds, 6)} for stage, seconds in found.info.timings],
    }


def draw(data: bytes, detections: Sequence[Detection], path: Path) -> None:
    """Write the upright picture with a box and a label for each object; the surest one lies on top.

    Raises:
        CommandFailed: the file cannot be written.
    """
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    width, height = picture.size
    canvas = ImageDraw.Draw(picture)
    line = max(2, round(min(width, height) / 220))
    font = ImageFont.load_default(size=max(12, round(min(width, height) / 34)))
    labels = sorted({each.label for each in detections})
    for each in reversed(detections):
        colour = COLOURS[labels.index(each.label) % len(COLOURS)]
        left, top, right, bottom = each.region.to_pixels(width, height)
        canvas.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line)
        _draw_label(canvas, (left, top), f"{each.label} {each.score:.2f}", colour, font)
    try:
        picture.save(path)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot write {path}: {error}; give a name that ends in .png, .jpg or .webp") from error


def _draw_label(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """The text on its colour: above the corner, or below it where the picture ends."""
    _, _, width, height = (int(side) for side in canvas.textbbox((0, 0), text, font=font))
    left, top = corner
    top = top - height - 4 if top >= height + 4 else top
    canvas.rectangle((left, top, left + width + 8, top + height + 4), fill=colour)
    canvas.text((left + 4, top + 1), text, fill="white", font=font)
