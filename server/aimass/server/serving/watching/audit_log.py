"""The audit log of serving: one JSON object a line, each a decision or a finding with its reason, for who asks later.

No line holds a value of anybody's row. The file is turned over when it is large, and the oldest ones go. Processes that
share a folder write into one log, whole lines each.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, append_line, make_folder
from aimass.proto.errors import BadInput
from aimass.proto.serving_views import AuditLine
from aimass.proto.values import canonical_json, decode_json

__all__ = ["AuditLog", "read_audit", "told"]

_NAME: Final = "audit.jsonl"
_LOCK: Final = ".audit.lock"
_MOST_BYTES: Final = 8 << 20
_KEPT: Final = 8
_RECENT: Final = 20


class AuditLog:
    """Appends; every line is on the disk when `append` returns. `recent` are the last that were told here."""

    def __init__(self, folder: Path, most_bytes: int = _MOST_BYTES, kept: int = _KEPT) -> None:
        self._folder, self._most_bytes, self._kept = make_folder(folder), most_bytes, kept
        self.recent: deque[AuditLine] = deque(maxlen=_RECENT)

    def append(self, lines: Sequence[AuditLine]) -> None:
        """Write lines, all of them or none; raises `OutOfSpace`."""
        self.recent.extend(lines)
        path = self._folder / _NAME
        with _alone(self._folder):
            self._turn_over(path)
            _cut_off_torn(path)
            append_line(path, b"\n".join(map(canonical_json, lines)), UNINTERRUPTED, "serving.audit")

    def _turn_over(self, path: Path) -> None:
        """`audit.jsonl` becomes `audit.1.jsonl`, that becomes `audit.2.jsonl`, and the last one goes."""
        if not path.is_file() or path.stat().st_size < self._most_bytes:
            return
        for number in range(self._kept - 1, 0, -1):
            if (older := _numbered(self._folder, number)).is_file():
                older.replace(_numbered(self._folder, number + 1))
        path.replace(_numbered(self._folder, 1))


def read_audit(folder: Path) -> Iterator[AuditLine]:
    """All lines that are there, oldest first; a line that was torn by a crash is left out."""
    with _alone(folder):
        paths = [path for number in range(64, 0, -1) if (path := _numbered(folder, number)).is_file()]
        texts = [path.read_bytes() for path in (*paths, folder / _NAME) if path.is_file()]
    for text in texts:
        for line in text.splitlines():
            try:
                yield decode_json(AuditLine, line, "a line of the audit log")
            except BadInput:
                continue


def told(line: AuditLine) -> str:
    """A line as a person reads it."""
    at = datetime.fromtimestamp(line.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{at}  {line.target}  {line.text}"


def _numbered(folder: Path, number: int) -> Path:
    return folder / f"audit.{number}.jsonl"


def _cut_off_torn(path: Path) -> None:
    """What follows the last end of a line was cut off by a crash."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
