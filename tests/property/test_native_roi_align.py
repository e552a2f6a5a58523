"""The compiled roi_align against the two-matrix form, samples gathered one by one, and torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowerbird import native
from bowerbird.native import reference
from tests.strategies import every_level, feature_maps, repeatable, simd

Array = npt.NDArray[Any]

TOLERANCE = 2e-6  # of values up to 1: float32 sums of weights that are rounded to float32 themselves
BOXES = np.array(
    [
        [2, 3, 17.5, 12.25],
        [0, 0, 20, 15],
        [-4, -7, 6, 5],  # partly outside
        [15, 10, 40, 39],
        [-300, -300, -200, -250],  # outside
        [100, 2, 120, 9],
        [5, 5, 5, 5],  # empty
        [9, 2, 9, 11],
        [12, 13, 3, 1],  # reversed
        [4.5, 4.5, 5.5, 5.5],
        [-1e6, -1e6, 1e6, 1e6],  # huge
        [-3e38, -3e38, 3e38, 3e38],
    ],
    np.float32,
)


@every_level
@repeatable
@given(
    drawn=feature_maps(),
    output_size=st.sampled_from([(7, 7), (1, 1), (3, 5), (14, 2), (17, 16)]),
    scale=st.sampled_from([1.0, 0.25, 1 / 14]),
    sampling_ratio=st.sampled_from([0, 1, 2, 3, 7]),
    aligned=st.booleans(),
)
def test_equals_the_two_matrix_form(level: str, drawn: tuple[Array, Array, Array], **wanted: Any) -> None:
    """Maps of any layout, boxes anywhere and any options agree with the reference within rounding."""
    features, boxes, images = drawn
    wanted["spatial_scale"] = wanted.pop("scale")
    with simd(level):
        actual = native.roi_align(features, boxes, images, **wanted)
    np.testing.assert_allclose(actual, reference.roi_align(features, boxes, images, **wanted), rtol=0, atol=TOLERANCE)


def gathered(plane: Array, box: Array, size: tuple[int, int], sampling_ratio: int) -> Array:
    """One channel of one aligned box, sample by sample."""
    height, width = plane.shape
    x_min, y_min, x_max, y_max = box.astype(np.float64) - 0.5
    bin_height, bin_width = (y_max - y_min) / size[0], (x_max - x_min) / size[1]
    bins = np.zeros(size)
    for i, j in np.ndindex(size):
        for s, t in np.ndindex(sampling_ratio, sampling_ratio):
            y = y_min + (i + (s + 0.5) / sampling_ratio) * bin_height
            x = x_min + (j + (t + 0.5) / sampling_ratio) * bin_width
            if not (-1 <= y <= height and -1 <= x <= width):
                continue
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
            below = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
            bins[i, j] += above * (1 - (y - top)) + below * (y - top)
    return bins / sampling_ratio**2


@every_level
@pytest.mark.parametrize("sampling_ratio", [1, 2, 5])
def test_equals_samples_gathered_one_by_one(level: str, sampling_ratio: int) -> None:
    """The definition: bilinear samples, summed and divided by their number."""
    features = np.random.default_rng(21).random((1, 3, 15, 20), np.float32)
    with simd(level):
        actual = native.roi_align(
            features, BOXES, np.zeros(len(BOXES), np.int64), output_size=(4, 3), sampling_ratio=sampling_ratio
        )
    expected = [[gathered(plane, box, (4, 3), sampling_ratio) for plane in features[0]] for box in BOXES]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_equals_torchvision(aligned: bool, sampling_ratio: int) -> None:
    """Edge cases included, except boxes of which an adaptive torchvision would take 10^12 samples."""
    ops = pytest.importorskip("torchvision.ops", reason="needs torchvision")
    torch = pytest.importorskip("torch")
    features = np.random.default_rng(22).random((1, 3, 15, 20), np.float32)
    boxes = BOXES[:-2]
    ours = native.roi_align(
        features,
        boxes,
        np.zeros(len(boxes), np.int64),
        output_size=(4, 3),
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    theirs = ops.roi_align(torch.from_numpy(features), [torch.from_numpy(boxes)], (4, 3), 1.0, sampling_ratio, aligned)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5)  # it computes positions in float32


@every_level
@pytest.mark.parametrize("channels", [1, 7, 8, 16, 17, 40])
def test_the_layout_of_the_maps_does_not_matter(level: str, channels: int) -> None:
    """Channels first, last, reversed, every second one, and rows that lie apart give the same to the last bit."""
    rng = np.random.default_rng(23)
    features = rng.random((2, channels, 15, 20), np.float32)
    images = rng.integers(0, 2, len(BOXES))
    last = np.ascontiguousarray(features.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    apart = np.empty((2, 2 * channels, 15, 29), np.float32)[:, ::2, :, 4:24]
    apart[:] = features
    flipped = np.ascontiguousarray(features[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    with simd(level):
        expected = native.roi_align(features, BOXES, images, output_size=(3, 7))
        for layout in (last, apart, flipped):
            np.testing.assert_array_equal(native.roi_align(layout, BOXES, images, output_size=(3, 7)), expected)


def test_a_map_that_is_broadcast_takes_no_memory() -> None:
    """Images that share one map by a stride of zero may be as many as an index can count."""
    features = np.random.default_rng(27).random((1, 3, 15, 20), np.float32)
    images = np.arange(len(BOXES))[::-1] * 2**36
    shared = np.broadcast_to(features, (2**40, *features.shape[1:]))
    bins = native.roi_align(shared, BOXES, images, output_size=(3, 7))
    expected = native.roi_align(features, BOXES, np.zeros(len(BOXES), np.int64), output_size=(3, 7))
    np.testing.assert_array_equal(bins, expected)


@pytest.mark.parametrize("num_threads", [2, 5])
@pytest.mark.parametrize("count", [3, 300])
def test_a_box_does_not_depend_on_the_others(num_threads: int, count: int) -> None:
    """Many boxes on several threads give what each gives alone."""
    rng = np.random.default_rng(24)
    features = rng.random((3, 20, 40, 30), np.float32)
    corners = rng.random((count, 2), np.float32) * 25
    boxes = np.concatenate([corners, corners + rng.random((count, 2), np.float32) * 9], axis=1)
    images = rng.integers(0, 3, count)
    together = native.roi_align(features, boxes, images, output_size=(5, 6), num_threads=num_threads)
    for r in range(count):
        alone = native.roi_align(features, boxes[r : r + 1], images[r : r + 1], output_size=(5, 6))
        np.testing.assert_array_equal(together[r : r + 1], alone)


@every_level
@pytest.mark.parametrize(("channels", "size", "count"), [(40, (7, 6), 700), (17, (1, 3), 21000), (1, (31, 33), 1100)])
def test_a_result_larger_than_the_caches_is_the_same(
    level: str, channels: int, size: tuple[int, int], count: int
) -> None:
    """Whole lines go past the caches then; where bins and blocks of channels end within one, nothing is lost."""
    rng = np.random.default_rng(26)
    features = rng.random((1, channels, 12, 10), np.float32)
    corners = rng.random((count, 2), np.float32) * 8
    boxes, images = np.concatenate([corners, corners + 3], axis=1), np.zeros(count, np.int64)
    with simd(level):
        whole = native.roi_align(features, boxes, images, output_size=size, num_threads=2)
        parts = [
            native.roi_align(features, boxes[part], images[part], output_size=size)
            for part in (slice(first, first + count // 7) for first in range(0, count, count // 7))
        ]
    assert whole.nbytes > 2**22 > max(part.nbytes for part in parts)
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@every_level
def test_a_plain_map_gives_plain_bins(level: str) -> None:
    """Inside the map the weights of a bin sum to one."""
    features = np.full((1, 5, 15, 20), 7, np.float32)
    with simd(level):
        bins = native.roi_align(features, BOXES[:2], np.zeros(2, np.int64), output_size=(6, 6), sampling_ratio=0)
    np.testing.assert_allclose(bins, 7, rtol=1e-6)


def test_a_map_of_its_own_size_is_copied() -> None:
    """One sample a bin at each pixel's centre is that pixel."""
    features = np.random.default_rng(25).random((1, 20, 9, 11), np.float32)
    box = np.array([[0, 0, 11, 9]], np.float32)
    bins = native.roi_align(features, box, np.zeros(1, np.int64), output_size=(9, 11), sampling_ratio=1)
    np.testing.assert_array_equal(bins, features)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_no_boxes_or_channels_give_an_empty_array(shape: tuple[int, ...]) -> None:
    """Zero boxes need no map."""
    features, boxes = np.zeros(shape, np.float32), np.zeros((0, 4), np.float32)
    bins = native.roi_align(features, boxes, np.zeros(0, np.int64), output_size=(2, 3))
    assert bins.shape == (0, shape[1], 2, 3)
