"""What services said a moment ago, so that ten viewers ask them no more often than one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Memo"]

T = TypeVar("T")


class Memo:
    """Answers by key for so many seconds, the `most` used last; a second asker waits for the first. For all threads."""

    def __init__(self, most: int = 256, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._now = most, now
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._asking: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, seconds: float, ask: Callable[[], T]) -> T:
        """The answer of `ask`, at most so many seconds old. What it raises is raised, and not held."""
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            with self._lock:
                held = self._held.get(key)
            if held is not None and self._now() - held[0] <= seconds:
                answer: T = held[1]
                return answer
            found = ask()
            with self._lock:
                self._held[key] = (self._now(), found)
                self._held.move_to_end(key)
                while len(self._held) > self._most:
                    old, _ = self._held.popitem(last=False)
                    self._asking.pop(old, None)
            return found

    def forget(self, *keys: Hashable) -> None:
        """Ask anew for these next time; for all where none is named."""
        with self._lock:
            for key in keys or tuple(self._held):
                self._held.pop(key, None)
