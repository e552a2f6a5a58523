"""The result page."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from bowerbird.boxes import Region
from bowerbird.cli import sheet

VOID = {"meta", "img"}


class Checker(HTMLParser):
    """Fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: object) -> None:
        pass  # closed by itself

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def make_page(**changes: object) -> str:
    results = [
        sheet.Result('<b>cat</b> & "dog"', "noto", 0.9, "", matches=True, credit="noto: Google (Apache-2.0)"),
        sheet.Result("far", "x", -0.2, "", credit="noto: Google (Apache-2.0)"),
    ]
    defaults: dict[str, object] = {
        "label": "picture", "title": "query", "note": "n", "image": "", "results": results,
        "seconds": 0.0314, "timings": [("embed", 0.02), ("embed.decode", 0.01), ("search", 0.001)],
        "credit": "mine: me (CC0)",
    }  # fmt: skip
    search = sheet.Search(**(defaults | changes))  # type: ignore[arg-type]
    return sheet.render_sheet(sheet.Sheet("Title", "Lead", [sheet.Group("Group", "text", [search])], {"n": "1"}))


def test_page_is_well_formed_and_escapes_names() -> None:
    """Every tag closes, and names of pictures cannot become markup."""
    page = make_page()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert "<b>cat</b>" not in page
    assert '<b>cat</b> & "dog"' in "".join(checker.text)


def test_page_needs_nothing_outside_itself() -> None:
    """No address leads out: styles and pictures are inside."""
    assert not re.search(r"(src|href)=[\"'](?!data:)", make_page())
    assert "url(" not in make_page()
    assert "http" not in re.sub(r"<svg.*?</svg>", "", make_page(), flags=re.S)


def test_times_leave_out_the_stages_inside_a_stage() -> None:
    """The whole and its main stages are shown."""
    page = make_page()
    assert "31 ms" in page
    assert "embed 20.0 ms" in page
    assert "embed.decode" not in page


def test_credits_name_every_maker_once() -> None:
    """Query and results are credited; two pictures of one maker share a line."""
    page = make_page()
    assert page.count("noto: Google (Apache-2.0)") == 1
    assert "mine: me (CC0)" in page


def test_region_is_framed_where_it_lies() -> None:
    """The box is placed in parts of the picture."""
    assert "left:10.00%;top:20.00%;width:40.00%;height:50.00%" in make_page(region=Region(0.1, 0.2, 0.5, 0.7))


def test_meter_stays_inside_its_track() -> None:
    """A negative score is an empty bar, not one that leaves the tile."""
    assert "width:0%" in make_page()
    assert "width:-" not in make_page()


def test_nothing_found_is_said() -> None:
    """A search without results does not look like a broken page."""
    assert "nothing found" in make_page(results=[])


def test_inlined_picture_is_small_upright_and_on_white(tmp_path: Path) -> None:
    """Transparency becomes white and EXIF rotation is applied."""
    image = Image.new("RGBA", (900, 300), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    uri = sheet.inline_picture(tmp_path / "a.png", 100)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.size == (33, 100)
    assert picture.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_unreadable_picture_becomes_a_placeholder(tmp_path: Path) -> None:
    """A file that is gone or broken does not break the page."""
    assert sheet.inline_picture(tmp_path / "gone.png") == ""
    assert sheet.inline_picture(b"not a picture") == ""
    assert "no file here" in make_page()


def test_credit_says_what_is_known() -> None:
    """Source, maker and licence in one line; nothing where neither maker nor licence is stated."""
    known = {"source": "noto", "attribution": "Google", "licence": "Apache-2.0"}
    assert sheet.credit_of(known) == "noto: Google (Apache-2.0)"
    assert sheet.credit_of({"licence": "CC0"}) == "pictures: unknown (CC0)"
    assert sheet.credit_of({"source": "noto"}) == ""
