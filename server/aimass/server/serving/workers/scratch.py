"""A scratch folder of this process beside those of others: what a process that was killed has left is cleared away.

Who lives holds a lock in its own folder, and its end releases that, however it comes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["scratch_folder"]

_LOCK: Final = ".lock"


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, removed when the block ends; those in it that no process holds are removed now."""
    with contextlib.ExitStack() as held:
        with _opened(parent) as door:  # nobody clears a folder away between its making and its lock
            fcntl.flock(door, fcntl.LOCK_EX)
            _clear(parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
            fcntl.flock(held.enter_context(_opened(folder)), fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(parent: Path) -> None:
    for folder in parent.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(OSError), _opened(folder) as lock:  # held, or not ours to touch
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The file in `folder` that is locked; its lock ends with the block."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
