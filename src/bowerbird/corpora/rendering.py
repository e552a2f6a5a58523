"""Picture files made from the sources' originals: drawings rendered, photographs made smaller.

Runs in worker processes: bytes in, a file or a reason out, no state.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from bowerbird.corpora.files import replace_file
from bowerbird.errors import PackageUnavailable

ICON_SIZE_PX = 128
CLIPART_SIZE_PX = 256
PHOTOGRAPH_MAX_SIDE_PX = 640
JPEG_QUALITY = 90
_PAGE = 160  # units, and pixels when looking where on the page the drawing is
_MARGIN = 0.03  # of the drawing's longer side
_DPI = 96  # of lengths in points and millimetres
_MIN_SIDE_PX = 40  # smaller ones are thumbnails of nothing much
_MAX_PIXELS = 50_000_000  # the largest original in use has 15 million
_WHITE = (255, 255, 255)
_PHOTOGRAPH_COLOURS = 400  # separates photographs from drawings among the cut-outs, found by looking at both
_MIN_TRANSPARENT = 0.02  # share of a cut-out's pixels


class NotWanted(Exception):  # noqa: N818 (an answer, not an error)
    """The original is readable, but not a picture of the kind that is asked for."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One picture to make: from `content`, by the maker of that name, into the file `target`."""

    maker: str
    content: bytes
    target: Path


def run_tasks(tasks: list[Task]) -> list[str]:
    """For each task, in order: empty if the file is there now, else why the picture was left out.

    Raises:
        PackageUnavailable: the SVG renderer is not installed.
    """
    return [_run(task) for task in tasks]


def _run(task: Task) -> str:
    try:
        replace_file(task.target, MAKERS[task.maker](task.content))
    except NotWanted as reason:
        return str(reason)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read: {error}"
    return ""


def check_renderer() -> None:
    """Raises PackageUnavailable unless SVG drawings can be rendered."""
    try:
        import resvg_py  # noqa: F401
    except ModuleNotFoundError as error:
        raise PackageUnavailable(
            "drawings need the SVG renderer resvg-py, which is not installed: pip install 'bowerbird[corpora]'"
        ) from error


def render_icon(svg: bytes) -> bytes:
    """PNG of an SVG that states its size, on white."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg.decode(), background="#ffffff", dpi=_DPI, skip_system_fonts=True)
    return bytes(png)


def render_clipart(svg: bytes) -> bytes:
    """PNG of what is drawn in any SVG, without the empty page around it, in a white square of `CLIPART_SIZE_PX`.

    Raises:
        NotWanted: nothing is to be seen on it.
    """
    inner = base64.b64encode(svg).decode()
    with Image.open(io.BytesIO(_render_part(inner, (0.0, 0.0, _PAGE), size_px=_PAGE))) as page:
        box = ImageOps.invert(page.convert("RGB")).getbbox()
    if box is None:
        raise NotWanted("blank")
    left, top, right, bottom = box
    side = max(right - left, bottom - top) * (1 + 2 * _MARGIN)
    square = ((left + right - side) / 2, (top + bottom - side) / 2, side)
    return _render_part(inner, square, size_px=CLIPART_SIZE_PX)


def _render_part(inner: str, square: tuple[float, float, float], *, size_px: int) -> bytes:
    """PNG of a square (left, top, side) of a page of `_PAGE` units, on which an SVG (in base64) is fitted.

    The SVG is nested, so that the size that it asks for cannot make a huge picture.
    """
    left, top, side = square
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size_px}" height="{size_px}" '
        f'viewBox="{left} {top} {side} {side}">'
        f'<image width="{_PAGE}" height="{_PAGE}" href="data:image/svg+xml;base64,{inner}"/></svg>'
    )
    return render_icon(frame.encode())


def shrink_photograph(content: bytes) -> bytes:
    """JPEG of a photograph, upright, on white, at most `PHOTOGRAPH_MAX_SIDE_PX` on the longer side.

    Raises:
        NotWanted: too small.
    """
    with Image.open(io.BytesIO(content)) as original:
        _check_size(original)
        original.draft("RGB", (PHOTOGRAPH_MAX_SIDE_PX, PHOTOGRAPH_MAX_SIDE_PX))
        image = ImageOps.exif_transpose(original).convert("RGBA")
    image.thumbnail((PHOTOGRAPH_MAX_SIDE_PX, PHOTOGRAPH_MAX_SIDE_PX), Image.Resampling.LANCZOS)
    flat = Image.new("RGB", image.size, _WHITE)
    flat.paste(image, mask=image.getchannel("A"))
    buffer = io.BytesIO()
    flat.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def clean_cutout(content: bytes) -> bytes:
    """PNG of a cut-out photograph with its alpha mask; what is fully transparent is white underneath.

    Raises:
        NotWanted: too small, without a mask, or a drawing.
    """
    with Image.open(io.BytesIO(content)) as original:
        _check_size(original)
        image = original.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.histogram()[0] < _MIN_TRANSPARENT * image.width * image.height:
        raise NotWanted("not cut out")
    mask = alpha.point([0] + [255] * 255)
    visible = Image.new("RGB", image.size, _WHITE)
    visible.paste(image.convert("RGB"), mask=mask)
    if _count_colours(visible) <= _PHOTOGRAPH_COLOURS:
        raise NotWanted("a drawing, not a photograph")
    visible.putalpha(alpha)
    visible.thumbnail((PHOTOGRAPH_MAX_SIDE_PX, PHOTOGRAPH_MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return _encode_png(visible)


def _encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _count_colours(image: Image.Image) -> int:
    """Number of different colours, at five bits a channel."""
    coarse = image.point([value & 0xF8 for value in range(256)] * 3)
    return len(coarse.getcolors(maxcolors=image.width * image.height) or ())


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > _MAX_PIXELS:
        raise NotWanted(f"more than {_MAX_PIXELS} pixels")
    if min(image.size) < _MIN_SIDE_PX:
        raise NotWanted(f"smaller than {_MIN_SIDE_PX} pixels")


MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "icon": render_icon,
    "clipart": render_clipart,
    "photograph": shrink_photograph,
    "cutout": clean_cutout,
}
SUFFIXES = {"icon": ".png", "clipart": ".png", "photograph": ".jpg", "cutout": ".png"}
