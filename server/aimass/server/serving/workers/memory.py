"""Tensors in memory that a front and its worker share: how they lie there, written once and read without a copy.

The tensors come first, each at a multiple of 64 bytes, then a header in msgpack that says where. A BYTES tensor is the
u32 length and the bytes of each element. Neither side can make the memory smaller under the other's hands: its size is
sealed. The front trusts nothing that a worker wrote: it takes a copy and checks that.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from aimass.proto.errors import BadInput, IntegrityError, LimitExceeded
from aimass.proto.servable import DTYPES, Array

__all__ = ["Written", "copied", "read", "shared_memory", "write"]

_ALIGNMENT: Final = 64
_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x1 | 0x2 | 0x4  # no more seals, no shrinking, no growing
_LENGTH: Final = struct.Struct("<I")
_DTYPES: Final = {dtype.str: dtype for dtype in DTYPES.values()}


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """A tensor: its name, numpy's name of its datatype, its shape, and which bytes are its."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int


class Written(msgspec.Struct, frozen=True):
    """Where the header lies, behind the tensors."""

    header: int
    header_bytes: int

    @property
    def end(self) -> int:
        """All that was written ends here."""
        return self.header + self.header_bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[_Place, ...]).decode


def shared_memory(size: int) -> tuple[int, memoryview]:
    """A memory file of this size, which takes room as it is written, and a view of it."""
    descriptor = os.memfd_create("aimass-serving", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
    return descriptor, memoryview(mmap.mmap(descriptor, size))


def write(memory: memoryview, tensors: Mapping[str, Sequence[Array]]) -> Written:
    """Lay tensors down, each the rows of its parts one after the other; raises `LimitExceeded` where they do not fit.

    The parts of a tensor agree in datatype, which is one of `DTYPES`, and in all axes but the first. Raises `BadInput`
    for any other.
    """
    offset = 0
    places: list[_Place] = []
    for name, parts in tensors.items():
        first = parts[0]
        if first.dtype.str not in _DTYPES:
            raise BadInput(
                "a tensor has elements that do not travel",
                code="serving.datatype",
                value=f"{name}: {first.dtype}",
                limit=", ".join(DTYPES),
            )
        size = _lay(memory, offset, parts)
        shape = first.shape if len(parts) == 1 else (sum(map(len, parts)), *first.shape[1:])
        places.append(_Place(name, first.dtype.str, shape, offset, size))
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
    header = _encode(places)
    _require(memory, offset + len(header))
    memory[offset : offset + len(header)] = header
    return Written(offset, len(header))


def _lay(memory: memoryview, offset: int, parts: Sequence[Array]) -> int:
    """The bytes that it took."""
    if parts[0].dtype.hasobject:
        data = b"".join(_elements(parts))
        _require(memory, offset + len(data))
        memory[offset : offset + len(data)] = data
        return len(data)
    size = sum(part.nbytes for part in parts)
    _require(memory, offset + size)
    for part in parts:
        if part.nbytes:
            memory[offset : offset + part.nbytes] = np.ascontiguousarray(part).reshape(-1).data.cast("B")
            offset += part.nbytes
    return size


def _elements(parts: Iterable[Array]) -> Iterator[bytes]:
    for part in parts:
        for element in part.ravel():
            yield _LENGTH.pack(len(element))
            yield element


def _require(memory: memoryview, end: int) -> None:
    if end > len(memory):
        raise LimitExceeded(
            "the tensors do not fit into the memory that is shared with a worker",
            code="serving.batch_bytes",
            value=end,
            limit=len(memory),
            cure="Send fewer rows at once, or raise `batch_bytes` in the settings of serving.",
        )


def copied(memory: memoryview, written: Written) -> memoryview:
    """What the other side wrote, as it can no longer change."""
    return memoryview(bytes(memory[: written.end]))


def read(memory: memoryview, written: Written) -> dict[str, Array]:
    """The tensors, numbers as views of `memory`; raises `IntegrityError` for what `write` does not write."""
    try:
        places = _decode(memory[written.header : written.end])
        _require_apart(places, len(memory))
        return {place.name: _tensor(memory, place) for place in places}
    except (ValueError, OverflowError, MemoryError, struct.error) as error:
        raise _odd() from error


def _require_apart(places: Iterable[_Place], size: int) -> None:
    """Each lies in the memory and behind the one before, so that all of them come to no more than there is."""
    end = 0
    for place in places:
        if place.bytes < 0 or not end <= place.offset <= size - place.bytes:
            raise _odd()
        end = place.offset + place.bytes


def _tensor(memory: memoryview, place: _Place) -> Array:
    dtype = _DTYPES.get(place.dtype)
    count = math.prod(place.shape)
    if dtype is None or any(length < 0 for length in place.shape):
        raise _odd()
    if dtype.hasobject:
        if count * _LENGTH.size > place.bytes:
            raise _odd()
        elements = np.empty(count, object)
        elements[:] = list(_read_elements(memory[place.offset : place.offset + place.bytes], count))
        return elements.reshape(place.shape)
    if count * dtype.itemsize != place.bytes:
        raise _odd()
    return np.frombuffer(memory, dtype, count, place.offset).reshape(place.shape)


def _read_elements(data: memoryview, count: int) -> Iterator[bytes]:
    offset = 0
    for _ in range(count):
        (size,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if offset + size > len(data):
            raise _odd()
        yield bytes(data[offset : offset + size])
        offset += size


def _odd() -> IntegrityError:
    return IntegrityError("a worker wrote what cannot be read", code="serving.memory")
