"""Files as read-only memory that holds no descriptor, for everybody who maps many of them at once.

Python's `mmap` keeps a duplicate of the descriptor with each map, so a sum over a thousand contributions would need a
thousand of them. Here the map alone stays, and goes when the last view of it does.

A map may keep its file where there are descriptors enough. Then who reads it once, part by part, reads the file: around
each byte that is touched in a map the kernel maps up to 2 MiB, and all of that counts as this process's memory.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import weakref
from typing import Final

__all__ = ["is_map", "keeps_file", "let_go", "map_pages", "read_past"]

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
_files: Final[dict[int, int]] = {}
"""Descriptors of the maps that keep their file, by address."""
_SHARE: Final = 4
"""At most one in so many of the descriptors that this process may have serves maps; connections need the others."""


def is_map(holder: object) -> bool:
    """Whether `holder` is a map of this module's."""
    return isinstance(holder, ctypes.Array) and _held.get(ctypes.addressof(holder)) is holder


def let_go(holder: object, start: int, size: int) -> None:
    """Let go of the pages from address `start` if `holder` is a map of this module's; else do nothing.

    They stay in the system's cache as long as it likes, count for no process, and are there again when they are read.
    """
    if size and is_map(holder):
        first = start - start % mmap.PAGESIZE
        _libc.madvise(first, start + size - first, mmap.MADV_DONTNEED)


def keeps_file(holder: object) -> bool:
    """Whether `holder` is a map of this module's that keeps its file."""
    return is_map(holder) and ctypes.addressof(holder) in _files  # type: ignore[arg-type]


def read_past(holder: object, start: int, into: memoryview) -> None:
    """Fill `into` with what stands at address `start` of a map that keeps its file, without touching the map.

    Raises `OSError`.
    """
    address = ctypes.addressof(holder)  # type: ignore[arg-type]
    offset = start - address
    while into:
        read = os.preadv(_files[address], (into,), offset)
        if read == 0:
            raise OSError(errno.EIO, "a mapped file became shorter")
        into, offset = into[read:], offset + read


def map_pages(descriptor: int, size: int, *, keep_file: bool = False) -> memoryview:
    """The first `size` bytes behind `descriptor`, shared and read-only; raises `OSError`.

    The descriptor may be closed afterwards, and the file deleted: the bytes stay readable while a view lives. With
    `keep_file` they can be read past the map too, as long as such maps are few beside the descriptors that may be open.
    """
    if size == 0:
        return memoryview(b"")
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    pages = (ctypes.c_char * size).from_address(address)
    _held[address] = pages
    if keep_file and len(_files) < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE:
        _files[address] = os.dup(descriptor)
    weakref.finalize(pages, _unmap, address, size).atexit = False  # views may outlive the interpreter's end
    return memoryview(pages).toreadonly().cast("B")


def _unmap(address: int, size: int) -> None:
    if (descriptor := _files.pop(address, None)) is not None:
        os.close(descriptor)
    _libc.munmap(address, size)  # last: from here on the address may be another map's
