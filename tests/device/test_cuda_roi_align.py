"""roi_align on a device against the host's reference, and what becomes of values that nobody looked at before."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import native
from bowerbird.native import reference
from tests.device_arrays import in_every_order, needs_device, to_device, to_host
from tests.strategies import feature_maps, repeatable

Array = npt.NDArray[Any]

pytestmark = needs_device

TOLERANCE = 2e-6  # of values up to 1: float32 sums in another order


def on_device(features: Array, boxes: Array, images: Array, **wanted: Any) -> Array:
    """The bins, computed there; the layout of the maps is kept."""
    last = features.strides[1] == features.itemsize
    stored = to_device(np.ascontiguousarray(features.transpose(0, 2, 3, 1)) if last else features)
    if last:
        stored = transposed(stored)
    return to_host(native.roi_align(stored, to_device(boxes), to_device(images), **wanted))


def transposed(maps: Any) -> Any:
    """(B, H, W, C) as (B, C, H, W), without a copy."""
    if hasattr(maps, "permute"):
        return maps.permute(0, 3, 1, 2)
    return type(maps)(maps.array.transpose(0, 3, 1, 2))


@in_every_order
@repeatable
@given(
    drawn=feature_maps(),
    output_size=st.sampled_from([(7, 7), (1, 1), (3, 5), (14, 2)]),
    spatial_scale=st.sampled_from([1.0, 0.25]),
    sampling_ratio=st.sampled_from([0, 1, 2, 3]),
    aligned=st.booleans(),
)
def test_equals_the_two_matrix_form(drawn: tuple[Array, Array, Array], **wanted: Any) -> None:
    """Maps of either layout, boxes anywhere and any options agree with the reference within rounding."""
    features, boxes, images = drawn
    actual = on_device(features, boxes[:4], images[:4], **wanted)
    np.testing.assert_allclose(
        actual, reference.roi_align(features, boxes[:4], images[:4], **wanted), rtol=0, atol=TOLERANCE
    )


def test_several_tiles_of_channels_and_bins() -> None:
    """More channels and bins than one block holds, in neither case a multiple."""
    rng = np.random.default_rng(31)
    boxes = np.array([[2, 1, 11, 9], [0, 0, 5, 12]], np.float32)
    images = np.array([1, 0])
    first = rng.random((2, 67, 12, 13), np.float32)
    for features in (first, np.ascontiguousarray(first.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        actual = on_device(features, boxes, images, output_size=(7, 6))
        expected = reference.roi_align(features, boxes, images, output_size=(7, 6))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("last", [False, True])
def test_what_is_no_box_gives_zeros(last: bool) -> None:
    """A map that is not there and a coordinate that is not finite spoil their own box alone."""
    features = np.random.default_rng(32).random((2, 5, 9, 8), np.float32)
    if last:
        features = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    boxes = np.tile(np.array([[1, 1, 7, 8]], np.float32), (7, 1))
    boxes[3, 0], boxes[4, 1], boxes[5, 2] = np.nan, np.inf, -np.inf
    images = np.array([0, 2, -1, 0, 1, 0, 1])
    actual = on_device(features, boxes, images, output_size=(2, 3))
    assert not actual[1:6].any()
    good = [0, 6]
    expected = reference.roi_align(features, boxes[good], images[good], output_size=(2, 3))
    np.testing.assert_allclose(actual[good], expected, rtol=0, atol=TOLERANCE)


def test_no_boxes_give_an_empty_array() -> None:
    """Nothing is launched."""
    features, boxes = np.zeros((1, 3, 4, 5), np.float32), np.zeros((0, 4), np.float32)
    assert on_device(features, boxes, np.zeros(0, np.int64), output_size=(2, 3)).shape == (0, 3, 2, 3)
