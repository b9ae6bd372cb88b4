"""A clock that moves when a test says so."""

from __future__ import annotations

import asyncio
import heapq


class ManualClock:
    """Sleepers wake in order of their time when `advance` passes it; `set_by` moves what `now` says and wakes nobody."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now, self._set_by_s = now, 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now + self._set_by_s

    def set_by(self, seconds: float) -> None:
        """Somebody sets the machine's clock: it is that much later, or earlier, and no time has passed."""
        self._set_by_s += seconds

    @property
    def sleepers(self) -> int:
        """How many wait for the time to come."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, future))
        await future

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
