"""Time as an argument: whoever waits or stamps is handed a clock, so that tests own the time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from aimass.proto.meters import Spread

__all__ = ["Clock", "Stopwatch", "SystemClock"]


class Clock(Protocol):
    """Wall time for stamps and deadlines that survive a restart; `sleep` for waiting in a coroutine."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class Stopwatch:
    """How long the parts of a piece of work took, for the log and for `meter`: nothing is decided by it."""

    def __init__(self, meter: Spread | None = None) -> None:
        self._meter = meter
        self._laps: list[tuple[str, float]] = []
        self._at = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a part and begin the next."""
        now = time.perf_counter()
        self._laps.append((name, now - self._at))
        if self._meter is not None:
            self._meter.observe(now - self._at, name)
        self._at = now

    def __str__(self) -> str:
        return ", ".join(f"{name} in {seconds:.2f} s" for name, seconds in self._laps)
