"""What is asked of services in the background: each question once at a time, whoever wants its answer meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["InFlight"]


class InFlight:
    """By `most` threads, so that a service that hangs holds one for each question and no more. For all threads."""

    def __init__(self, most: int = 16) -> None:
        self._pool = ThreadPoolExecutor(most, "aimass-overview")
        self._lock = threading.Lock()
        self._asked: dict[Hashable, Future[Any]] = {}

    def ask(self, key: Hashable, do: Callable[[], Any]) -> Future[Any]:
        """The answer to come: that to the same question where it is still open, and else to `do`, which is asked."""
        with self._lock:
            found = self._asked.get(key)
            if found is not None and not found.done():
                return found
            found = self._asked[key] = self._pool.submit(do)
        found.add_done_callback(lambda done: self._forget(key, done))
        return found

    def _forget(self, key: Hashable, done: Future[Any]) -> None:
        with self._lock:
            if self._asked.get(key) is done:
                del self._asked[key]

    def close(self) -> None:
        """Ask nothing more; what hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
