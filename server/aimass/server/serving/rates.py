"""How often one caller may ask: a token bucket for each on a clock that never goes back, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from aimass.server.serving.dispatch.requests import Overloaded

__all__ = ["Rates", "TooOften"]

_CALLERS: Final = 10_000


class TooOften(Overloaded):
    """The caller asked more often than it may; others are not affected."""

    def __init__(self, rate: float, retry_after_s: float) -> None:
        super().__init__("this caller asks too often", retry_after_s=retry_after_s, limit=f"{rate:g} requests a second")
        self.code = "serving.rate"


class Rates:
    """`per_s` requests a second for each caller, saved up for at most a second; 0 is no limit.

    Who was not heard of for the longest time is forgotten first, which can only be to its favour.
    """

    def __init__(self, per_s: float, callers: int = _CALLERS) -> None:
        self._per_s, self._most = per_s, max(1.0, per_s)
        self._callers = callers
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> None:
        """Count a request; raises `TooOften`, which costs the caller nothing."""
        if not self._per_s:
            return
        left, at = self._held.pop(caller, (self._most, now))
        left = min(self._most, left + (now - at) * self._per_s)
        self._held[caller] = (left - 1.0, now) if left >= 1.0 else (left, now)
        if len(self._held) > self._callers:
            self._held.popitem(last=False)
        if left < 1.0:
            raise TooOften(self._per_s, (1.0 - left) / self._per_s)
