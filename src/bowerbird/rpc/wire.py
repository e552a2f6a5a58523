"""Domain values <-> messages of the contract, for servers and clients alike.

`pack_x` makes the message, `unpack_x` checks and reads it. `field` is the path of the message in the request, for the
error that names it.

Legend: N vectors, D dimensions, W bytes of a binary code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bowerbird import vectors
from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid, BowerbirdError, RegionOutOfRange, VectorInvalid
from bowerbird.rpc import status
from bowerbird.v1 import types_pb2
from bowerbird.vectors import CodeArray, FloatArray, HalfArray

Scalar = str | int | float | bool

_DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DATA_TYPE_UNSPECIFIED: np.dtype("<f4"),
    types_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    types_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
}


def _float_dtype(data_type: int, field: str) -> np.dtype[Any]:
    dtype = _DTYPES.get(data_type)
    if dtype is None:
        raise VectorInvalid(f"expected data_type FLOAT32 or FLOAT16, got {data_type}", field=field)
    return dtype


def _data_type_of(array: FloatArray | HalfArray) -> types_pb2.DataType:
    return types_pb2.DATA_TYPE_FLOAT16 if array.dtype == np.float16 else types_pb2.DATA_TYPE_FLOAT32


def pack_vector(vector: FloatArray | HalfArray) -> types_pb2.Vector:
    """The message of one vector: (D,) float16 stays float16, everything else becomes float32."""
    data_type = _data_type_of(vector)
    return types_pb2.Vector(
        values=np.ascontiguousarray(vector, _DTYPES[data_type]).tobytes(), data_type=data_type, dimension=len(vector)
    )


def unpack_vector(message: types_pb2.Vector, field: str = "") -> FloatArray:
    """(D,) float32, finite.

    Raises:
        VectorInvalid: the bytes do not fit the dimension and type, or a value is not finite.
    """
    dtype = _float_dtype(message.data_type, field)
    matrix = vectors.from_bytes(message.values, dtype=dtype, dimension=message.dimension, field=field)
    return matrix.reshape(-1)


def pack_code(code: CodeArray) -> types_pb2.Vector:
    """The message of one binary code, (W,) uint8."""
    return types_pb2.Vector(values=code.tobytes(), data_type=types_pb2.DATA_TYPE_BINARY, dimension=8 * len(code))


def unpack_code(message: types_pb2.Vector, field: str = "") -> CodeArray:
    """(W,) uint8.

    Raises:
        VectorInvalid: not BINARY, or the bytes do not fit the dimension.
    """
    _require_binary(message.data_type, field)
    return vectors.code_from_bytes(message.values, bits=message.dimension, field=field).reshape(-1)


def pack_vectors(matrix: FloatArray | HalfArray) -> types_pb2.VectorBatch:
    """The message of N vectors: (N, D) float16 stays float16, everything else becomes float32."""
    data_type = _data_type_of(matrix)
    return types_pb2.VectorBatch(
        values=np.ascontiguousarray(matrix, _DTYPES[data_type]).tobytes(),
        data_type=data_type,
        dimension=matrix.shape[1],
        count=len(matrix),
    )


def unpack_vectors(message: types_pb2.VectorBatch, field: str = "") -> FloatArray:
    """(N, D) float32, finite.

    Raises:
        VectorInvalid: the bytes do not fit count, dimension and type, or a value is not finite.
    """
    dtype = _float_dtype(message.data_type, field)
    return vectors.from_bytes(
        message.values, dtype=dtype, dimension=message.dimension, count=message.count, field=field
    )


def pack_codes(codes: CodeArray) -> types_pb2.VectorBatch:
    """The message of N binary codes, (N, W) uint8."""
    return types_pb2.VectorBatch(
        values=codes.tobytes(),
        data_type=types_pb2.DATA_TYPE_BINARY,
        dimension=8 * codes.shape[1],
        count=len(codes),
    )


def unpack_codes(message: types_pb2.VectorBatch, field: str = "") -> CodeArray:
    """(N, W) uint8.

    Raises:
        VectorInvalid: not BINARY, or the bytes do not fit count and dimension.
    """
    _require_binary(message.data_type, field)
    return vectors.code_from_bytes(message.values, bits=message.dimension, count=message.count, field=field)


def _require_binary(data_type: int, field: str) -> None:
    if data_type != types_pb2.DATA_TYPE_BINARY:
        raise VectorInvalid(f"expected data_type BINARY, got {data_type}", field=field)


def pack_region(region: Region) -> types_pb2.Region:
    """The message of a region."""
    return types_pb2.Region(x_min=region.x_min, y_min=region.y_min, x_max=region.x_max, y_max=region.y_max)


def unpack_region(message: types_pb2.Region, field: str = "region") -> Region:
    """The region.

    Raises:
        RegionOutOfRange: empty, inverted, not finite or outside the picture.
    """
    try:
        return Region(message.x_min, message.y_min, message.x_max, message.y_max)
    except RegionOutOfRange as error:
        raise RegionOutOfRange(error.message, field=field) from error


def pack_value(value: Scalar) -> types_pb2.Value:
    """The message of one field value.

    Raises:
        ArgumentInvalid: another type, or an integer of more than 64 bits.
    """
    if isinstance(value, bool):
        return types_pb2.Value(bool_value=value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ArgumentInvalid(f"expected an integer of 64 bits, got {value}")
        return types_pb2.Value(int_value=value)
    if isinstance(value, float):
        return types_pb2.Value(double_value=value)
    if isinstance(value, str):
        return types_pb2.Value(string_value=value)
    raise ArgumentInvalid(f"a field value is text, integer, float or boolean, got {type(value).__name__}")


def unpack_value(message: types_pb2.Value, field: str = "") -> Scalar:
    """The value, as the type it was sent with.

    Raises:
        ArgumentInvalid: none is set.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise ArgumentInvalid("expected a value, got an empty one", field=field)
    value: Scalar = getattr(message, kind)
    return value


def pack_fields(fields: Mapping[str, Scalar]) -> dict[str, types_pb2.Value]:
    """The messages of an item's fields, as message constructors take them."""
    return {name: pack_value(value) for name, value in fields.items()}


def unpack_fields(messages: Mapping[str, types_pb2.Value], field: str = "fields") -> dict[str, Scalar]:
    """An item's fields.

    Raises:
        ArgumentInvalid: a value is empty.
    """
    return {name: unpack_value(message, f"{field}.{name}") for name, message in messages.items()}


def response_info(
    timings: Iterable[tuple[str, float]], models: Iterable[tuple[str, str]] = ()
) -> types_pb2.ResponseInfo:
    """What every answer says of itself.

    Args:
        timings: (stage, seconds).
        models: (name, version).
    """
    info = types_pb2.ResponseInfo(
        models=[types_pb2.ModelRef(name=name, version=version) for name, version in models],
    )
    for stage, seconds in timings:
        info.timings.add(stage=stage).duration.FromNanoseconds(int(seconds * 1e9))
    return info


def pack_item_error(index: int, error: BowerbirdError) -> types_pb2.ItemError:
    """The message of one failed item of a batch."""
    kind = type(error)
    return types_pb2.ItemError(
        index=index,
        code=status.code_of(kind).value[0],
        reason=status.reason_of(kind),
        message=status.cut(error.message),
    )


def unpack_item_error(message: types_pb2.ItemError) -> BowerbirdError:
    """The error of one failed item, rebuilt."""
    return status.from_reason(message.reason, message.message)
