"""Files as read-only memory that holds no descriptor, for everybody who maps many of them at once.

Python's `mmap` keeps a duplicate of the descriptor with each map, so a sum over a thousand contributions would need a
thousand of them. Here the map alone stays, and goes when the last view of it does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Final

__all__ = ["let_go", "map_pages"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
]  # fmt: skip
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED: Final = ctypes.c_void_p(-1).value


_held: Final[weakref.WeakValueDictionary[int, ctypes.Array[ctypes.c_char]]] = weakref.WeakValueDictionary()
"""Maps that live, by address: nothing else is ever let go."""


def let_go(holder: object, start: int, size: int) -> None:
    """Let go of the pages from address `start` if `holder` is a map of this module's; else do nothing.

    They stay in the system's cache as long as it likes, count for no process, and are there again when they are read.
    """
    if isinstance(holder, ctypes.Array) and size and _held.get(ctypes.addressof(holder)) is holder:
        first = start - start % mmap.PAGESIZE
        _libc.madvise(first, start + size - first, mmap.MADV_DONTNEED)


def map_pages(descriptor: int, size: int) -> memoryview:
    """The first `size` bytes behind `descriptor`, shared and read-only; raises `OSError`.

    The descriptor may be closed afterwards, and the file deleted: the bytes stay readable while a view lives.
    """
    if size == 0:
        return memoryview(b"")
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    pages = (ctypes.c_char * size).from_address(address)
    _held[address] = pages
    weakref.finalize(pages, _libc.munmap, address, size).atexit = False  # views may outlive the interpreter's end
    return memoryview(pages).toreadonly().cast("B")
