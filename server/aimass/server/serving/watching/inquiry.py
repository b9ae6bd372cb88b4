"""Asks the registry what is to be served, again and again: conditionally, with jitter, less often while it is away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, InternalError
from aimass.proto.registry.reader import Resolved
from aimass.server.serving.watching.releases import Releases, promoted_of
from aimass.server.serving.watching.settings import RegistrySettings
from aimass.server.serving.watching.state import Away, Promoted

__all__ = ["Inquiry"]

log = logging.getLogger("aimass.serving")
_WHOLE: Final = 30
"""After so many questions for what is newer the registry is read again: a signer may have left the trust file."""
Heard = Callable[[Promoted | Away, AimassError | None], None]
"""Told each answer, with the error where it is none."""


class Inquiry:
    """About one model."""

    def __init__(
        self, releases: Releases, settings: RegistrySettings, clock: Clock, rng: random.Random, heard: Heard
    ) -> None:
        self._releases, self._settings, self._clock, self._rng = releases, settings, clock, rng
        self._heard = heard
        self._wanted = asyncio.Event()
        self.under_way = False
        """Whether an answer is on its way, which may be too old for who asks now."""

    def now(self) -> None:
        """Ask without waiting for the next turn; after the question that is under way, if one is."""
        self._wanted.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        settings, asked, last = self._settings, 0, None
        delay_s = settings.every_s
        while True:
            self.under_way = True
            try:
                last = await asyncio.to_thread(self._look, None if asked % _WHOLE == 0 else last)
            except Exception as error:  # noqa: BLE001  (a fault of ours must not end the asking)
                named = _named(error)
                self._heard(Away(named.code, named.sentence().rstrip(".")), named)
                delay_s = min(2 * delay_s, max(settings.slowest_s, settings.every_s))
            else:
                self._heard(promoted_of(last), None)
                delay_s = settings.every_s
            asked, self.under_way = asked + 1, False
            await self._next_turn(delay_s * (1 + settings.jitter * self._rng.uniform(-1, 1)))

    def _look(self, last: Resolved | None) -> Resolved:
        """What the registry says now, by a question for what is newer where it was asked before."""
        return self._releases.resolve() if last is None else self._releases.newer(last.seen) or last

    async def _next_turn(self, delay_s: float) -> None:
        """Until it is time, or somebody wants to know now."""
        waiting = {asyncio.create_task(work) for work in (self._clock.sleep(delay_s), _set(self._wanted))}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._wanted.clear()


def _named(error: Exception) -> AimassError:
    """The error, or what stands for a fault of ours."""
    if isinstance(error, AimassError):
        return error
    log.error("the registry could not be asked", exc_info=error)
    return InternalError(f"{type(error).__name__} was raised while it was asked", code="registry.internal")


async def _set(event: asyncio.Event) -> None:
    await event.wait()
