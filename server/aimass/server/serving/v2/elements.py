"""The elements of a tensor as the bytes that cross the wire, for the binary extension and for gRPC.

Row-major and little-endian without padding, in the native size of the datatype; an element of BYTES is its length as
four bytes and then itself (Triton, "Binary Tensor Data Extension").
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.servable import DTYPES, Array

__all__ = ["MOST_DIMENSIONS", "bits_of", "bound_texts", "dtype_of", "numbers_of", "pack", "size_of", "unpack"]

MOST_DIMENSIONS: Final = 8
_MOST_ELEMENTS: Final = 1 << 40  # far more than a body can hold; a shape with an empty axis may claim anything
_MOST_TEXTS: Final = 1 << 18
"""Elements of BYTES are read one by one, so many in some 80 ms, and meanwhile nobody else is answered."""
_LENGTH: Final = struct.Struct("<I")


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """How a datatype is held; raises `BadInput` for a name that the protocol does not know."""
    if (found := DTYPES.get(datatype)) is None:
        cure = f"Choose one of: {', '.join(DTYPES)}."
        raise BadInput("unknown datatype", code="tensor.datatype", value=datatype, cure=cure)
    return found


def size_of(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has.

    Raises `BadInput` where the shape has too many axes, or axes of a length that no tensor has.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise BadInput(
            f"tensor {name} has too many axes", code="tensor.dimensions", value=len(shape), limit=MOST_DIMENSIONS
        )
    elements = 1
    for size in shape:
        if size < 0:
            raise BadInput(f"tensor {name} has an axis of negative length", code="tensor.shape", value=list(shape))
        elements *= size
    if elements > _MOST_ELEMENTS or (not elements and math.prod(size or 1 for size in shape) > _MOST_ELEMENTS):
        raise BadInput(f"tensor {name} is too large", code="tensor.shape", value=list(shape), limit=_MOST_ELEMENTS)
    return elements


def bound_texts(texts: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Raises `LimitExceeded` where tensors of BYTES, by name and shape, have too many elements together."""
    elements = sum(size_of(name, shape) for name, shape in texts)
    if elements > _MOST_TEXTS:
        raise LimitExceeded(
            "a request has too many elements of BYTES",
            code="v2.texts",
            value=elements,
            limit=_MOST_TEXTS,
            cure="Send fewer rows at once.",
        )


def bits_of(numbers: Array) -> Array:
    """float32 as the bits of the nearest bfloat16, ties to even; NaN stays NaN.

    bfloat16 is the upper half of float32. Adding half of what is cut off rounds; the lowest bit that is kept breaks
    ties. Of a NaN the carry could make an infinity, so its quiet bit is set instead.
    """
    whole = np.asarray(numbers, np.float32).view(np.uint32)
    rounded = (whole + (np.uint32(0x7FFF) + ((whole >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    quiet = (whole >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(numbers), quiet, rounded).astype(np.uint16)


def numbers_of(bits: Array) -> Array:
    """The bits of bfloat16 as float32, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def pack(datatype: str, array: Array) -> bytes:
    """The elements of `array` as bytes."""
    if datatype != "BYTES":
        return array.tobytes()
    texts: list[bytes] = array.ravel().tolist()
    return b"".join([_LENGTH.pack(len(text)) + text for text in texts])


def unpack(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """The array whose elements are `data`, without a copy where numpy can hold it so: it is then read-only.

    Raises `BadInput` where there are more or fewer bytes than the shape needs, or a BOOL that is neither 0 nor 1.
    """
    dtype, view = dtype_of(datatype), memoryview(data)
    elements = size_of(name, shape)
    if datatype == "BYTES":
        return _texts(name, view, elements).reshape(shape)
    if (expected := elements * dtype.itemsize) != view.nbytes:
        raise BadInput(
            f"tensor {name} has not as many bytes as its shape and datatype say",
            code="tensor.size",
            value=view.nbytes,
            limit=expected,
        )
    if datatype == "BOOL" and view.nbytes and np.frombuffer(view, np.uint8).max() > 1:
        raise BadInput(f"tensor {name} holds a BOOL that is neither 0 nor 1", code="tensor.bool")
    return np.frombuffer(view, dtype).reshape(shape)


def _texts(name: str, view: memoryview, expected: int) -> Array:
    if expected * _LENGTH.size > view.nbytes:
        raise _ends_early(name)
    texts = np.empty(expected, object)
    place = 0
    for index in range(expected):
        if place + _LENGTH.size > view.nbytes:
            raise _ends_early(name)
        (length,) = _LENGTH.unpack_from(view, place)
        place += _LENGTH.size
        if place + length > view.nbytes:
            raise _ends_early(name)
        texts[index] = bytes(view[place : place + length])
        place += length
    if place != view.nbytes:
        raise BadInput(
            f"tensor {name} has bytes after its last element", code="tensor.size", value=view.nbytes, limit=place
        )
    return texts


def _ends_early(name: str) -> BadInput:
    return BadInput(f"the bytes of tensor {name} end before its elements do", code="tensor.size")
