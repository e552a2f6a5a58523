import numpy as np
import pytest

from bowerbird.boxes import Boxes, Region
from bowerbird.errors import RegionOutOfRange


@pytest.mark.parametrize(
    "sides",
    [
        (0.5, 0.0, 0.5, 1.0),
        (0.6, 0.0, 0.5, 1.0),
        (0.0, 0.9, 1.0, 0.1),
        (-0.1, 0.0, 1.0, 1.0),
        (0.0, 0.0, 1.1, 1.0),
        (float("nan"), 0.0, 1.0, 1.0),
        (0.0, 0.0, float("inf"), 1.0),
    ],
)
def test_region_refuses_empty_inverted_outside_and_not_finite(sides: tuple[float, float, float, float]) -> None:
    """A region that is not a rectangle inside the picture is refused, naming the numbers."""
    with pytest.raises(RegionOutOfRange) as caught:
        Region(*sides)

    assert caught.value.field == "region"
    assert str(sides[0]) in caught.value.message


def test_region_to_pixels_covers_at_least_one_pixel() -> None:
    """The smallest region of a one-pixel picture is that pixel."""
    assert Region(0.999, 0.999, 1.0, 1.0).to_pixels(1, 1) == (0, 0, 1, 1)
    assert Region(0.0, 0.0, 1e-6, 1e-6).to_pixels(640, 427) == (0, 0, 1, 1)


def test_region_to_pixels_keeps_everything_inside_the_picture() -> None:
    """The whole picture maps to its exact size."""
    assert Region(0.0, 0.0, 1.0, 1.0).to_pixels(641, 427) == (0, 0, 641, 427)
    assert Region(0.25, 0.5, 0.75, 1.0).to_pixels(400, 200) == (100, 100, 300, 200)


def test_boxes_from_pixels_are_normalised_and_clipped() -> None:
    """Boxes in pixels become fractions of the picture and stay inside it."""
    boxes = Boxes.from_pixels(np.array([[-10, 0, 320, 240], [0, 0, 700, 480]], np.float32), width=640, height=480)

    np.testing.assert_allclose(boxes.xyxy, [[0, 0, 0.5, 0.5], [0, 0, 1, 1]])
    assert len(boxes) == 2
    assert len(Boxes.from_pixels(np.zeros((0, 4), np.float32), width=1, height=1)) == 0
