"""Lanes of b bits, packed without gaps: little-endian bits, lane l at bits [l b, (l + 1) b), the unused high bits zero.

Eight lanes are b whole bytes, so work goes in groups of eight, in chunks that stay in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.secagg.masks import Lanes, lane_type

__all__ = ["add_packed", "check_packed", "pack", "pack_into", "packed_bytes", "unpack", "unpacked"]

_CHUNK: Final = 1 << 16
_GROUP: Final = 8


def packed_bytes(count: int, bits: int) -> int:
    """Length of `count` lanes."""
    return -(-count * bits // 8)


def pack(lanes: Lanes, bits: int) -> bytearray:
    """The packed bytes of `lanes`, each of which must be below 2^bits."""
    out = bytearray(packed_bytes(len(lanes), bits))
    pack_into(out, 0, lanes, bits)
    return out


def pack_into(out: bytearray | memoryview, first: int, lanes: Lanes, bits: int) -> None:
    """Write `lanes` to where packed lanes have theirs from number `first`, a multiple of eight, on.

    What is not the end of all lanes is a multiple of eight lanes long too.
    """
    view = np.frombuffer(out, np.uint8)
    for start in range(0, len(lanes), _CHUNK):
        place = (first + start) * bits // 8
        made = _pack_chunk(lanes[start : start + _CHUNK], bits)[: len(view) - place]
        view[place : place + len(made)] = made


def _pack_chunk(part: Lanes, bits: int) -> npt.NDArray[np.uint8]:
    """Whole groups, the last one filled with zeros: each lane goes into one 64-bit word of its group, or into two."""
    groups = -(-len(part) // _GROUP)
    lanes = np.zeros(groups * _GROUP, np.uint64)
    lanes[: len(part)] = part
    columns = lanes.reshape(groups, _GROUP)
    words = np.zeros((groups, -(-bits // 8)), "<u8")
    for lane in range(_GROUP):
        word, shift = divmod(lane * bits, 64)
        words[:, word] |= columns[:, lane] << np.uint64(shift)
        if shift + bits > 64:
            words[:, word + 1] |= columns[:, lane] >> np.uint64(64 - shift)
    return words.view(np.uint8)[:, :bits].reshape(-1)


def unpack(data: bytes | bytearray | memoryview, count: int, bits: int) -> Lanes:
    """The `count` lanes of `data`; raises `ValueError` for another length or for unused bits that are not zero."""
    lanes = np.empty(count, lane_type(bits))
    place = 0
    for part in unpacked(data, count, bits):
        lanes[place : place + len(part)] = part
        place += len(part)
    return lanes


def unpacked(data: bytes | bytearray | memoryview, count: int, bits: int) -> Iterator[Lanes]:
    """The same lanes in parts that are the caller's own, each but the last a multiple of eight; raises as `unpack`."""
    view = check_packed(data, count, bits)
    for start in range(0, count, _CHUNK):
        yield _unpack_chunk(view, start, min(start + _CHUNK, count), bits).astype(lane_type(bits))


def add_packed(total: Lanes, data: bytes | bytearray | memoryview, bits: int) -> None:
    """Add the lanes of `data` to `total`, in place, modulo the lane; raises as `unpack` does, before it adds."""
    place = 0
    for part in unpacked(data, len(total), bits):
        total[place : place + len(part)] += part
        place += len(part)


def check_packed(data: bytes | bytearray | memoryview, count: int, bits: int) -> npt.NDArray[np.uint8]:
    """The bytes as an array, once length and padding are right."""
    view = np.frombuffer(data, np.uint8)
    if len(view) != packed_bytes(count, bits):
        raise ValueError(f"{len(view)} bytes where {count} lanes of {bits} bits take {packed_bytes(count, bits)}")
    used = count * bits % 8
    if used and view[-1] >> used:
        raise ValueError("the bits beyond the last lane are not zero")
    return view


def _unpack_chunk(view: npt.NDArray[np.uint8], start: int, stop: int, bits: int) -> npt.NDArray[Any]:
    """Lanes start to stop, start being a multiple of eight."""
    groups = -(-(stop - start) // _GROUP)
    place = start * bits // 8
    rows = np.zeros(groups * bits + 8, np.uint8)  # a word may be read at each lane's first byte
    held = view[place : place + groups * bits]
    rows[: len(held)] = held
    out = np.empty((groups, _GROUP), np.uint64)
    for lane in range(_GROUP):
        first, shift = divmod(lane * bits, 8)
        word = np.ndarray((groups,), "<u8", rows.data, first, (bits,))
        np.right_shift(word, np.uint64(shift), out=out[:, lane])
        if shift + bits > 64:
            last = np.ndarray((groups,), np.uint8, rows.data, first + 8, (bits,)).astype(np.uint64)
            out[:, lane] |= last << np.uint64(64 - shift)
    if bits < 64:
        out &= np.uint64((1 << bits) - 1)
    return out.reshape(-1)[: stop - start]
