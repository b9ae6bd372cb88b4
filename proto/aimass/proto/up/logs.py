"""Logs of services: a file for each, opened so that it can be cut while it is written, and the last words of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from aimass.proto.errors import printable

__all__ = ["last_words", "open_log", "trim"]

_TAIL_BYTES: Final = 8_192
_MOST_BYTES: Final = 16 << 20


def open_log(path: Path) -> tuple[int, int]:
    """A descriptor that appends to a log, its owner's alone, and the size that it has now."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return descriptor, os.fstat(descriptor).st_size


def last_words(path: Path, begin: int, most: int = 3) -> str:
    """The last lines of a log since it had `begin` bytes, in one, as a terminal may show them."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = begin if begin <= size else 0  # it was cut meanwhile
            file.seek(max(start, size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return " | ".join(printable(line, 300) for line in said[-most:])


def trim(path: Path, most_bytes: int = _MOST_BYTES) -> bool:
    """Move a log that has grown beyond `most_bytes` to NAME.1, over the one before; its writer goes on at the start.

    What is written in the moment between copy and cut is lost: a log is no journal.
    """
    try:
        if path.stat().st_size <= most_bytes:
            return False
        with path.open("r+b") as file, path.with_name(f"{path.name}.1").open("wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            while part := file.read(1 << 20):
                kept.write(part)
            file.truncate(0)
    except OSError:
        return False
    return True
