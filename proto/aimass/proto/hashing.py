"""SHA-256 of bytes on their way to a file, computed on another core than the one that writes them."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["Hashing", "file_digest"]

_WORTH: Final = 64 << 10
_AHEAD: Final = 4


class Hashing:
    """Use as a context; what is given to `update` must not change before `digest` or four further updates."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes; few of them here and now, which costs less than another thread."""
        while self._running and self._running[0].done():
            self._running.popleft().result()
        if len(data) < _WORTH and not self._running:
            self._hasher.update(data)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="aimass-hash")
        self._running.append(self._pool.submit(self._hasher.update, data))
        if len(self._running) > _AHEAD:
            self._running.popleft().result()

    def hexdigest(self) -> str:
        """SHA-256 of all that was added."""
        while self._running:
            self._running.popleft().result()
        return self._hasher.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file. By reading and not through a map, whose pages would all count as this process's memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
