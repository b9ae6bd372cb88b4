"""What of a mapped file stays in this process's memory: who has read a part of a large file once lets it go."""

from __future__ import annotations

from typing import Final

import numpy as np

from aimass.proto.mapping import let_go
from aimass.proto.tensors import Array

__all__ = ["forget_behind", "forget_pages"]

_WINDOW: Final = 16 << 20
_LATE: Final = 8 << 20
"""Bytes before a window that are let go with it: a thread that is some blocks behind the others maps them again."""


def forget_pages(array: Array) -> None:
    """Let go of the pages under a contiguous array that views a mapped file; else do nothing."""
    holder: object = array
    while isinstance(holder, np.ndarray):
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    let_go(holder, int(array.__array_interface__["data"][0]), array.nbytes)


def forget_behind(flat: Array, part: slice, window: int = _WINDOW) -> None:
    """For who reads `flat` part by part: forget the windows of so many bytes that end in `part`, or with `flat`.

    Not after each part: every time interrupts the other processors.
    """
    start, stop, _ = part.indices(len(flat))
    each = max(1, window // flat.itemsize)
    first = start // each
    if stop == len(flat) or stop // each > first:
        forget_pages(flat[max(0, first * each - _LATE // flat.itemsize) : stop])
