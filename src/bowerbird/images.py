"""Pictures: file bytes in, upright RGB pixels out, and a cache so that one picture is decoded once.

Plain JPEG goes through libjpeg-turbo, which can decode at 1/2, 1/4 or 1/8 of the size for a fraction of the work;
Pillow reads the rest. Colour profiles are not applied: the models were trained on pixels read the same way.

Legend: H, W height and width in pixels.
"""

from __future__ import annotations

import hashlib
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bowerbird import telemetry
from bowerbird.boxes import Region
from bowerbird.errors import BowerbirdError, ImageDecodeFailed, ImageTooLarge

PixelArray = npt.NDArray[np.uint8]

FIELD = "image.data"
EXIF_ORIENTATION = 0x0112
# Only these scales save work: the steps between them cost libjpeg-turbo more than the full size.
SCALES = (8, 4, 2)

# Decoding takes up to 8 bytes a pixel for a moment (progressive CMYK 12, WebP 16: their libraries' own buffers),
# whatever the file's size. Pictures above this many pixels take turns, so that many small files that claim to be large
# cannot fill the memory between them.
LARGE_PIXELS = 16_000_000
BAND_PIXELS = 1 << 20  # converted at once
_LARGE_TURN = threading.Lock()

# The readers are called directly, not through `Image.open`: no other format of Pillow can be reached by hostile bytes.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "gif": GifImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
}

# EXIF orientation -> the upright view of the stored pixels.
_UPRIGHT: dict[int, Callable[[PixelArray], PixelArray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}


@dataclass(frozen=True)
class DecodeLimits:
    """What a picture may cost, checked before a pixel is decoded."""

    max_bytes: int = 8 * 1024 * 1024  # half of the message limit, so that a picture always fits one message
    max_pixels: int = 100_000_000  # 300 MB of RGB; the largest phone cameras stay below it


DEFAULT_LIMITS = DecodeLimits()


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright RGB picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous, read-only; EXIF rotation applied, transparency on white, first frame
            of an animation. May be smaller than the original: see `decode`.
        width: of the original, upright, in pixels.
        height: of the original, upright, in pixels.
    """

    pixels: PixelArray
    width: int
    height: int

    @property
    def is_full_size(self) -> bool:
        """Whether the pixels are those of the original and not of a scaled decode."""
        return self.pixels.shape[:2] == (self.height, self.width)

    def serves(self, min_side: int | None) -> bool:
        """Whether the pixels are as good as those of `decode(data, min_side=min_side)`."""
        return self.is_full_size or (min_side is not None and min(self.pixels.shape[:2]) >= min_side)


def sniff_format(data: bytes) -> str | None:
    """`jpeg`, `png`, `gif`, `webp` or `bmp` by the first bytes; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return "bmp" if data.startswith(b"BM") else None


def decode(data: bytes, *, min_side: int | None = None, limits: DecodeLimits = DEFAULT_LIMITS) -> Picture:
    """The picture in these file bytes.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        min_side: shorter side in pixels that the caller needs. Large pictures are then decoded at 1/2, 1/4 or 1/8 with
            the shorter side still at least this long. None: full size. For a model that looks at a region only, see
            `min_side_for`.
        limits: refused beyond, by the header, before decoding.
    Raises:
        ImageDecodeFailed: empty, truncated, damaged, or not one of the formats.
        ImageTooLarge: more bytes or pixels than the limits.
    """
    kind = sniff_format(data)
    try:
        picture = _decode_checked(data, kind, min_side, limits)
    except BowerbirdError as error:
        telemetry.IMAGE_DECODE_TOTAL.labels(kind or "unknown", error.reason).inc()
        raise
    telemetry.IMAGE_DECODE_TOTAL.labels(kind, "OK").inc()
    telemetry.IMAGE_PIXELS.observe(picture.width * picture.height)
    return picture


def crop(picture: Picture, region: Region) -> Picture:
    """The part of the picture inside the region, as a picture of its own.

    Its detail is that of `picture.pixels`: decode with `min_side_for(region, side)` to have `side` pixels in the crop.
    """
    height, width = picture.pixels.shape[:2]
    left, top, right, bottom = region.to_pixels(width, height)
    pixels = np.ascontiguousarray(picture.pixels[top:bottom, left:right])
    pixels.flags.writeable = False
    left, top, right, bottom = region.to_pixels(picture.width, picture.height)
    return Picture(pixels, width=right - left, height=bottom - top)


def min_side_for(region: Region | None, side: int) -> int:
    """The `min_side` for `decode` that leaves `side` pixels on the shorter side of the region.

    Args:
        region: None: the whole picture.
        side: longest input side of the model, in pixels.
    """
    if region is None:
        return side
    return math.ceil(side / min(region.x_max - region.x_min, region.y_max - region.y_min))


class PictureCache:
    """The most recently used pictures, by content, bounded in bytes of pixels; safe to call from many threads.

    Threads that ask for the same bytes at the same time decode them once.

    Attributes:
        least_side: in pixels; nothing is decoded smaller, whoever asks. The largest input side of all models that look
            at the same pictures: then whichever comes first decodes for the others too.
    """

    def __init__(self, max_bytes: int, *, least_side: int = 1, limits: DecodeLimits = DEFAULT_LIMITS) -> None:
        """
        Args:
            max_bytes: of pixels kept; 0 keeps none.
            least_side: see the class.
            limits: of every picture decoded.
        """
        self.least_side = least_side
        self._max_bytes = max_bytes
        self._limits = limits
        self._lock = threading.Lock()
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self._decoding: dict[bytes, Future[Picture]] = {}
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of pixels held now."""
        return self._size_bytes

    def get_or_decode(self, data: bytes, min_side: int | None = None) -> Picture:
        """As `decode`; a held picture is returned when it has the detail asked for, else decoded anew.

        Raises:
            ImageDecodeFailed, ImageTooLarge: as `decode`; failures are not kept.
        """
        min_side = None if min_side is None else max(min_side, self.least_side)
        key = hashlib.blake2b(data, digest_size=16).digest()
        while True:
            with self._lock:
                held = self._pictures.get(key)
                if held is not None and held.serves(min_side):
                    self._pictures.move_to_end(key)
                    return held
                running = self._decoding.get(key)
                if running is None:
                    mine = self._decoding[key] = Future()
                    break
            picture = running.result()
            if picture.serves(min_side):
                return picture
        return self._decode_for_all(key, data, min_side, mine)

    def _decode_for_all(self, key: bytes, data: bytes, min_side: int | None, mine: Future[Picture]) -> Picture:
        try:
            picture = decode(data, min_side=min_side, limits=self._limits)
        except BaseException as error:
            with self._lock:
                del self._decoding[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._decoding[key]
            self._keep(key, picture)
        mine.set_result(picture)
        return picture

    def _keep(self, key: bytes, picture: Picture) -> None:
        old = self._pictures.pop(key, None)
        self._size_bytes -= old.pixels.nbytes if old is not None else 0
        if picture.pixels.nbytes > self._max_bytes:
            return
        self._pictures[key] = picture
        self._size_bytes += picture.pixels.nbytes
        while self._size_bytes > self._max_bytes:
            _, dropped = self._pictures.popitem(last=False)
            self._size_bytes -= dropped.pixels.nbytes


def _decode_checked(data: bytes, kind: str | None, min_side: int | None, limits: DecodeLimits) -> Picture:
    if not data:
        raise ImageDecodeFailed("expected the bytes of a picture, got none", field=FIELD)
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(
            f"expected at most {limits.max_bytes} bytes, got {len(data)}; send a smaller picture", field=FIELD
        )
    if kind is None:
        raise ImageDecodeFailed(f"expected a JPEG, PNG, WebP, GIF or BMP file, got {data[:8]!r}...", field=FIELD)
    try:
        image = _READERS[kind](io.BytesIO(data))
        width, height = image.size
        if width * height > limits.max_pixels:
            raise ImageTooLarge(
                f"expected at most {limits.max_pixels} pixels, got {width} x {height}; send a smaller picture",
                field=FIELD,
            )
        scale = _choose_scale(min(width, height), min_side)
        with _LARGE_TURN if width * height > LARGE_PIXELS else nullcontext():
            pixels = _read_jpeg(data, image, scale) if kind == "jpeg" else _read_any(image, scale)
        orientation = _read_orientation(image)
    except (BowerbirdError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{kind}: {error}", field=FIELD) from error
    except Exception as error:  # the readers answer hostile bytes with almost any type of exception
        raise ImageDecodeFailed(f"the {kind} picture is damaged or truncated: {error}", field=FIELD) from error
    if orientation >= 5:
        width, height = height, width
    pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels)) if orientation in _UPRIGHT else pixels
    pixels.flags.writeable = False
    return Picture(pixels, width=width, height=height)


def _choose_scale(side: int, min_side: int | None) -> int:
    """How many times smaller the shorter side may be decoded; 1, 2, 4 or 8."""
    if min_side is None:
        return 1
    return next((scale for scale in SCALES if math.ceil(side / scale) >= max(min_side, 1)), 1)


def _read_jpeg(data: bytes, image: ImageFile.ImageFile, scale: int) -> PixelArray:
    if image.mode not in ("RGB", "L"):  # CMYK and YCCK, which Pillow reads as Adobe writes them: inverted
        return _read_any(image, scale)
    width, height = (math.ceil(side / scale) for side in image.size)
    try:
        decoded: PixelArray = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width, min_factor=scale, strict=True
        )
    except ValueError:  # stricter than other readers: Pillow decides whether the file is damaged or only odd
        return _read_any(image, scale)
    return decoded


def _read_any(image: ImageFile.ImageFile, scale: int) -> PixelArray:
    """(H, W, 3) uint8 RGB of the first frame, on white, averaged over scale x scale pixels.

    Band by band, since every step of the conversion holds a copy of what it converts.
    """
    image.load()
    width, height = image.size
    pixels = np.empty((math.ceil(height / scale), math.ceil(width / scale), 3), np.uint8)
    rows = max(BAND_PIXELS // (width * scale), 1) * scale
    for top in range(0, height, rows):
        band = _to_rgb(image.crop((0, top, width, min(top + rows, height))))
        part = np.asarray(band.reduce(scale) if scale > 1 else band)
        pixels[top // scale : top // scale + len(part)] = part
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: `convert` would clip at 255 instead of scaling
        grey = np.clip(np.asarray(image, np.int32) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    rgb = Image.new("RGB", rgba.size, "white")
    rgb.paste(rgba, mask=rgba)
    return rgb


def _read_orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read, as browsers do."""
    if not image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}:
        return 1
    try:
        orientation: Any = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1
    return orientation if isinstance(orientation, int) and orientation in range(1, 9) else 1
