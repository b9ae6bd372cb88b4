"""Writes that survive a crash, for everything that is acknowledged, journalled or restarted from.

A file is written beside its place, flushed to the disk, renamed and its folder flushed: a reader finds the old bytes
or the new ones. `Durability` is the seam through which a test stops a real process before and after each such effect.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from aimass.proto.errors import Conflict, OutOfSpace

_PART: Final = 1 << 20  # small enough to be hashed while it is in the cache
_WRITEBACK: Final = 8 << 20
_LARGE: Final = 4 << 20
_SYNC_RANGE: Final = getattr(ctypes.CDLL(None), "sync_file_range", None)

__all__ = [
    "UNINTERRUPTED",
    "Durability",
    "Writeback",
    "append_line",
    "append_line_unless_held",
    "disk_errors",
    "fsync_folder",
    "make_folder",
    "only_one",
    "remove_file",
    "write_all",
    "write_file",
    "write_parts",
]


class Durability(Protocol):
    """Told before and after each durable effect; `point` names it, such as `server.spool.written`."""

    def reached(self, point: str) -> None:
        """Called on the thread that performs the effect; may not return."""
        ...


class _Uninterrupted:
    def reached(self, point: str) -> None:
        """Production: nothing happens between two effects."""


UNINTERRUPTED: Final[Durability] = _Uninterrupted()


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a full disk or quota into `OutOfSpace` that names `what`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"no space left to write {what}",
                code="disk.full",
                cure="Free space on this disk; what was there before is intact and the work goes on by itself.",
            ) from error
        raise


def write_file(path: Path, data: bytes | memoryview, durability: Durability, point: str, mode: int = 0o600) -> None:
    """Replace `path` by `data` so that a crash leaves the old content or the new, never a part."""
    write_parts(path, (data,), durability, point, mode)


def write_parts(
    path: Path,
    parts: Iterable[bytes | memoryview],
    durability: Durability,
    point: str,
    mode: int = 0o600,
    *,
    synced: bool = True,
) -> str:
    """Like `write_file` for content in parts; its SHA-256, computed as it is written.

    Without `synced` it survives the end of the process and not that of the machine: check the digest after one.
    """
    durability.reached(f"{point}.write")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    hasher = hashlib.sha256()
    try:
        with disk_errors(path.name):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb", buffering=0):
                writeback = Writeback(descriptor)
                for part in parts:
                    view = memoryview(part)
                    for start in range(0, len(view), _PART):
                        piece = view[start : start + _PART]
                        write_all(descriptor, piece)
                        hasher.update(piece)
                        if synced:
                            writeback.wrote(len(piece))
                if synced:
                    os.fsync(descriptor)
            temporary.replace(path)
            if synced:
                fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    durability.reached(f"{point}.written")
    return hasher.hexdigest()


def append_line(path: Path, line: bytes, durability: Durability, point: str) -> None:
    """Append `line` and a newline to `path` and flush them to the disk; a failed append is cut off again."""
    durability.reached(f"{point}.write")
    with disk_errors(path.name):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if size == 0:
            fsync_folder(path.parent)
    durability.reached(f"{point}.written")


class Writeback:
    """Starts the way of what was written to the disk while more is coming, so that the last flush finds little left.

    Linux's `sync_file_range` with SYNC_FILE_RANGE_WRITE; it promises nothing, and `fsync` still has to follow.
    """

    def __init__(self, descriptor: int, offset: int = 0) -> None:
        self._descriptor, self._started, self._written = descriptor, offset, offset

    def wrote(self, size: int) -> None:
        """Count what was written; every so many bytes their way begins."""
        self._written += size
        if self._written - self._started >= _WRITEBACK and _SYNC_RANGE is not None:
            start, length = ctypes.c_int64(self._started), ctypes.c_int64(self._written - self._started)
            _SYNC_RANGE(self._descriptor, start, length, 2)
            self._started = self._written


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def remove_file(path: Path) -> None:
    """Delete `path` if it is there: its name is gone on return.

    The space of a large file is given back behind, by a thread that ends with it: that takes a disk up to a tenth of a
    second for some hundred megabytes, and a caller has others to serve.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        large = os.fstat(descriptor).st_size >= _LARGE
        path.unlink(missing_ok=True)
    except BaseException:
        os.close(descriptor)
        raise
    if large:
        threading.Thread(target=os.close, args=(descriptor,), name="aimass-remove").start()
    else:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> Path:
    """Create `path` with its parents, readable by the owner alone, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for this process, however it ends; raises `Conflict` where another holds it."""
    make_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another {what} works in this folder",
                code="folder.held",
                value=f"{folder}, process {os.read(descriptor, 20).decode('ascii', 'replace') or 'unknown'}",
                cure="Stop it first, or give this one a folder of its own.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def append_line_unless_held(path: Path, line: bytes, durability: Durability, point: str) -> None:
    """Like `append_line`, but a line that the file holds already is not repeated; a torn last line is cut off."""
    data = path.read_bytes() if path.is_file() else b""
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    if line not in whole.splitlines():
        append_line(path, line, durability, point)
