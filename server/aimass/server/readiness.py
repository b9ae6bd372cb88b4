"""Whether the server can do its work now, and why not: a pure answer from what was looked up, and the looking up."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.proto.watch import Reason

__all__ = ["Facts", "Phase", "Readiness", "reasons"]

log = logging.getLogger("aimass.server")
_EVERY_S: Final = 5.0
_PATIENCE_S: Final = 3.0


class Phase(enum.StrEnum):
    """Where the process stands."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What readiness is decided by. `store` is the code of what keeps the run store from being written, if anything."""

    phase: Phase
    free_bytes: int
    floor_bytes: int
    store: str
    certificate_ends_at: float
    now: float


def reasons(facts: Facts) -> tuple[Reason, ...]:
    """Why no new work should come here; none where it may."""
    found = []
    if facts.phase is not Phase.SERVING:
        found.append(Reason(f"server.{facts.phase}", f"the server is {facts.phase}"))
    if facts.free_bytes < facts.floor_bytes:
        found.append(
            Reason(
                "server.low_space",
                f"{facts.free_bytes} bytes are free on its disk, and new work is taken from {facts.floor_bytes}",
            )
        )
    if facts.store:
        found.append(Reason(facts.store, "the run store cannot be written now: steps wait"))
    if facts.certificate_ends_at <= facts.now:
        found.append(Reason("trust.expired", "the server's own certificate has expired: no link can be opened"))
    return tuple(found)


class Readiness:
    """Looks at each request and every few seconds; `told` hears whether the server is ready."""

    def __init__(
        self,
        free_bytes: Callable[[], int],
        floor_bytes: int,
        probe: Callable[[], Awaitable[None]],
        certificate_ends_at: Callable[[], float],
        clock: Clock,
        told: Callable[[bool], None],
    ) -> None:
        """`probe` raises the named error for which the run store cannot be written."""
        self.phase = Phase.STARTING
        self._free_bytes, self._floor_bytes, self._probe = free_bytes, floor_bytes, probe
        self._certificate_ends_at, self._clock, self._told = certificate_ends_at, clock, told
        self._probing: asyncio.Task[str] | None = None

    async def current(self) -> tuple[Reason, ...]:
        """Why the server is not ready now."""
        store = await self._store() if self.phase is Phase.SERVING else ""
        found = reasons(
            Facts(
                self.phase,
                self._free_bytes(),
                self._floor_bytes,
                store,
                self._certificate_ends_at(),
                self._clock.now(),
            )
        )
        self._told(not found)
        return found

    async def _store(self) -> str:
        """One probe at a time, however many ask; one that takes long is an answer too."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probed())
        probing = self._probing  # whoever asks next may put another in its place before this one is read
        done, _ = await asyncio.wait({probing}, timeout=_PATIENCE_S)
        return probing.result() if done else "store.slow"

    async def _probed(self) -> str:
        try:
            await self._probe()
        except AimassError as error:
            return error.code
        except Exception:  # a damaged file is no lock that goes by itself, and the looking goes on all the same
            log.exception("the run store cannot be probed")
            return "store.failed"
        return ""

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Look every few seconds, until the block ends."""
        looking = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            tasks = [looking, *([self._probing] if self._probing is not None else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                await self.current()
            except Exception:  # who cannot look must not go on saying what it saw last
                log.exception("cannot see whether the server is ready")
                self._told(False)
            await self._clock.sleep(_EVERY_S)
