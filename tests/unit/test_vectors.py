import numpy as np
import pytest

from bowerbird import vectors
from bowerbird.errors import VectorInvalid


def test_normalize_gives_unit_length_and_keeps_zero() -> None:
    """Every direction gets length one; the zero vector stays zero instead of becoming NaN."""
    out = vectors.normalize(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))

    np.testing.assert_allclose(out, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    assert out.dtype == np.float32


def test_pack_code_puts_the_first_bit_highest() -> None:
    """The sign of projection 0 is the highest bit of the first byte; zero counts as not set."""
    projections = np.full(64, -1.0, np.float32)
    projections[[0, 9]] = 1.0
    projections[1] = 0.0

    assert vectors.pack_code(projections).tolist() == [128, 64, 0, 0, 0, 0, 0, 0]


def test_pack_code_refuses_a_length_that_is_no_multiple_of_64() -> None:
    """Codes are whole 64-bit words."""
    with pytest.raises(VectorInvalid, match="multiple of 64"):
        vectors.pack_code(np.ones(65, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_from_bytes_round_trips(dtype: type) -> None:
    """Packed little-endian bytes become the same numbers."""
    matrix = np.arange(6, dtype=dtype).reshape(2, 3)

    np.testing.assert_array_equal(vectors.from_bytes(matrix.tobytes(), dtype=dtype, dimension=3, count=2), matrix)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_from_bytes_refuses_values_that_are_not_finite(bad: float) -> None:
    """A NaN in a vector would poison every score, so it is refused at the door."""
    with pytest.raises(VectorInvalid, match="not finite"):
        vectors.from_bytes(np.array([1.0, bad], np.float32).tobytes(), dtype=np.float32, dimension=2)


def test_from_bytes_says_expected_and_got_bytes() -> None:
    """A wrong byte count names both numbers."""
    with pytest.raises(VectorInvalid, match=r"8 bytes, got 7"):
        vectors.from_bytes(b"\0" * 7, dtype=np.float32, dimension=2)
    with pytest.raises(VectorInvalid):
        vectors.from_bytes(b"", dtype=np.float32, dimension=0)


def test_code_from_bytes_checks_bits_and_length() -> None:
    """Codes need a positive multiple of 64 bits and exactly that many bytes."""
    assert vectors.code_from_bytes(b"\1" * 16, bits=64, count=2).shape == (2, 8)
    for bits, size in [(0, 0), (63, 8), (64, 7)]:
        with pytest.raises(VectorInvalid):
            vectors.code_from_bytes(b"\0" * size, bits=bits)
