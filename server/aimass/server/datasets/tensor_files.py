"""A safetensors file as rows: each column a tensor of its name, whose first dimension counts the rows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Image, Schema
from aimass.proto.rows import check_columns, unreadable
from aimass.proto.tensors import MAX_HEADER_BYTES, numpy_dtype

__all__ = ["read_tensors"]

_NUMBERS: Final = frozenset({"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"})


class _Entry(msgspec.Struct, frozen=True):
    """A tensor as the header has it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(file: IO[bytes], names: Sequence[str], schema: Schema, batch_rows: int) -> Iterator[Any]:
    """Batches of the named columns: a number or category is a tensor [rows], an image unsigned bytes [rows, *shape].

    Raises `BadInput` for a file that is none, and for tensors that are no columns of one table.
    """
    entries, start = _header(file)
    check_columns(list(entries), names)
    images = {column.name: column for column in schema.images}
    rows = {name: _rows(name, entries[name], images.get(name)) for name in names}
    if len(set(rows.values())) != 1:
        raise BadInput(
            "tensors of one file have different numbers of rows", code="dataset.tensors", value=f"{rows}", cure=_CURE
        )
    for first in range(0, rows[names[0]], batch_rows):
        count = min(batch_rows, rows[names[0]] - first)
        columns = {name: _column(file, start, entries[name], first, count, name in images) for name in names}
        yield pa.RecordBatch.from_pydict(columns)


_CURE: Final = "Write each column as a tensor of its name, rows first: numbers as [rows], images as [rows, h, w]."


def _header(file: IO[bytes]) -> tuple[dict[str, _Entry], int]:
    """Each tensor's entry, and where the data begins. Raises `BadInput` where one does not stand where it says."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise unreadable("safetensors", ValueError(length))
    if length > MAX_HEADER_BYTES:
        raise BadInput("the header is too large", code="tensors.header_size", value=length, limit=MAX_HEADER_BYTES)
    try:
        fields = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in fields.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable("safetensors", error) from error
    for name, entry in entries.items():
        first, last = entry.data_offsets
        if entry.dtype in _NUMBERS and not (0 <= first <= last <= size - 8 - length and last - first == _size(entry)):
            raise BadInput(
                "a tensor does not stand where the file says",
                code="dataset.tensors",
                value=f"{name}: {entry.dtype} {list(entry.shape)} at {first} to {last}",
                cure="Write the file again: it is cut off, or no safetensors.",
            )
    return entries, 8 + length


def _size(entry: _Entry) -> int:
    """Bytes of a tensor's elements."""
    return math.prod(entry.shape) * numpy_dtype(entry.dtype).itemsize


def _rows(name: str, entry: _Entry, image: Image | None) -> int:
    """How many rows a column's tensor has; raises `BadInput` where it cannot be the column."""
    if image is None:
        fits = entry.dtype in _NUMBERS and len(entry.shape) == 1
        wanted = f"[rows] of {', '.join(sorted(_NUMBERS))}"
    else:
        fits = entry.dtype == "U8" and entry.shape[1:] == image.shape
        wanted = f"U8 [rows, {', '.join(map(str, image.shape))}]"
    if not fits:
        raise BadInput(
            "a tensor is not what its column holds",
            code="dataset.tensors",
            value=f"{name}: {entry.dtype} {list(entry.shape)}",
            limit=wanted,
            cure=_CURE,
        )
    return entry.shape[0]


def _column(file: IO[bytes], start: int, entry: _Entry, first: int, count: int, image: bool) -> Any:
    """Some rows of a tensor as an Arrow array; read and not mapped, so that the file is not this process's memory."""
    dtype = numpy_dtype(entry.dtype)
    width = math.prod(entry.shape[1:]) * dtype.itemsize
    file.seek(start + entry.data_offsets[0] + first * width)
    data = file.read(count * width)
    if image:
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), count, [None, pa.py_buffer(data)])
    return pa.array(np.frombuffer(data, dtype))
