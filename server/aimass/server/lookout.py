"""What others see of a service while it lives: its health at its ports, readiness and figures over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from aimass.proto.clock import Clock
from aimass.proto.vitals import Vitals
from aimass.proto.watch import Watched, watching
from aimass.server.readiness import Phase, Readiness

__all__ = ["Health", "Lookout"]


class Health(Protocol):
    """Who answers a service's callers whether it serves."""

    def tell(self, *, serving: bool) -> None:
        """What is so from now on."""
        ...

    def end(self) -> None:
        """The service stops."""
        ...


class Lookout:
    """Starting until `serving`, and never again after `stopping`."""

    def __init__(
        self,
        health: Health,
        clock: Clock,
        probe: Callable[[], Awaitable[None]],
        certificate_ends_at: Callable[[], float],
        free_bytes: Callable[[], int] = lambda: 0,
        floor_bytes: int = 0,
    ) -> None:
        """`probe` raises the named error for which what the service keeps cannot be used."""
        self._health = health
        self.readiness = Readiness(
            free_bytes,
            floor_bytes,
            probe,
            certificate_ends_at,
            clock,
            lambda is_ready: health.tell(serving=is_ready),
        )

    @contextlib.asynccontextmanager
    async def open(self, address: str, watched: Watched, vitals: Vitals) -> AsyncIterator[int]:
        """Look, and let `watched` be seen at `address`, until the block ends; the port, 0 where nobody watches."""
        async with watching(address, watched, vitals) as watch, self.readiness.kept():
            yield watch.port if watch is not None else 0

    async def serving(self) -> None:
        """The service serves from now on."""
        self.readiness.phase = Phase.SERVING
        await self.readiness.current()

    def stopping(self) -> None:
        """The service takes nothing new; who watches is told."""
        self.readiness.phase = Phase.STOPPING
        self._health.end()
