"""Decoding: every format, every kind of bad picture, and the cache."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bowerbird import images, telemetry
from bowerbird.boxes import Region
from bowerbird.errors import ImageDecodeFailed, ImageTooLarge
from bowerbird.images import DecodeLimits, Picture, PictureCache, crop, decode, min_side_for, sniff_format

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
JPEG_TOLERANCE = 12  # quantisation at quality 95 moves a flat colour by a few levels


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth colourful picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def corners() -> Image.Image:
    """24 x 16 pixels: red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.empty((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12], pixels[8:, 12:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def without_app14(data: bytes) -> bytes:
    """The JPEG without its Adobe segment."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_decode_to_rgb(kind: str) -> None:
    """Each format gives contiguous read-only RGB pixels of the picture."""
    image = photo()
    picture = decode(encode(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (picture.width, picture.height) == (96, 64)
    assert picture.pixels.shape == (64, 96, 3)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous and not picture.pixels.flags.writeable
    difference = np.abs(picture.pixels.astype(int) - np.asarray(image))
    assert difference.max() <= {"PNG": 0, "BMP": 0, "WEBP": 0, "JPEG": 40, "GIF": 80}[kind]
    assert difference.mean() <= {"PNG": 0, "BMP": 0, "WEBP": 0, "JPEG": 5, "GIF": 20}[kind]


@pytest.mark.parametrize("kind", FORMATS)
def test_sniff_format_names_the_format(kind: str) -> None:
    """The first bytes tell the format."""
    assert sniff_format(encode(photo(), kind)) == kind.lower()


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"RIFF1234WAVE", b"II*\x00"])
def test_sniff_format_answers_none_for_the_rest(data: bytes) -> None:
    """Bytes of anything else have no format."""
    assert sniff_format(data) is None


def test_empty_bytes_are_refused() -> None:
    """No bytes are no picture, and the message says so."""
    with pytest.raises(ImageDecodeFailed, match="got none") as caught:
        decode(b"")
    assert caught.value.field == "image.data"


@pytest.mark.parametrize("data", [b"hello world", b"%PDF-1.7", b"\x00" * 1000, "ünïcode".encode()])
def test_other_files_are_refused(data: bytes) -> None:
    """Bytes of another kind of file are refused with what was expected."""
    with pytest.raises(ImageDecodeFailed, match="expected a JPEG, PNG"):
        decode(data)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, part: float) -> None:
    """A picture cut short is refused, not returned half grey."""
    data = encode(photo(320, 240), kind)
    with pytest.raises(ImageDecodeFailed, match="damaged or truncated"):
        decode(data[: int(len(data) * part)])


def test_jpeg_without_its_last_bytes_is_refused() -> None:
    """Even the end marker alone is missed."""
    with pytest.raises(ImageDecodeFailed):
        decode(encode(photo(), "JPEG")[:-2])


def test_truncated_progressive_jpeg_is_refused() -> None:
    """A progressive JPEG of which only the coarse scans came is refused."""
    data = encode(photo(320, 240), "JPEG", progressive=True)
    with pytest.raises(ImageDecodeFailed):
        decode(data[: len(data) * 2 // 3], min_side=30)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_raise_only_our_errors(kind: str) -> None:
    """Flipped bytes either still decode or fail as a picture that cannot be read."""
    data = bytearray(encode(photo(), kind))
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for at in (*rng.integers(4, 40, 2), *rng.integers(40, len(data), 8)):
            damaged[at] = rng.integers(256)
        try:
            decode(bytes(damaged))
        except (ImageDecodeFailed, ImageTooLarge):
            refused += 1
    assert refused > 0


def test_png_bomb_is_refused_by_its_header() -> None:
    """A few bytes that claim ten thousand million pixels are refused before a pixel is allocated."""
    with pytest.raises(ImageTooLarge, match="100000 x 100000"):
        decode(png_header(100_000, 100_000))


def test_jpeg_bomb_is_refused_by_its_header() -> None:
    """So is a JPEG of the largest size that its header can hold."""
    with pytest.raises(ImageTooLarge, match="65535 x 65535"):
        decode(with_jpeg_size(encode(photo(), "JPEG"), 65535, 65535))


def test_gif_bomb_is_refused_by_its_header() -> None:
    """So is a GIF whose logical screen is the largest possible."""
    data = bytearray(encode(photo(), "GIF"))
    data[6:10] = struct.pack("<HH", 65535, 65535)
    with pytest.raises(ImageTooLarge):
        decode(bytes(data))


def test_gif_frame_beyond_its_screen_is_refused() -> None:
    """A GIF with a small screen and a first frame of the largest possible size is refused."""
    data = bytearray(encode(photo(), "GIF"))
    at = data.index(b"\x2c", 13 + 3 * 256)
    data[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    with pytest.raises(ImageTooLarge):
        decode(bytes(data))


def test_pixels_at_the_limit_are_accepted() -> None:
    """The limit itself is allowed, one pixel row more is not."""
    limits = DecodeLimits(max_pixels=96 * 64)
    assert decode(encode(photo(), "PNG"), limits=limits).width == 96
    with pytest.raises(ImageTooLarge, match="at most 6144 pixels"):
        decode(encode(photo(96, 65), "PNG"), limits=limits)


def test_bytes_over_the_limit_are_refused() -> None:
    """Too many bytes are refused before they are looked at."""
    data = encode(photo(), "PNG")
    with pytest.raises(ImageTooLarge, match=f"got {len(data)}"):
        decode(data, limits=DecodeLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(kind: str) -> None:
    """An animated GIF, WebP or PNG is its first frame."""
    first, second = Image.new("RGB", (20, 10), RED), Image.new("RGB", (20, 10), BLUE)
    options = {"save_all": True, "append_images": [second], "duration": 100}
    picture = decode(encode(first, kind, **options, **({"lossless": True} if kind == "WEBP" else {})))
    assert (picture.width, picture.height) == (20, 10)
    assert np.array_equal(picture.pixels, np.asarray(first))


@pytest.mark.parametrize("prepare", [lambda data: data, without_app14], ids=["adobe", "no marker"])
def test_cmyk_jpeg_has_the_right_colours(prepare: Callable[[bytes], bytes]) -> None:
    """A CMYK JPEG is red where it was red, with Adobe's marker or without; its values are inverted, as Adobe writes."""
    data = prepare(encode(corners().convert("CMYK"), "JPEG", quality=95))
    pixels = decode(data).pixels.astype(int)
    for row, column, colour in ((2, 2, RED), (2, 20, GREEN), (13, 2, BLUE), (13, 20, WHITE)):
        assert np.abs(pixels[row, column] - colour).max() <= JPEG_TOLERANCE


def test_ycck_jpeg_has_the_right_colours() -> None:
    """A JPEG marked as YCCK is converted too and not shown as if it were CMYK."""
    data = bytearray(encode(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG", quality=95))
    at = data.index(b"Adobe") + 11
    data[at] = 2  # the stored planes (255, 255, 255, 255) are now Y, Cb, Cr, K
    red, green, blue = decode(bytes(data)).pixels[8, 8].astype(int)
    assert (red, blue) == (0, 0)
    assert abs(green - 134) <= 2  # 255 minus the magenta ink of Y, Cb, Cr at their maximum


def test_16_bit_grey_png_is_scaled() -> None:
    """Sixteen bits of grey become eight by scaling, not by clipping."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = decode(encode(Image.fromarray(ramp), "PNG")).pixels
    assert np.array_equal(pixels[:, :, 0], ramp >> 8)
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_16_bit_rgb_png_is_scaled() -> None:
    """Sixteen bits a channel keep their high byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\x00" + struct.pack(">HHH", 0x1234, 0x80FF, 0xFFFF) * 2
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert decode(data).pixels.tolist() == [[[0x12, 0x80, 0xFF]] * 2]


def test_palette_with_transparency_is_put_on_white() -> None:
    """The transparent entry of a palette is white, the others keep their colour."""
    image = Image.new("P", (4, 2), 0)
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 1), 1)
    pixels = decode(encode(image, "PNG", transparency=0)).pixels
    assert tuple(pixels[0, 0]) == WHITE
    assert tuple(pixels[1, 1]) == BLUE


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    """Half transparent black is grey, transparent black is white."""
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (0, 0, 0, 128))
    image.putpixel((1, 0), (0, 0, 0, 0))
    pixels = decode(encode(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))).pixels
    assert abs(int(pixels[0, 0, 0]) - 127) <= 1
    assert tuple(pixels[0, 1]) == WHITE


def test_grey_with_alpha_is_composited_on_white() -> None:
    """Grey pictures with an alpha channel are put on white as well."""
    assert decode(encode(Image.new("LA", (1, 1), (0, 0)), "PNG")).pixels.tolist() == [[list(WHITE)]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    """All eight orientations come out upright, with the upright size."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # undone by 90 degrees clockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = corners() if stored is None else corners().transpose(stored)
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = orientation
    picture = decode(encode(image, kind, exif=exif, quality=95))
    assert (picture.width, picture.height) == (24, 16)
    assert picture.pixels.shape == (16, 24, 3)
    assert picture.pixels.flags.c_contiguous
    for row, column, colour in ((2, 2, RED), (2, 20, GREEN), (13, 2, BLUE), (13, 20, WHITE)):
        assert np.abs(picture.pixels[row, column].astype(int) - colour).max() <= JPEG_TOLERANCE


@pytest.mark.parametrize("value", [0, 9, 4711])
def test_absurd_orientation_is_ignored(value: int) -> None:
    """An orientation that does not exist leaves the picture as stored."""
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = value
    assert decode(encode(corners(), "JPEG", exif=exif)).pixels.shape == (16, 24, 3)


def test_damaged_exif_is_ignored() -> None:
    """A broken EXIF block does not make a good picture unreadable."""
    assert decode(encode(corners(), "JPEG", exif=b"Exif\x00\x00garbage")).pixels.shape == (16, 24, 3)


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_becomes_rgb(mode: str, kind: str) -> None:
    """Grey and black-and-white pictures have three equal channels."""
    pixels = decode(encode(photo().convert(mode), kind)).pixels
    assert pixels.shape == (64, 96, 3)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert pixels.std() > 10


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_extreme_shapes_decode(kind: str, size: tuple[int, int]) -> None:
    """One pixel, and lines one pixel wide, are pictures; asking for less detail keeps at least one pixel."""
    picture = decode(encode(Image.new("RGB", size, BLUE), kind), min_side=1)
    assert (picture.width, picture.height) == size
    assert min(picture.pixels.shape) >= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("min_side", "shape"),
    [(None, (427, 641)), (427, (427, 641)), (215, (427, 641)), (214, (214, 321)), (107, (107, 161)), (54, (54, 81)),
     (1, (54, 81)), (5000, (427, 641))],
)  # fmt: skip
def test_scaled_decode_keeps_the_shorter_side(kind: str, min_side: int | None, shape: tuple[int, int]) -> None:
    """The largest of the scales 1/2, 1/4, 1/8 is used that keeps min_side; the size stays the original's."""
    picture = decode(encode(photo(641, 427), kind), min_side=min_side)
    assert picture.pixels.shape == (*shape, 3)
    assert (picture.width, picture.height) == (641, 427)
    assert picture.is_full_size == (shape == (427, 641))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_scaled_decode_looks_like_the_picture(kind: str) -> None:
    """Scaled pixels are the picture averaged, not another picture."""
    image = photo(640, 424)
    pixels = decode(encode(image, kind, quality=95), min_side=106).pixels
    expected = np.asarray(image.reduce(4), int)
    assert np.abs(pixels - expected).mean() < 4


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "I;16", "CMYK"])
def test_bands_join_without_a_seam(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A picture that is converted in many bands is the one converted at once, at full size and scaled."""
    values = np.random.default_rng(3).integers(0, 256, (75, 50, 4), dtype=np.uint8)
    if kind == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(values).convert(kind) if kind != "CMYK" else Image.fromarray(values, "CMYK")
    data = encode(image, "JPEG" if kind == "CMYK" else "PNG")
    whole = [decode(data, min_side=side) for side in (None, 20)]
    monkeypatch.setattr(images, "BAND_PIXELS", 300)
    for side, expected in zip((None, 20), whole, strict=True):
        np.testing.assert_array_equal(decode(data, min_side=side).pixels, expected.pixels)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_large_picture_takes_little_more_than_its_own_memory() -> None:
    """A transparent PNG is held once, at four bytes a pixel, beside the bands that are being converted."""
    code = """
import pathlib, re, sys
from bowerbird import images
def peak_bytes():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
data = sys.stdin.buffer.read()
before = peak_bytes()
images.decode(data, min_side=128)
print((peak_bytes() - before) / 3000**2)
"""
    data = encode(Image.new("RGBA", (3000, 3000)), "PNG", compress_level=1)
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert 3.5 < float(done.stdout) < 7.0


def test_large_pictures_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures above the size of a large one are decoded one at a time, smaller ones are not held up."""
    monkeypatch.setattr(images, "LARGE_PIXELS", 100 * 100)
    large, small = encode(photo(101, 100), "PNG"), encode(photo(100, 100), "PNG")
    done: list[str] = []

    def read(name: str, data: bytes) -> None:
        decode(data)
        done.append(name)

    with images._LARGE_TURN:
        thread = threading.Thread(target=read, args=("large", large))
        thread.start()
        read("small", small)
        thread.join(0.05)
        assert done == ["small"]
    thread.join(10)
    assert done == ["small", "large"]


def test_crop_cuts_the_region_and_keeps_original_sizes() -> None:
    """A crop has the pixels of the region and the size it has in the original."""
    whole = decode(encode(photo(640, 424), "JPEG"), min_side=106)
    part = crop(whole, Region(0.25, 0.5, 0.75, 1.0))
    assert (part.width, part.height) == (320, 212)
    assert np.array_equal(part.pixels, whole.pixels[53:, 40:120])
    assert part.pixels.flags.c_contiguous


def test_crop_of_a_sliver_has_a_pixel() -> None:
    """A region thinner than a pixel still gives one."""
    part = crop(decode(encode(photo(), "PNG")), Region(0.999, 0.0, 1.0, 0.001))
    assert part.pixels.shape == (1, 1, 3)


@pytest.mark.parametrize("region", [Region(0.0, 0.0, 0.1, 0.3), Region(0.31, 0.62, 0.77, 0.8), Region(0, 0, 1, 1)])
def test_min_side_for_leaves_enough_pixels_in_the_crop(region: Region) -> None:
    """Decoding with min_side_for leaves the asked-for pixels inside the region."""
    data = encode(photo(2000, 1600), "JPEG")
    part = crop(decode(data, min_side=min_side_for(region, 60)), region)
    assert min(part.pixels.shape[:2]) >= 60


def test_min_side_for_the_whole_picture_is_the_side() -> None:
    """Without a region the side itself is needed."""
    assert min_side_for(None, 128) == 128


def test_outcomes_are_counted() -> None:
    """Each decode is counted by format and outcome."""
    counter = telemetry.IMAGE_DECODE_TOTAL.labels("png", "IMAGE_TOO_LARGE")
    before = counter._value.get()
    with pytest.raises(ImageTooLarge):
        decode(png_header(100_000, 100_000))
    assert counter._value.get() == before + 1


class TestPictureCache:
    """One decode a picture, within a bound."""

    @pytest.fixture
    def decodes(self, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
        """The min_side of each decode that really happens."""
        calls: list[int | None] = []

        def counted(data: bytes, *, min_side: int | None = None, limits: DecodeLimits) -> Picture:
            calls.append(min_side)
            return decode(data, min_side=min_side, limits=limits)

        monkeypatch.setattr(images, "decode", counted)
        return calls

    def test_same_bytes_are_decoded_once(self, decodes: list[int | None]) -> None:
        """Equal bytes, even in another object, are one picture."""
        cache, data = PictureCache(1 << 20), encode(photo(), "JPEG")
        first = cache.get_or_decode(data, 32)
        assert cache.get_or_decode(bytes(bytearray(data)), 32) is first
        assert decodes == [32]

    def test_more_detail_is_decoded_anew_and_less_is_not(self, decodes: list[int | None]) -> None:
        """A picture held with too little detail is decoded again and replaces it."""
        cache, data = PictureCache(1 << 22), encode(photo(640, 424), "JPEG")
        small = cache.get_or_decode(data, 106)
        large = cache.get_or_decode(data, 212)
        assert large.pixels.shape[0] == 212 > small.pixels.shape[0]
        assert cache.get_or_decode(data, 106) is large
        assert cache.get_or_decode(data, None).is_full_size
        assert decodes == [106, 212, None]
        assert cache.size_bytes == 640 * 424 * 3

    def test_least_side_decodes_for_the_models_that_come_later(self, decodes: list[int | None]) -> None:
        """With a least side the first asker decodes as large as the others will need."""
        cache, data = PictureCache(1 << 22, least_side=212), encode(photo(640, 424), "JPEG")
        first = cache.get_or_decode(data, 106)
        assert first.pixels.shape[0] == 212
        assert cache.get_or_decode(data, 212) is first
        assert decodes == [212]

    def test_full_size_serves_any_detail(self, decodes: list[int | None]) -> None:
        """A small picture is held at full size and never decoded again for more than it has."""
        cache, data = PictureCache(1 << 20), encode(photo(), "PNG")
        cache.get_or_decode(data, 5000)
        cache.get_or_decode(data, None)
        assert decodes == [5000]

    def test_least_recently_used_is_dropped(self, decodes: list[int | None]) -> None:
        """The bound in bytes holds, and the picture used last survives."""
        one, two, three = (encode(photo(seed=seed), "PNG") for seed in (1, 2, 3))
        cache = PictureCache(2 * 96 * 64 * 3)
        for data in (one, two, one, three, one):
            cache.get_or_decode(data)
        assert cache.size_bytes == 2 * 96 * 64 * 3
        assert len(decodes) == 3
        cache.get_or_decode(two)
        assert len(decodes) == 4

    def test_picture_larger_than_the_cache_is_not_kept(self, decodes: list[int | None]) -> None:
        """What does not fit is returned but not held; zero bytes switch the cache off."""
        cache, data = PictureCache(0), encode(photo(), "PNG")
        assert cache.get_or_decode(data).width == cache.get_or_decode(data).width == 96
        assert len(decodes) == 2
        assert cache.size_bytes == 0

    def test_failures_are_not_kept(self, decodes: list[int | None]) -> None:
        """A bad picture fails each time, and leaves nothing behind."""
        cache = PictureCache(1 << 20)
        for _ in range(2):
            with pytest.raises(ImageDecodeFailed):
                cache.get_or_decode(b"not a picture")
        assert len(decodes) == 2
        assert cache.size_bytes == 0

    def test_concurrent_calls_decode_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that ask for a picture while it is decoded wait for that decode."""
        running, release, calls = threading.Event(), threading.Event(), []

        def slow(data: bytes, *, min_side: int | None = None, limits: DecodeLimits) -> Picture:
            calls.append(min_side)
            running.set()
            assert release.wait(10)
            return decode(data, min_side=min_side, limits=limits)

        monkeypatch.setattr(images, "decode", slow)
        cache, data, results = PictureCache(1 << 20), encode(photo(), "JPEG"), []
        threads = [threading.Thread(target=lambda: results.append(cache.get_or_decode(data, 32))) for _ in range(6)]
        threads[0].start()
        assert running.wait(10)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.02)
        release.set()
        for thread in threads:
            thread.join(10)
        assert calls == [32]
        assert len(results) == 6
        assert all(picture is results[0] for picture in results)

    def test_concurrent_failure_reaches_all(self) -> None:
        """Each of many threads with the same bad picture gets the error."""
        cache, failures = PictureCache(1 << 20), []

        def ask() -> None:
            try:
                cache.get_or_decode(b"\xff\xd8\xff broken")
            except ImageDecodeFailed as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(failures) == 8
