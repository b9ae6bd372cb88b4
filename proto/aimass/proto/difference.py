"""A model as its difference to one that the other side holds: lossless, block by block, in memory that does not grow.

Delta encoding as in RFC 3229, for parameters. Two models of successive rounds differ in the low bits of most elements,
or, where only some coordinates were summed or trained, in few elements. So each element's change is the difference of
the two bit patterns as integers modulo 2^w (w bits in an element): floats of one sign are ordered as their bits are,
so a small change is a small integer. Of a block the changed elements are named by a bitmap, and their changes, in
zigzag order (0, -1, 1, -2, ...), are stored byte plane by byte plane: the high bytes are nearly all zero and deflate
well, the low ones are noise and stay as they are.

Bytes: "AIMdiff", u8 version 1, u64 little-endian size of both blobs, then the blocks: of each run of tensors of equal
element size, 65,536 elements at a time. A block is u8 0 where nothing changed, else u8 1 and its parts: the bitmap
(most significant bit first, padded with zeros), then plane 0 (least significant) to w/8 - 1 of the changed elements. A
part is u8 0 where all its bytes are zero; u8 1 and its bytes; or u8 2, u32 little-endian length, and so many bytes of
raw DEFLATE (RFC 1951), fewer than it stands for. Headers are equal, so they are not sent.

The digest of the result is not here: who decodes hashes what comes out, and knows what it must be.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import IO, Final

import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.pages import PartReader
from aimass.proto.tensors import DTYPE_BYTES, Array, Blob

__all__ = ["BLOCK", "decode", "encode"]

BLOCK: Final = 1 << 16
"""Elements of a block."""
_MAGIC: Final = b"AIMdiff"
_VERSION: Final = 1
_SAME, _CHANGED = b"\x00", b"\x01"
_ZEROS, _STORED, _DEFLATED = b"\x00", b"\x01", b"\x02"
_SAMPLE: Final = 4_096
_NOISE: Final = 0.97
"""What deflates to more than this is left as it is: it would cost time and save nothing."""


def encode(held: Blob, wanted: Blob) -> Iterator[bytes]:
    """The difference from `held` to `wanted`, in parts; the same two give the same bytes.

    Raises `BadInput` where their layouts differ.
    """
    if held.layout != wanted.layout:
        raise _bad("is between models of different tensors", "layout")
    yield _MAGIC + bytes([_VERSION]) + len(wanted.data).to_bytes(8, "little")
    read_before, read_after = PartReader(), PartReader()
    for before, after in zip(_regions(held), _regions(wanted), strict=True):
        for block in _blocks(len(before)):
            yield _encoded(read_before(before, block), read_after(after, block))


def decode(held: Blob, difference: IO[bytes]) -> Iterator[bytes | memoryview]:
    """The blob that `difference` leads to from `held`, in parts, each valid until the next; check its digest.

    Raises `BadInput` for anything that `encode` does not write: another version, another size, bytes that miss or are
    too many, a part that does not inflate to its size. Nothing inflates to more than its block.
    """
    head = _read(difference, len(_MAGIC) + 9)
    if head[: len(_MAGIC)] != _MAGIC or head[len(_MAGIC)] != _VERSION:
        raise _bad("has another form or version", "version", head[: len(_MAGIC) + 1].hex(), _VERSION)
    if (size := int.from_bytes(head[-8:], "little")) != len(held.data):
        raise _bad("is of a model of another size", "size", size, len(held.data))
    yield held.layout.header
    read = PartReader()
    for before in _regions(held):
        for block in _blocks(len(before)):
            yield _decoded(read(before, block), difference).view(np.uint8).data
    if difference.read(1):
        raise _bad("goes on after its last block", "trailing")


def _regions(blob: Blob) -> Iterator[Array]:
    """The elements as unsigned integers, a run of tensors of equal element size at a time."""
    start = len(blob.layout.header)
    for width, specs in itertools.groupby(blob.layout.tensors, lambda spec: DTYPE_BYTES[spec.dtype]):
        run = list(specs)
        yield np.frombuffer(blob.data[start + run[0].start : start + run[-1].stop], dtype=f"<u{width}")


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _encoded(before: Array, after: Array) -> bytes:
    steps = _zigzag(after - before)
    changed = steps != 0
    if not changed.any():
        return _SAME
    planes = steps[changed].view(np.uint8).reshape(-1, steps.itemsize).T
    return _CHANGED + b"".join(_packed(part.tobytes()) for part in (np.packbits(changed), *planes))


def _decoded(before: Array, difference: IO[bytes]) -> Array:
    mark = _read(difference, 1)
    if mark == _SAME:
        return before
    if mark != _CHANGED:
        raise _bad("has an unknown block", "block", mark[0])
    bits = np.frombuffer(_unpacked(difference, -(-len(before) // 8)), np.uint8)
    changed = np.unpackbits(bits).view(np.bool_)
    if changed[len(before) :].any() or not changed.any():
        raise _bad("names elements beyond its block, or none", "bitmap")
    changed = changed[: len(before)]
    planes = np.empty((int(np.count_nonzero(changed)), before.itemsize), np.uint8)
    for plane in planes.T:
        plane[:] = np.frombuffer(_unpacked(difference, len(planes)), np.uint8)
    after = before.copy()
    after[changed] += _unzigzag(planes.reshape(-1).view(before.dtype))
    return after


def _zigzag(steps: Array) -> Array:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ...: small steps of either sign have small numbers."""
    numbers: Array = (steps << 1) ^ (0 - (steps >> (8 * steps.itemsize - 1)))
    return numbers


def _unzigzag(numbers: Array) -> Array:
    steps: Array = (numbers >> 1) ^ (0 - (numbers & 1))
    return steps


def _packed(part: bytes) -> bytes:
    if not part.strip(b"\x00"):
        return _ZEROS
    if len(_deflated(part[:_SAMPLE])) < _NOISE * len(part[:_SAMPLE]) and len(short := _deflated(part)) < len(part):
        return _DEFLATED + len(short).to_bytes(4, "little") + short
    return _STORED + part


def _deflated(part: bytes) -> bytes:
    """Runs and Huffman codes: there are no words in these bytes that come again, and looking for them takes long."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_RLE)
    return deflate.compress(part) + deflate.flush()


def _unpacked(difference: IO[bytes], size: int) -> bytes:
    kind = _read(difference, 1)
    if kind == _ZEROS:
        return bytes(size)
    if kind == _STORED:
        return _read(difference, size)
    if kind != _DEFLATED:
        raise _bad("has an unknown part", "part", kind[0])
    length = int.from_bytes(_read(difference, 4), "little")
    if length >= size:
        raise _bad("has a part that is longer than what it stands for", "part", length, size)
    return _inflated(_read(difference, length), size)


def _inflated(short: bytes, size: int) -> bytes:
    inflate = zlib.decompressobj(-15)
    try:
        part = inflate.decompress(short, size)
        over = inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error:
        raise _bad("has a part that is not DEFLATE", "deflate") from None
    if len(part) != size or over or not inflate.eof or inflate.unused_data:
        raise _bad("has a part that does not inflate to its size", "deflate", len(part) + len(over), size)
    return part


def _read(difference: IO[bytes], size: int) -> bytes:
    data = difference.read(size)
    if len(data) != size:
        raise _bad("ends early", "short", len(data), size)
    return data


def _bad(what: str, code: str, value: object = None, limit: object = None) -> BadInput:
    return BadInput(f"the difference of two models {what}", code=f"difference.{code}", value=value, limit=limit)
