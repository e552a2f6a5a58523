"""preprocess on a device against the host's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import native
from bowerbird.native import reference
from tests.device_arrays import in_every_order, needs_device, to_device, to_host
from tests.strategies import pictures, repeatable

Array = npt.NDArray[Any]

pytestmark = needs_device

MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}
TOLERANCE = 255 * 2e-5  # of a pixel value: float32 sums of weights that are not normalised beforehand


def on_device(images: list[Array], **wanted: Any) -> Array:
    """The batch, computed there."""
    return to_host(native.preprocess([to_device(image) for image in images], **wanted))


@in_every_order
@settings(repeatable, max_examples=25)
@given(
    images=st.lists(pictures(), min_size=1, max_size=2),
    height=st.sampled_from([1, 2, 7, 13]),
    width=st.sampled_from([1, 5, 32, 37]),
    order=st.sampled_from(["rgb", "bgr"]),
    resize=st.sampled_from(["bilinear", "area"]),
    margin=st.sampled_from([None, 0, 6]),
)
def test_equals_the_reference(
    images: list[Array], height: int, width: int, order: str, resize: str, margin: int | None
) -> None:
    """Any pictures at any output size agree with the reference within rounding, squeezed or cut."""
    wanted: dict[str, Any] = {
        "height": height, "width": width, "mean": MEAN, "std": STD, "channel_order": order, "resize": resize,
        "shorter_side": None if margin is None else max(height, width) + margin,
    }  # fmt: skip
    actual = on_device(images, **wanted)
    np.testing.assert_allclose(actual, reference.preprocess(images, **wanted), rtol=0, atol=TOLERANCE / min(STD))


@pytest.mark.parametrize("resize", ["bilinear", "area"])
def test_same_size_changes_nothing_but_the_layout(resize: Any) -> None:
    """A picture of the output's size is copied exactly."""
    picture = np.random.default_rng(41).integers(0, 256, (13, 37, 3), dtype=np.uint8)
    batch = on_device([picture], height=13, width=37, resize=resize, **PLAIN)
    np.testing.assert_array_equal(batch[0], picture.transpose(2, 0, 1).astype(np.float32))


def test_more_pictures_than_one_launch_takes() -> None:
    """Descriptors travel with the launch, sixty at a time; each picture gives what it gives alone."""
    rng = np.random.default_rng(42)
    images = [rng.integers(0, 256, (2 + i % 5, 3 + i % 7, 3), dtype=np.uint8) for i in range(63)]
    batch = on_device(images, height=4, width=5, mean=MEAN, std=STD)
    for n in (0, 1, 59, 60, 62):
        np.testing.assert_array_equal(batch[n], on_device([images[n]], height=4, width=5, mean=MEAN, std=STD)[0])
    expected = reference.preprocess(images, height=4, width=5, mean=MEAN, std=STD)
    np.testing.assert_allclose(batch, expected, rtol=0, atol=TOLERANCE / min(STD))


def test_a_crop_is_taken_without_a_copy() -> None:
    """A view with gaps between its rows gives what its copy gives."""
    picture = np.random.default_rng(43).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    view = to_device(picture)[5:33, 7:20]
    actual = to_host(native.preprocess([view], height=8, width=9, mean=MEAN, std=STD))
    np.testing.assert_array_equal(
        actual, on_device([picture[5:33, 7:20].copy()], height=8, width=9, mean=MEAN, std=STD)
    )
