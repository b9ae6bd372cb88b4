"""A moment in which no model of a server's folder is deleted: a backup copies the store and takes hold of what the copy
needs, however fast newer models supersede it. Held by the system's lock of a file, so it ends with whoever holds it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["deleting", "standstill"]

_LOCK: Final = ".deletions"


@contextmanager
def standstill(data: Path) -> Iterator[None]:
    """Until the block ends nothing is deleted; begins when a deletion that is under way has ended."""
    with _opened(data) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def deleting(data: Path) -> Iterator[bool]:
    """Whether something may be deleted within the block; where not, it is left to a later time."""
    with _opened(data) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _opened(data: Path) -> Iterator[int]:
    descriptor = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
