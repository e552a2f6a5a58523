"""Float embeddings and binary codes: checks, packing and the conversions between them.

Legend: N vectors, D dimensions, B bits, W = B / 8 bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bowerbird.errors import VectorInvalid

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
CodeArray = npt.NDArray[np.uint8]

CODE_BITS_MULTIPLE = 64


def normalize(vectors: FloatArray) -> FloatArray:
    """The same directions with unit length; a zero vector stays zero.

    Args:
        vectors: (N, D) or (D,) float32.
    Returns:
        float32, same shape.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def pack_code(projections: FloatArray) -> CodeArray:
    """Binary codes: bit i is 1 where projection i is positive; the first bit is the highest of the first byte.

    Args:
        projections: (N, B) or (B,) float32, B a multiple of 64.
    Returns:
        (N, W) or (W,) uint8.
    Source: Billion-scale ViT pretraining, 2022 (binarised embeddings): sign of the centred embedding.
    """
    if projections.shape[-1] % CODE_BITS_MULTIPLE:
        raise VectorInvalid(f"a code has a multiple of {CODE_BITS_MULTIPLE} bits, got {projections.shape[-1]}")
    return np.packbits(projections > 0, axis=-1)


def from_bytes(values: bytes, *, dtype: npt.DTypeLike, dimension: int, count: int = 1, field: str = "") -> FloatArray:
    """A (count, dimension) float32 matrix out of packed little-endian float32 or float16 bytes.

    Raises:
        VectorInvalid: the byte count does not fit, or a value is not finite.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    expected = kind.itemsize * dimension * count
    if dimension <= 0 or len(values) != expected:
        raise VectorInvalid(
            f"expected {count} vector(s) of dimension {dimension} as {kind.name}: {expected} bytes, got {len(values)}",
            field=field,
        )
    matrix = np.frombuffer(values, kind).reshape(count, dimension).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise VectorInvalid("a vector has a value that is not finite (NaN or infinity)", field=field)
    return matrix


def code_from_bytes(values: bytes, *, bits: int, count: int = 1, field: str = "") -> CodeArray:
    """A (count, bits / 8) uint8 matrix of packed binary codes.

    Raises:
        VectorInvalid: bits is no multiple of 64, or the byte count does not fit.
    """
    if bits <= 0 or bits % CODE_BITS_MULTIPLE:
        raise VectorInvalid(f"a code has a positive multiple of {CODE_BITS_MULTIPLE} bits, got {bits}", field=field)
    if len(values) != bits // 8 * count:
        raise VectorInvalid(
            f"expected {count} code(s) of {bits} bits: {bits // 8 * count} bytes, got {len(values)}", field=field
        )
    return np.frombuffer(values, np.uint8).reshape(count, bits // 8)
