"""The classical skin measure: colour space, angle, bins, and when there is no answer."""

import numpy as np
import pytest

from bowerbird.models import skin_tone


def paint(colour: tuple[int, int, int], background: tuple[int, int, int] = (20, 60, 200)) -> np.ndarray:
    """A 40 x 40 picture, a quarter of it of this colour."""
    pixels = np.empty((40, 40, 3), np.uint8)
    pixels[:] = background
    pixels[:20, :20] = colour
    return pixels


def test_lab_of_known_colours() -> None:
    """White, mid grey and the primaries have the values that every table of sRGB gives."""
    colours = np.array([[255, 255, 255], [119, 119, 119], [255, 0, 0], [0, 0, 255]], np.uint8)
    expected = [[100, 0, 0], [50.03, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    assert skin_tone.to_lab(colours) == pytest.approx(np.array(expected), abs=0.02)


def test_the_angle_is_that_of_the_definition() -> None:
    """For one flat colour it is arctan((L - 50) / b) of that colour, whatever surrounds it."""
    colour = (224, 172, 140)
    lightness, _, yellowness = skin_tone.to_lab(np.array(colour, np.uint8))
    measured = skin_tone.measure_tone(paint(colour))
    assert measured.angle == pytest.approx(np.degrees(np.arctan((lightness - 50) / yellowness)))
    assert measured.share == 0.25


def test_darker_skin_has_a_smaller_angle() -> None:
    """Five skin colours from light to dark fall into bins in that order."""
    colours = [(245, 210, 185), (225, 175, 140), (200, 145, 105), (150, 100, 65), (90, 58, 42)]
    tones = [skin_tone.measure_tone(paint(colour)) for colour in colours]
    angles = [tone.angle for tone in tones]
    assert angles == sorted(angles, reverse=True)
    names = [name for name, _ in skin_tone.TYPES]
    bins = [names.index(tone.type) for tone in tones]
    assert bins == sorted(bins)
    assert len(set(bins)) >= 4


@pytest.mark.parametrize(
    ("angle", "name"),
    [(56, "very-light"), (55, "light"), (41, "intermediate"), (28, "tan"), (10, "brown"), (-30, "dark"), (-89, "dark")],
)
def test_bounds_are_those_of_the_source(angle: float, name: str) -> None:
    """A bound itself belongs to the darker bin."""
    assert skin_tone.name_type(angle) == name


@pytest.mark.parametrize("colour", [(20, 60, 200), (30, 160, 40), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
def test_a_picture_without_skin_has_no_angle(colour: tuple[int, int, int]) -> None:
    """Blue, green, grey, white and black are not skin: NaN and an empty bin, not a number."""
    measured = skin_tone.measure_tone(paint(colour))
    assert np.isnan(measured.angle)
    assert (measured.type, measured.share) == ("", 0.0)


def test_a_few_skin_pixels_are_no_answer() -> None:
    """Less than the asked share of the picture says nothing."""
    pixels = paint((20, 60, 200))
    pixels[0, :8] = (224, 172, 140)  # half a per cent
    assert np.isnan(skin_tone.measure_tone(pixels).angle)
    assert not np.isnan(skin_tone.measure_tone(pixels, min_share=0.004).angle)
