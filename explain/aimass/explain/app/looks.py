"""When each person looked last, so that Home can say what is new; kept in memory alone, until the app ends."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Looks"]

_APART_S: Final = 1_800.0
"""Looks further apart than this are two visits: a reload does not make everything old."""
_MOST_PEOPLE: Final = 1_000


class Looks:
    """Visits of people by name, in Unix seconds. For any number of threads."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, float | None]] = OrderedDict()

    def before(self, who: str) -> float | None:
        """Note a look now; when the visit before this one ended, None where none is known."""
        with self._lock:
            now = self._now()
            last, before = self._held.pop(who, (None, None))
            if last is not None and now - last > _APART_S:
                before = last
            self._held[who] = (now, before)
            while len(self._held) > _MOST_PEOPLE:
                self._held.popitem(last=False)
            return before
