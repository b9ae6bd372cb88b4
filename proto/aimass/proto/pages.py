"""What of a mapped file stays in this process's memory: who has read a part of a large file once lets it go."""

from __future__ import annotations

from typing import Final

import numpy as np

from aimass.proto.mapping import is_map, keeps_file, let_go, read_past
from aimass.proto.tensors import Array

__all__ = ["PartReader", "forget_behind", "forget_pages"]

_WINDOW: Final = 16 << 20
_LATE: Final = 8 << 20
"""Bytes before a window that are let go with it: a thread that is some blocks behind the others maps them again."""
_SCRATCH: Final = 1 << 20
"""Bytes that a reader keeps for the next part."""


def forget_pages(array: Array) -> None:
    """Let go of the pages under a contiguous array that views a mapped file; else do nothing."""
    let_go(_holder(array), _address(array), array.nbytes)


def _holder(array: Array) -> object:
    """Whose memory an array views."""
    holder: object = array
    while isinstance(holder, np.ndarray):
        holder = holder.base
    return holder.obj if isinstance(holder, memoryview) else holder


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def forget_behind(flat: Array, part: slice, window: int = _WINDOW) -> None:
    """For who reads `flat` part by part: forget the windows of so many bytes that end in `part`, or with `flat`.

    Not after each part: every time interrupts the other processors.
    """
    start, stop, _ = part.indices(len(flat))
    each = max(1, window // flat.itemsize)
    first = start // each
    if stop == len(flat) or stop // each > first:
        forget_pages(flat[max(0, first * each - _LATE // flat.itemsize) : stop])


class PartReader:
    """Reads arrays part by part, each element once, so that what views a mapped file does not become resident.

    For one thread. What it gave is valid until it is asked again, and is not to be written to.
    """

    def __init__(self, window: int = _WINDOW) -> None:
        """`window`: bytes of an array that may stay resident where its map keeps no file."""
        self._window = window
        self._scratch: Array = np.empty(0, np.uint8)
        self._used: tuple[Array, slice] | None = None

    def __call__(self, flat: Array, part: slice) -> Array:
        """`flat[part]` of a contiguous array of one dimension; raises `OSError` where its file cannot be read."""
        if self._used is not None:
            forget_behind(*self._used, self._window)
            self._used = None
        wanted = flat[part]
        holder = _holder(flat)
        if not wanted.nbytes or not is_map(holder):
            return wanted
        if not keeps_file(holder):
            self._used = flat, part
            return wanted
        here = self._room(wanted.nbytes)
        read_past(holder, _address(wanted), here.data)
        return here.view(wanted.dtype)

    def _room(self, size: int) -> Array:
        if size > _SCRATCH:  # not kept: who asks for so much at once asks seldom
            return np.empty(size, np.uint8)
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size]
