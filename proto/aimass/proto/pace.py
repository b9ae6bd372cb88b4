"""How fast somebody may move bytes: a token bucket on an injected clock, for server and daemon alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import BadInput

__all__ = ["SLOWEST", "Pace", "Throttle", "check_rate"]

SLOWEST: Final = 64 << 10
"""Bytes per second; below it a chunk takes so long that the other side gives the link up for dead."""


def check_rate(bytes_per_s: int, name: str) -> None:
    """Raise `BadInput` for a rate that is neither 0, which is no limit, nor one that a transfer gets on with."""
    if 0 < bytes_per_s < SLOWEST:
        raise BadInput(
            "so slow a transfer would be cut off",
            code="settings.rate",
            value=f"{name} = {bytes_per_s}",
            limit=f"0 for none, or from {SLOWEST} bytes per second",
        )


class _Bucket:
    """`rate` tokens a second, saved up for at most a second; 0 lets everything pass."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate, self._left, self._at = rate, float(rate), now

    def take(self, size: int, now: float) -> float:
        """Spend `size`; seconds until it is within the rate."""
        if not self._rate:
            return 0.0
        # A clock that was set back adds nothing, and holds nobody up for longer than its own bytes.
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate) - size
        self._at = now
        return max(0.0, -self._left / self._rate)


class Pace:
    """`bytes_per_s` for all who spend here together, saved up for at most a second; 0 lets everything pass."""

    def __init__(self, bytes_per_s: int, clock: Clock) -> None:
        self._bucket, self._clock = _Bucket(bytes_per_s, clock.now()), clock

    async def spend(self, size: int) -> None:
        """Return when `size` more bytes are within the rate; who asks first is served first."""
        if wait_s := self._bucket.take(size, self._clock.now()):
            await self._clock.sleep(wait_s)


class Throttle:
    """The same for one thread: `now` reads a clock, and `wait` returns after so many seconds, or raises to end it."""

    def __init__(self, bytes_per_s: int, now: Callable[[], float], wait: Callable[[float], None]) -> None:
        self._bucket, self._now, self._wait = _Bucket(bytes_per_s, now()), now, wait

    def spend(self, size: int) -> None:
        """Return when `size` more bytes are within the rate."""
        if wait_s := self._bucket.take(size, self._now()):
            self._wait(wait_s)
