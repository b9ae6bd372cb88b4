"""Strict reading of fixed layouts: nothing missing, nothing left over, sets in order."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence

from aimass.privacy.secagg.faults import Code, fail

__all__ = ["Reader", "bitmap", "bitmap_bytes", "ids_bytes", "u16", "u32", "u64"]


def u16(value: int) -> bytes:
    """Two bytes, big-endian."""
    return struct.pack(">H", value)


def u32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return struct.pack(">Q", value)


def ids_bytes(ids: Iterable[int]) -> bytes:
    """Count and ids, in the order given."""
    held = list(ids)
    return struct.pack(f">I{len(held)}I", len(held), *held)


def bitmap_bytes(n: int) -> int:
    """Length of a set of n members."""
    return -(-n // 8)


def bitmap(members: Iterable[int], n: int) -> bytes:
    """A set of indices below n, the first in the lowest bit."""
    bits = bytearray(bitmap_bytes(n))
    for member in members:
        bits[member // 8] |= 1 << member % 8
    return bytes(bits)


class Reader:
    """Reads a message from its start; every fault is `E_ENCODING` with the message's name."""

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data, self._what, self._at = bytes(data), what, 0

    def _fail(self, what: str) -> Exception:
        return fail(Code.ENCODING, f"{self._what} {what}", len(self._data))

    def take(self, size: int) -> bytes:
        """The next bytes."""
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise self._fail("is too short")
        self._at += size
        return part

    def number(self, size: int) -> int:
        """The next big-endian unsigned integer of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def real(self) -> float:
        """The next big-endian binary64."""
        value: float = struct.unpack(">d", self.take(8))[0]
        return value

    def ids(self, most: int) -> tuple[int, ...]:
        """Count and strictly increasing ids."""
        count = self.number(4)
        if count > most:
            raise self._fail(f"names more than {most} members")
        found = tuple(self.number(4) for _ in range(count))
        if list(found) != sorted(set(found)):
            raise self._fail("does not name its members in order, each once")
        return found

    def members(self, n: int) -> tuple[int, ...]:
        """The next bitmap over n members, as indices."""
        bits = self.take(bitmap_bytes(n))
        if n % 8 and bits[-1] >> n % 8:
            raise self._fail("names members beyond the last one")
        return tuple(index for index in range(n) if bits[index // 8] >> index % 8 & 1)

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise self._fail("is too long")


def in_order(ids: Sequence[int], what: str) -> None:
    """Raise `E_ENCODING` unless the ids strictly increase."""
    if any(after <= before for before, after in itertools.pairwise(ids)):
        raise fail(Code.ENCODING, f"{what} does not name its members in order, each once")
