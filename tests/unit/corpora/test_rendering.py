import builtins
import io
from pathlib import Path

import pytest
from PIL import Image

from bowerbird.corpora import rendering
from bowerbird.corpora.rendering import NotWanted, Task, run_tasks
from bowerbird.errors import PackageUnavailable
from tests.golden.corpora.make import make_clipart, make_cutout, make_photograph


def open_picture(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_render_icon_is_on_white() -> None:
    """An icon comes out in its own size, in colour, on an opaque white ground."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128" viewBox="0 0 2 2">'
    image = open_picture(rendering.render_icon(svg + b'<path d="M0 0h1v2H0z" fill="#00f"/></svg>')).convert("RGBA")
    assert image.size == (128, 128)
    assert (image.getpixel((10, 64)), image.getpixel((120, 64))) == ((0, 0, 255, 255), (255, 255, 255, 255))


def test_render_clipart_fills_the_square_with_the_drawing() -> None:
    """A small drawing in the corner of a tall page in points comes out large, centred and undistorted."""
    image = open_picture(rendering.render_clipart(make_clipart("dot", []))).convert("RGB")
    left, top, right, bottom = image.convert("L").point([255] * 200 + [0] * 56).getbbox()
    assert image.size == (256, 256)
    assert abs((right - left) - (bottom - top)) <= 2
    assert right - left >= 200
    assert abs(left - (256 - right)) <= 6


def test_render_clipart_leaves_blank_drawings_out() -> None:
    """A page with nothing on it is no picture."""
    with pytest.raises(NotWanted, match="blank"):
        rendering.render_clipart(b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>')


def test_render_clipart_is_not_bound_to_the_size_that_a_drawing_asks_for() -> None:
    """A drawing that asks for a canvas of 10^10 pixels is drawn in the usual size."""
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="100000" height="100000"><rect width="9e4" height="9e4"/></svg>'
    )
    assert open_picture(rendering.render_clipart(svg)).size == (256, 256)


def test_shrink_photograph_keeps_the_aspect() -> None:
    """A large photograph gets 640 pixels on its longer side, a small one keeps its size."""
    large = open_picture(rendering.shrink_photograph(make_photograph((1800, 1200), (200, 90, 40))))
    small = open_picture(rendering.shrink_photograph(make_photograph((300, 500), (200, 90, 40))))
    assert (large.format, large.size, small.size) == ("JPEG", (640, 427), (300, 500))


def test_shrink_photograph_turns_it_upright_and_puts_it_on_white() -> None:
    """The EXIF orientation is applied, and what is transparent becomes white."""
    image = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(buffer, "PNG", exif=exif)
    upright = open_picture(rendering.shrink_photograph(buffer.getvalue()))
    assert upright.size == (60, 80)
    assert min(upright.getpixel((30, 40))) >= 250


def test_clean_cutout_keeps_the_mask_and_whitens_what_it_hides() -> None:
    """A cut-out stays a PNG with alpha, and is white where it is transparent, for readers that ignore alpha."""
    image = open_picture(rendering.clean_cutout(make_cutout((120, 100))))
    assert (image.mode, image.size) == ("RGBA", (120, 100))
    assert image.getpixel((0, 0)) == (255, 255, 255, 0)
    assert image.getpixel((60, 50))[3] == 255


def test_clean_cutout_leaves_drawings_and_whole_photographs_out() -> None:
    """Few colours make a drawing; without a mask nothing is cut out."""
    buffer = io.BytesIO()
    drawing = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    drawing.paste((255, 0, 0, 255), (20, 20, 80, 80))
    drawing.save(buffer, "PNG")
    with pytest.raises(NotWanted, match="drawing"):
        rendering.clean_cutout(buffer.getvalue())
    with pytest.raises(NotWanted, match="not cut out"):
        rendering.clean_cutout(make_photograph((100, 100), (200, 90, 40)))


def test_pictures_that_are_too_small_or_too_large_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are checked before anything is decoded."""
    with pytest.raises(NotWanted, match="smaller than 40"):
        rendering.shrink_photograph(make_photograph((300, 30), (200, 90, 40)))
    monkeypatch.setattr(rendering, "_MAX_PIXELS", 10_000)
    with pytest.raises(NotWanted, match="more than 10000"):
        rendering.shrink_photograph(make_photograph((300, 300), (200, 90, 40)))


def test_run_tasks_reports_what_cannot_be_read(tmp_path: Path) -> None:
    """A damaged original gives a reason and no file, and the others are made."""
    tasks = [
        Task("photograph", b"not a picture", tmp_path / "a.jpg"),
        Task("clipart", b"<svg", tmp_path / "b.png"),
        Task("icon", b"\xff\xfe", tmp_path / "c.png"),
        Task("photograph", make_photograph((90, 60), (9, 90, 200)), tmp_path / "d.jpg"),
    ]
    reasons = run_tasks(tasks)
    assert [bool(reason) for reason in reasons] == [True, True, True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["d.jpg"]


def test_missing_renderer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SVG renderer, the error names the extra that brings it."""
    real = builtins.__import__

    def without_renderer(name: str, *args: object, **kwargs: object) -> object:
        if name == "resvg_py":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_renderer)
    with pytest.raises(PackageUnavailable, match=r"pip install 'bowerbird\[corpora\]'"):
        rendering.check_renderer()
