"""The compiled preprocessing against the reference, Pillow and OpenCV, and what must hold of any resize."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import between_guards, every_level, pictures, repeatable, simd

Array = npt.NDArray[Any]

MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}
TOLERANCE = 255 * 1e-5  # of a pixel value: float32 sums of weights that are rounded to float32 themselves


@every_level
@repeatable
@given(
    images=st.lists(pictures(), max_size=3),
    height=st.sampled_from([1, 2, 7, 32, 33, 70]),
    width=st.sampled_from([1, 3, 4, 5, 64, 101]),
    order=st.sampled_from(["rgb", "bgr"]),
    resize=st.sampled_from(["bilinear", "area"]),
    margin=st.sampled_from([None, 0, 1, 6, 90]),
)
def test_equals_the_reference(
    level: str, images: list[Array], height: int, width: int, order: str, resize: str, margin: int | None
) -> None:
    """Any pictures at any output size agree with the reference within rounding, squeezed or cut."""
    wanted: dict[str, Any] = {
        "height": height, "width": width, "mean": MEAN, "std": STD, "channel_order": order, "resize": resize,
        "shorter_side": None if margin is None else max(height, width) + margin,
    }  # fmt: skip
    with simd(level):
        actual = native.preprocess(images, **wanted)
    np.testing.assert_allclose(actual, reference.preprocess(images, **wanted), rtol=0, atol=TOLERANCE / min(STD))


@every_level
@pytest.mark.parametrize("size", [(224, 224), (37, 500), (427, 640), (1, 1), (900, 3)])
def test_agrees_with_pillow(level: str, size: tuple[int, int]) -> None:
    """The filter is Pillow's BILINEAR; Pillow rounds to whole values after each of its two passes."""
    picture = np.random.default_rng(13).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    with simd(level):
        ours = native.preprocess([picture], height=size[0], width=size[1], **PLAIN)[0].transpose(1, 2, 0)
    theirs = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1.05)


@every_level
@pytest.mark.parametrize("size", [(224, 224), (37, 50), (150, 205), (1, 1), (299, 3)])
def test_area_agrees_with_opencv(level: str, size: tuple[int, int]) -> None:
    """For reductions, area is OpenCV's INTER_AREA; OpenCV rounds to whole values, and drops slivers of a pixel."""
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install opencv-python-headless")
    picture = np.random.default_rng(12).integers(0, 256, (300, 410, 3), dtype=np.uint8)
    with simd(level):
        ours = native.preprocess([picture], height=size[0], width=size[1], resize="area", **PLAIN)[0]
    theirs = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    np.testing.assert_allclose(ours.transpose(1, 2, 0), theirs, rtol=0, atol=1)


@every_level
def test_area_keeps_the_mean(level: str) -> None:
    """Boxes share the picture out without gaps or overlaps, whether it is reduced or enlarged."""
    picture = np.random.default_rng(11).integers(0, 256, (45, 77, 3), dtype=np.uint8)
    for size in ((31, 20), (200, 90), (45, 400)):
        with simd(level):
            batch = native.preprocess([picture], height=size[0], width=size[1], resize="area", **PLAIN)
        np.testing.assert_allclose(batch.mean(axis=(0, 2, 3)), picture.mean(axis=(0, 1)), rtol=1e-4)


@every_level
def test_a_cut_is_a_part_of_the_whole(level: str) -> None:
    """With a shorter side, the centre of the picture resized as a whole comes out."""
    picture = np.random.default_rng(10).integers(0, 256, (120, 203, 3), dtype=np.uint8)
    with simd(level):
        whole = native.preprocess([picture], height=60, width=101, **PLAIN)
        cut = native.preprocess([picture], height=48, width=50, shorter_side=60, **PLAIN)
    np.testing.assert_allclose(cut, whole[:, :, 6:54, 26:76], rtol=0, atol=TOLERANCE)


def test_cuts_where_torchvision_does() -> None:
    """Resize and CenterCrop of torchvision on a tensor of floats give the same."""
    transforms = pytest.importorskip("torchvision.transforms.v2", reason="needs torchvision")
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(9).integers(0, 256, (333, 221, 3), dtype=np.uint8)
    theirs = transforms.Compose([transforms.Resize(97, antialias=True), transforms.CenterCrop((96, 51))])(
        torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))
    )
    ours = native.preprocess([picture], height=96, width=51, shorter_side=97, **PLAIN)
    np.testing.assert_allclose(ours[0], theirs.numpy(), rtol=0, atol=0.01)


@every_level
@pytest.mark.parametrize("resize", ["bilinear", "area"])
def test_a_plain_colour_stays_that_colour(level: str, resize: Any) -> None:
    """Weights sum to one everywhere, borders included."""
    picture = np.full((61, 83, 3), (10, 128, 255), np.uint8)
    with simd(level):
        batch = native.preprocess([picture], height=29, width=200, resize=resize, **PLAIN)
    for channel, value in enumerate((10, 128, 255)):
        np.testing.assert_allclose(batch[0, channel], value, rtol=1e-5)


@every_level
@pytest.mark.parametrize("resize", ["bilinear", "area"])
def test_same_size_changes_nothing_but_the_layout(level: str, resize: Any) -> None:
    """A picture of the output's size is copied exactly."""
    picture = np.random.default_rng(14).integers(0, 256, (50, 67, 3), dtype=np.uint8)
    with simd(level):
        batch = native.preprocess([picture], height=50, width=67, resize=resize, **PLAIN)
    np.testing.assert_array_equal(batch[0], picture.transpose(2, 0, 1).astype(np.float32))


def test_bgr_is_rgb_with_mean_and_std_of_the_output() -> None:
    """Mean and std follow the channel order of the output."""
    picture = np.random.default_rng(15).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    bgr = native.preprocess([picture], height=10, width=10, mean=MEAN, std=STD, channel_order="bgr")
    swapped = native.preprocess([picture[:, :, ::-1].copy()], height=10, width=10, mean=MEAN, std=STD)
    np.testing.assert_array_equal(bgr, swapped)


def test_a_crop_is_taken_without_a_copy() -> None:
    """A view with gaps between its rows, or upside down, gives what its copy gives."""
    picture = np.random.default_rng(16).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    views = [picture[10:100, 20:71], picture[::-1], picture[::2], picture[50:51, 30:31]]
    of_views = native.preprocess(views, height=32, width=48, mean=MEAN, std=STD)
    of_copies = native.preprocess(
        [np.ascontiguousarray(view) for view in views], height=32, width=48, mean=MEAN, std=STD
    )
    np.testing.assert_array_equal(of_views, of_copies)


@pytest.mark.parametrize("num_threads", [2, 5])
def test_batches_and_threads_do_not_change_the_result(num_threads: int) -> None:
    """A batch on several threads holds what its pictures give one by one."""
    rng = np.random.default_rng(17)
    images = [rng.integers(0, 256, (40 + 31 * i, 200 - 20 * i, 3), dtype=np.uint8) for i in range(6)]
    batch = native.preprocess(images, height=100, width=77, mean=MEAN, std=STD, num_threads=num_threads)
    for picture, row in zip(images, batch, strict=True):
        np.testing.assert_array_equal(native.preprocess([picture], height=100, width=77, mean=MEAN, std=STD)[0], row)


@every_level
@pytest.mark.parametrize("at_end", [True, False])
def test_reads_nothing_beside_the_picture(level: str, at_end: bool) -> None:
    """A picture may end, or begin, where the memory of the process does."""
    rng = np.random.default_rng(18)
    with between_guards(1 << 14) as memory, simd(level):
        for width in range(1, 71):
            picture = rng.integers(0, 256, (5, width, 3), dtype=np.uint8)
            place = memory[-picture.nbytes :] if at_end else memory[: picture.nbytes]
            view = place.reshape(picture.shape)
            view[...] = picture
            for cut in (np.s_[:], np.s_[::-1], np.s_[4:], np.s_[:, width // 2 :], np.s_[:, : width // 2 + 1]):
                for resize in ("area", "bilinear"):
                    actual = native.preprocess([view[cut]], height=3, width=20, resize=resize, **PLAIN)
                    expected = native.preprocess([picture[cut]], height=3, width=20, resize=resize, **PLAIN)
                    np.testing.assert_array_equal(actual, expected)


def test_writes_into_the_given_batch() -> None:
    """`out` is filled and returned, and nothing beside it is touched."""
    picture = np.full((9, 9, 3), 7, np.uint8)
    store = np.full((4, 3, 5, 6), -1, np.float32)
    out = store[1:2]
    assert native.preprocess([picture], height=5, width=6, out=out, **PLAIN) is out
    np.testing.assert_allclose(store[1], 7, rtol=1e-6)
    assert (store[[0, 2, 3]] == -1).all()


def test_no_pictures_give_an_empty_batch() -> None:
    """Zero pictures are a batch of zero rows."""
    assert native.preprocess([], height=4, width=5, **PLAIN).shape == (0, 3, 4, 5)
