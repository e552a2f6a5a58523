"""Values survive the wire, and what does not fit is refused with its field."""

import numpy as np
import pytest

from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid, ItemNotFound, RegionOutOfRange, VectorInvalid
from bowerbird.rpc import wire
from bowerbird.rpc.wire import Scalar
from bowerbird.v1 import types_pb2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_vectors_survive(dtype: type) -> None:
    """A vector comes back as float32; float16 travels as float16."""
    vector = np.array([0.5, -0.25, 1.0], dtype)
    message = wire.pack_vector(vector)
    assert len(message.values) == (6 if dtype is np.float16 else 12)
    np.testing.assert_array_equal(wire.unpack_vector(message), vector.astype(np.float32))


def test_batches_survive() -> None:
    """Rows keep their order; an empty batch keeps its width."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(wire.unpack_vectors(wire.pack_vectors(matrix)), matrix)
    assert wire.unpack_vectors(wire.pack_vectors(matrix[:0])).shape == (0, 3)


def test_columns_of_a_larger_array_are_packed_row_by_row() -> None:
    """An array that is not contiguous is packed as what it shows, not as what lies in memory."""
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(wire.unpack_vectors(wire.pack_vectors(matrix)), matrix)
    np.testing.assert_array_equal(wire.unpack_vector(wire.pack_vector(matrix[:, 0])), matrix[:, 0])


def test_codes_survive() -> None:
    """Binary codes keep their bytes, one by one and as a batch."""
    codes = np.arange(32, dtype=np.uint8).reshape(2, 16)
    np.testing.assert_array_equal(wire.unpack_codes(wire.pack_codes(codes)), codes)
    np.testing.assert_array_equal(wire.unpack_code(wire.pack_code(codes[1])), codes[1])


def test_vectors_that_do_not_fit_are_refused_with_their_field() -> None:
    """Wrong type, wrong count and NaN are each refused, naming the field."""
    good = wire.pack_vector(np.ones(2, np.float32))
    binary = types_pb2.Vector(values=good.values, data_type=types_pb2.DATA_TYPE_BINARY, dimension=64)
    short = types_pb2.Vector(values=good.values, dimension=3)
    unknown = types_pb2.Vector(values=good.values, data_type=99, dimension=2)  # type: ignore[arg-type]
    nan = wire.pack_vector(np.array([1, np.nan], np.float32))
    for message in (binary, short, unknown, nan):
        with pytest.raises(VectorInvalid) as caught:
            wire.unpack_vector(message, "query.embedding")
        assert caught.value.field == "query.embedding"
    with pytest.raises(VectorInvalid, match="BINARY"):
        wire.unpack_code(good)


@pytest.mark.parametrize("value", ["text", "", 7, -(2**63), 0.5, True, False])
def test_scalars_keep_value_and_type(value: Scalar) -> None:
    """A boolean does not become an integer, nor an integer a float."""
    back = wire.unpack_value(wire.pack_value(value))
    assert back == value
    assert type(back) is type(value)


def test_scalars_that_do_not_fit_are_refused() -> None:
    """Integers of more than 64 bits, other types and empty values are errors."""
    with pytest.raises(ArgumentInvalid, match="64 bits"):
        wire.pack_value(2**63)
    with pytest.raises(ArgumentInvalid, match="got list"):
        wire.pack_value([1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentInvalid) as caught:
        wire.unpack_fields({"a": types_pb2.Value()}, "item.fields")
    assert caught.value.field == "item.fields.a"


def test_regions_survive_and_bad_ones_are_named() -> None:
    """A region comes back; one that is inverted on the wire is refused with the field of the request."""
    region = Region(0.25, 0.5, 0.75, 1.0)
    assert wire.unpack_region(wire.pack_region(region)) == region
    with pytest.raises(RegionOutOfRange) as caught:
        wire.unpack_region(types_pb2.Region(x_min=0.9, x_max=0.1, y_max=1), "input.region")
    assert caught.value.field == "input.region"


def test_timings_and_models_are_reported() -> None:
    """Stages keep their order and their seconds."""
    info = wire.response_info([("decode", 0.0015), ("infer", 0.25)], [("m", "abc")])
    assert [(timing.stage, timing.duration.ToNanoseconds()) for timing in info.timings] == [
        ("decode", 1_500_000),
        ("infer", 250_000_000),
    ]
    assert (info.models[0].name, info.models[0].version) == ("m", "abc")


def test_item_errors_survive() -> None:
    """A failed item of a batch has the class and message that the engine raised."""
    back = wire.unpack_item_error(wire.pack_item_error(3, ItemNotFound("no item x")))
    assert type(back) is ItemNotFound
    assert back.message == "no item x"
