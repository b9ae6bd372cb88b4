"""Keystreams as masks: AES-128-CTR from one key a mask, added in the lanes' own type, in blocks that stay in a cache.

The cipher runs in constant time in the library (AES instructions); what is added does not branch on secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

__all__ = ["Lanes", "Masks", "add_masks", "cut", "lane_type", "stream", "stream_parts", "stream_words"]

Lanes = npt.NDArray[Any]
"""1-D unsigned lanes of type `lane_type(b)`; sums wrap at the type's width, which is at least b bits."""

_BLOCK_BYTES: Final = 1 << 18
_ZEROS: Final = bytes(_BLOCK_BYTES)
_SLACK: Final = 15
"""The library asks for this much room beyond what it writes."""


def lane_type(bits: int) -> np.dtype[Any]:
    """The little-endian lane that holds `bits` (1 to 64)."""
    if not 1 <= bits <= 64:
        raise ValueError("a lane has 1 to 64 bits")
    return np.dtype("<u2" if bits <= 16 else "<u4" if bits <= 32 else "<u8")


def _keystream(key: bytes) -> CipherContext:
    """AES-CTR with a zero initial counter: a key is used for one stream and never again."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()


def stream(key: bytes, count: int, dtype: np.dtype[Any]) -> Lanes:
    """The first `count` lanes of a key's stream."""
    data = _keystream(key).update(bytes(count * dtype.itemsize))
    return np.frombuffer(data, dtype)


def stream_parts(key: bytes, dtype: np.dtype[Any]) -> Callable[[int], Lanes]:
    """The same stream in parts: each call gives its next so many lanes."""
    context = _keystream(key)
    return lambda count: np.frombuffer(context.update(bytes(count * dtype.itemsize)), dtype)


def stream_words(key: bytes) -> Iterator[int]:
    """The stream as endless big-endian 32-bit words."""
    context = _keystream(key)
    while True:
        yield from np.frombuffer(context.update(_ZEROS[:4096]), ">u4").tolist()


def add_masks(lanes: Lanes, plus: Iterable[bytes], minus: Iterable[bytes]) -> None:
    """Add the streams of the keys `plus` to `lanes`, and take those of `minus` away, in place, modulo the lane.

    Each key's stream is drawn and combined block by block, so that neither leaves the cache between the two.
    """
    room = np.empty(_BLOCK_BYTES + _SLACK, np.uint8)
    for keys, combine in ((plus, np.add), (minus, np.subtract)):
        for key in keys:
            _combine(lanes, _keystream(key), combine, room)


class Masks:
    """What `add_masks` adds to all lanes, for lanes that come in parts, in order."""

    def __init__(self, plus: Iterable[bytes], minus: Iterable[bytes]) -> None:
        self._streams = [(_keystream(key), np.add) for key in plus] + [(_keystream(key), np.subtract) for key in minus]
        self._room = np.empty(_BLOCK_BYTES + _SLACK, np.uint8)

    def add(self, part: Lanes) -> None:
        """Mask the next lanes, in place."""
        for context, combine in self._streams:
            _combine(part, context, combine, self._room)


def _combine(lanes: Lanes, context: CipherContext, combine: np.ufunc, room: Lanes) -> None:
    drawn, zeros, into = room[:_BLOCK_BYTES].view(lanes.dtype), memoryview(_ZEROS), room.data
    for start in range(0, len(lanes), len(drawn)):
        part = lanes[start : start + len(drawn)]
        context.update_into(zeros[: part.nbytes], into)
        combine(part, drawn[: len(part)], out=part)


def cut(lanes: Lanes, bits: int) -> None:
    """Reduce modulo 2^bits, in place: once, after all masks."""
    if bits < 8 * lanes.itemsize:
        np.bitwise_and(lanes, lanes.dtype.type((1 << bits) - 1), out=lanes)
