"""The log's lines about requests: which of them are told, and how many a second at most.

A flood of requests that are refused would be a flood of lines, and a server that writes them answers nobody. What was
left out is counted and told with the next line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Literal

from aimass.proto.logs import subject

__all__ = ["LogRequests", "RequestLog"]

log = logging.getLogger("aimass.serving")
LogRequests = Literal["none", "failed", "all"]
_LINES_PER_S: Final = 20.0


class RequestLog:
    """`which` requests are told; of those that failed `per_s` a second, saved up for at most a second.

    `ticks` never goes back. The fronts of a process share one.
    """

    def __init__(
        self,
        which: LogRequests = "failed",
        per_s: float = _LINES_PER_S,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._which, self._per_s, self._ticks = which, per_s, ticks
        self._left, self._at, self._untold = per_s, ticks(), 0

    def wants(self, level: int) -> bool:
        """Whether a request that ended so may be told; most are not, and cost no text."""
        return self._which == "all" or (self._which == "failed" and level >= logging.INFO)

    def tell(self, what: str, caller: str, outcome: str, seconds: float, *, level: int, request: str = "") -> None:
        """One request: `what` was asked by whom, and how it ended, by `level` from INFO on; below it, well."""
        if not self.wants(level):
            return
        if level >= logging.INFO and self._which == "failed" and not self._is_within_rate():
            self._untold += 1
            return
        more, self._untold = f"; {self._untold} more were not told" if self._untold else "", 0
        log.log(
            max(level, logging.INFO),
            "%s of %s: %s in %.1f ms%s",
            what,
            caller,
            outcome,
            1e3 * seconds,
            more,
            extra=subject(request=request),
        )

    def _is_within_rate(self) -> bool:
        now = self._ticks()
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
