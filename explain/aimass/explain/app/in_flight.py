"""What is asked of services in the background: each question once at a time, whoever wants its answer meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["InFlight"]


class InFlight:
    """By `most` threads for each service, so that one that hangs holds its own alone: others answer beside it, whoever
    asks. A question holds one thread, however often it is asked. For all threads."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._asked: dict[tuple[str, Hashable], Future[Any]] = {}

    def ask(self, service: str, question: Hashable, do: Callable[[], Any]) -> Future[Any]:
        """The answer to come: that to the same question where it is still open, and else to `do`, which is asked.

        After `close` it is cancelled.
        """
        key = (service, question)
        with self._lock:
            found = self._asked.get(key)
            if found is not None and not found.done():
                return found
            if self._closed:
                found = Future()
                found.cancel()
                found.set_running_or_notify_cancel()  # who waits for it hears of it at once
                return found
            found = self._asked[key] = self._pool(service).submit(do)
        found.add_done_callback(lambda done: self._forget(key, done))
        return found

    def _pool(self, service: str) -> ThreadPoolExecutor:
        """Under the lock: the service's threads, made once it is asked; services are those of the settings."""
        if service not in self._pools:
            self._pools[service] = ThreadPoolExecutor(self._most, "aimass-overview")
        return self._pools[service]

    def _forget(self, key: tuple[str, Hashable], done: Future[Any]) -> None:
        with self._lock:
            if self._asked.get(key) is done:
                del self._asked[key]

    def close(self) -> None:
        """Ask nothing more; what hangs is not waited for."""
        with self._lock:
            self._closed = True
            pools = tuple(self._pools.values())
        for pool in pools:  # (what it cancels is forgotten, under the lock)
            pool.shutdown(wait=False, cancel_futures=True)
