"""Files that a machine keeps of what it fetched, up to a number of bytes; for all processes that share the folder.

What was used longest ago goes first. A file that is gone is fetched again, so nothing breaks where two processes work
in one folder; whoever has opened it reads on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aimass.proto.durable import disk_errors, make_folder

__all__ = ["DEFAULT_CACHE_BYTES", "Cache"]

DEFAULT_CACHE_BYTES: Final = 20 << 30

Fetch = Callable[[Path], Path]
"""Puts a file into the folder, whole and checked; its path."""


class Cache:
    """See the module. `limit_bytes` may be exceeded by the file that is being fetched."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit = make_folder(folder), limit_bytes
        self._one_at_a_time = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}

    def file(self, name: str, fetch: Fetch) -> Path:
        """The file of this name, fetched if it is not here; raises what `fetch` does."""
        with self._lock(name):
            path = self._folder / name
            try:
                os.utime(path)
            except FileNotFoundError:
                with disk_errors("the cache of shards"):
                    path = fetch(self._folder)
                self._evict(path)
            return path

    def _lock(self, name: str) -> threading.Lock:
        """Who asks for what is being fetched waits for it."""
        with self._one_at_a_time:
            return self._fetching.setdefault(name, threading.Lock())

    def _evict(self, kept: Path) -> None:
        found = []
        for path in self._folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if held <= self._limit:
                return
            if path != kept:
                path.unlink(missing_ok=True)
                held -= size
