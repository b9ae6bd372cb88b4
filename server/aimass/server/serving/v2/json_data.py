"""The `data` of a tensor as JSON has it: a list of elements, flat or nested as the shape is, in both directions.

JSON has no NaN and no infinity; they are the strings "NaN", "Infinity" and "-Infinity", as in the JSON mapping of
protocol buffers, which numpy and so the published clients read. Nothing is rounded to another kind: an integer is no
float, a number is no BOOL, and what a datatype cannot hold is refused. The bytes of a BYTES element are the UTF-8 of
its string, or its base64 where the tensor's parameter `content_type` is `base64` (as MLServer has it).

No message holds a value: messages are logged, and values may be somebody's.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.servable import Array
from aimass.server.serving.v2.elements import (
    MOST_DIMENSIONS,
    bits_of,
    dtype_of,
    numbers_of,
    size_of,
)

__all__ = ["BASE64", "CONTENT_TYPE", "array_of", "data_of", "spelt"]

CONTENT_TYPE: Final = "content_type"
BASE64: Final = "base64"
_SPELT: Final[Mapping[str, float]] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SPELLING: Final[Mapping[str, str]] = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class _Decoders(msgspec.Struct, frozen=True):
    """Of lists of one kind of element: `nested` to each depth from 1, and `mixed`, which tells what is wrong."""

    nested: tuple[msgspec.json.Decoder[list[Any]], ...]
    mixed: msgspec.json.Decoder[list[Any]]


def _decoders(element: Any, spelt: Any = None) -> _Decoders:
    """Decoders to the depth that a shape may have: what is deeper is refused as it is read."""
    nested: Any = element
    mixed: Any = spelt or element
    by_depth = []
    for _ in range(MOST_DIMENSIONS):
        nested, mixed_list = list[nested], list[mixed]
        by_depth.append(msgspec.json.Decoder(nested))
        mixed = (spelt or element) | mixed_list
    return _Decoders(tuple(by_depth), msgspec.json.Decoder(mixed_list))


_BOOLS: Final = _decoders(bool)
_INTEGERS: Final = _decoders(int)
_FLOATS: Final = _decoders(float, float | str)
_TEXTS: Final = _decoders(str)
_BY_KIND: Final[Mapping[str, _Decoders]] = {"b": _BOOLS, "u": _INTEGERS, "i": _INTEGERS, "f": _FLOATS, "O": _TEXTS}


def array_of(name: str, datatype: str, shape: Sequence[int], data: bytes, *, encoded: bool) -> Array:
    """The array whose elements the JSON text `data` lists; `encoded` where those of BYTES are base64.

    Raises `BadInput` for elements of another kind, too many or too few of them, or numbers beyond the datatype.
    """
    dtype = dtype_of(datatype)
    size = size_of(name, shape)
    decoders = _FLOATS if datatype == "BF16" else _BY_KIND[dtype.kind]
    elements = _elements(name, datatype, shape, decoders, data)
    if len(elements) != size:
        raise BadInput(
            f"tensor {name} has not as many elements as its shape says",
            code="tensor.size",
            value=len(elements),
            limit=size,
        )
    array = _texts(name, elements, encoded=encoded) if decoders is _TEXTS else _numbers(name, datatype, dtype, elements)
    return array if len(shape) == 1 else array.reshape(shape)


def _elements(name: str, datatype: str, shape: Sequence[int], decoders: _Decoders, data: bytes) -> list[Any]:
    """The elements in row-major order. Lists of one kind are read at once, which is most of what comes."""
    depth = len(shape) if shape and data.startswith(b"[[") else 1
    try:
        listed = decoders.nested[depth - 1].decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _mixed_elements(name, datatype, shape, decoders, data)
    return listed if depth == 1 else _flattened(name, shape, listed)


def _mixed_elements(name: str, datatype: str, shape: Sequence[int], decoders: _Decoders, data: bytes) -> list[Any]:
    """The same for what is spelt as strings or spaced otherwise, and the errors of what is wrong."""
    listed = _mixed(name, datatype, decoders, data)
    depth = len(shape) if any(isinstance(one, list) for one in listed) else 1
    if not _is_nested(listed, depth):
        raise _not_nested(name, shape)
    elements = listed if depth <= 1 else _flattened(name, shape, listed)
    return _unspelt(name, elements) if decoders is _FLOATS else elements


def _mixed(name: str, datatype: str, decoders: _Decoders, data: bytes) -> list[Any]:
    try:
        return decoders.mixed.decode(data)
    except UnicodeDecodeError as error:
        raise BadInput(f"the data of tensor {name} is not UTF-8", code="tensor.element") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(
            f"the data of tensor {name} cannot be read as {datatype}: {error}",
            code="tensor.element",
            cure='Numbers for numbers, true and false for BOOL, strings for BYTES; "NaN" and "Infinity" in quotes.',
        ) from error


def _is_nested(data: list[Any], depth: int) -> bool:
    """Whether these are lists to `depth`, and no deeper."""
    if depth <= 1:
        return not any(isinstance(one, list) for one in data)
    return all(isinstance(one, list) and _is_nested(one, depth - 1) for one in data)


def _flattened(name: str, shape: Sequence[int], data: list[Any]) -> list[Any]:
    """The elements of lists that are nested to the depth of `shape`."""
    if len(data) != shape[0]:
        raise _not_nested(name, shape)
    for size in shape[1:]:
        if any(len(one) != size for one in data):
            raise _not_nested(name, shape)
        data = list(itertools.chain.from_iterable(data))
    return data


def _not_nested(name: str, shape: Sequence[int]) -> BadInput:
    return BadInput(
        f"the data of tensor {name} is nested otherwise than its shape says",
        code="tensor.shape",
        limit=list(shape),
        cure="Nest the lists as the shape is, or send one flat list in row-major order.",
    )


def _numbers(name: str, datatype: str, dtype: np.dtype[Any], elements: list[Any]) -> Array:
    held = np.dtype(np.float32) if datatype == "BF16" else dtype
    try:
        numbers = _narrowed(elements, held) if held.itemsize < 8 and held.kind == "f" else np.array(elements, held)
    except (OverflowError, FloatingPointError) as error:
        raise _too_large(name, datatype) from error
    if datatype != "BF16":
        return numbers
    bits = bits_of(numbers)
    if not np.array_equal(np.isinf(numbers_of(bits)), np.isinf(numbers)):
        raise _too_large(name, datatype)
    return bits


@np.errstate(over="raise")  # as a decorator it costs a third of what it costs as a context
def _narrowed(elements: list[Any], held: np.dtype[Any]) -> Array:
    return np.array(elements, held)


def _too_large(name: str, datatype: str) -> BadInput:
    return BadInput(f"tensor {name} holds a number beyond its datatype", code="tensor.range", limit=datatype)


def _unspelt(name: str, elements: list[Any]) -> list[float]:
    """The elements, where strings spell what JSON has no number for."""
    try:
        return [_SPELT[one] if isinstance(one, str) else one for one in elements]
    except KeyError as error:
        cure = f"The only strings are {', '.join(_SPELT)}."
        raise BadInput(
            f"tensor {name} holds a string where a number belongs", code="tensor.element", cure=cure
        ) from error


def _texts(name: str, elements: list[str], *, encoded: bool) -> Array:
    texts = np.empty(len(elements), object)
    try:
        texts[:] = [base64.b64decode(one, validate=True) if encoded else one.encode() for one in elements]
    except (binascii.Error, ValueError) as error:
        what = "is not base64" if encoded else "is not Unicode"
        raise BadInput(f"an element of tensor {name} {what}", code="tensor.element") from error
    return texts


def data_of(datatype: str, array: Array) -> tuple[list[Any], bool]:
    """The elements as JSON has them, flat, and whether they are base64: where some of BYTES are not UTF-8.

    What is no number is still a float in the list: `spelt` puts the strings there.
    """
    if datatype == "BYTES":
        return _strings(array.ravel().tolist())
    return (numbers_of(array) if datatype == "BF16" else array).ravel().tolist(), False


def _strings(texts: list[bytes]) -> tuple[list[str], bool]:
    try:
        return [one.decode() for one in texts], False
    except UnicodeDecodeError:
        return [base64.b64encode(one).decode() for one in texts], True


def spelt(elements: list[Any]) -> list[Any]:
    """The elements with strings for what JSON has no number for."""
    return [_SPELLING[repr(one)] if isinstance(one, float) and not math.isfinite(one) else one for one in elements]
