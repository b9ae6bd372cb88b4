"""What services said a moment ago, so that ten viewers ask them no more often than one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from aimass.proto.errors import Unavailable

__all__ = ["Memo"]

T = TypeVar("T")


class Memo:
    """Answers by key for so many seconds, the `most` used last; a second asker waits for the first. For all threads."""

    def __init__(self, most: int = 256, now: Callable[[], float] = time.monotonic, patience_s: float = 30.0) -> None:
        self._most, self._now, self._patience_s = most, now, patience_s
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._asking: dict[Hashable, tuple[threading.Lock, int]] = {}
        self._forgotten = 0

    def __len__(self) -> int:
        """How many answers are held."""
        with self._lock:
            return len(self._held)

    def get(self, key: Hashable, seconds: float, ask: Callable[[], T]) -> T:
        """The answer of `ask`, at most so many seconds old. What it raises is raised, and not held.

        Who waits for another's question for longer than `patience_s` is told that it hangs, by `Unavailable`.
        """
        with self._lock:
            asking, waiting = self._asking.get(key, (threading.Lock(), 0))
            self._asking[key] = (asking, waiting + 1)
        try:
            if not asking.acquire(timeout=self._patience_s):
                raise Unavailable(
                    "a service has not answered somebody else's question yet",
                    code="app.hangs",
                    value=f"{self._patience_s:g} s",
                    cure="The page asks again by itself; the service's own log may say what it waits for.",
                )
            try:
                return self._answer(key, seconds, ask)
            finally:
                asking.release()
        finally:
            with self._lock:
                asking, waiting = self._asking[key]
                if waiting == 1:
                    del self._asking[key]
                else:
                    self._asking[key] = (asking, waiting - 1)

    def _answer(self, key: Hashable, seconds: float, ask: Callable[[], T]) -> T:
        """One at a time for each key."""
        with self._lock:
            held, begun = self._held.get(key), self._forgotten
            if held is not None:
                self._held.move_to_end(key)
        if held is not None and self._now() - held[0] <= seconds:
            answer: T = held[1]
            return answer
        found = ask()
        with self._lock:
            if begun == self._forgotten:  # what was asked for before something was changed is not held after it
                self._held[key] = (self._now(), found)
                self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return found

    def forget(self, *keys: Hashable) -> None:
        """Ask anew for these next time; for all where none is named."""
        with self._lock:
            self._forgotten += 1
            for key in keys or tuple(self._held):
                self._held.pop(key, None)
