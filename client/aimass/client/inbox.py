"""Messages of one run, handled in order by a task of their own, so that a slow run holds up no other."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, OutOfSpace, Unavailable
from aimass.proto.logs import Log

__all__ = ["Handler", "Inbox", "patiently"]

log = logging.getLogger("aimass.client")
T = TypeVar("T")
_RETRY_S: Final = 1.0
_SOON_S: Final = 0.1
_PASSING: Final = frozenset({"transfer.streams"})
"""What the server says where a link had died unnoticed: the streams over it end soon, and count till then."""

_MOST: Final = 1_000
Handler = Callable[[], Awaitable[None] | None]


async def patiently(told: Log, clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until it works or is refused: a broken link or a full disk is waited for.

    Soon at first, since a link that broke is mostly back before long; from the fourth time on, once a second.
    """
    for failures in itertools.count():
        try:
            return await attempt()
        except AimassError as error:
            if not isinstance(error, Unavailable | OutOfSpace) and error.code not in _PASSING:
                raise
            told.info("waits: %s", error)
            await clock.sleep(min(_RETRY_S, _SOON_S * 2.0 ** min(failures, 10)))
    raise AssertionError("tries never end")


class Inbox:
    """A bounded queue of handlers. What one raises is told and ends nothing but itself; a full disk is waited for."""

    def __init__(self, told: Log, clock: Clock) -> None:
        self._told, self._clock = told, clock
        self._queue: asyncio.Queue[Handler] = asyncio.Queue(_MOST)
        self._serving: asyncio.Task[None] | None = None

    async def put(self, handler: Handler) -> None:
        """Queue a handler; waits where a thousand are queued already."""
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        await self._queue.put(handler)

    async def _serve(self) -> None:
        while True:
            handler = await self._queue.get()
            try:
                await self._handle(handler)
            except AimassError as error:
                self._told.error("the server's message was refused: %s", error)
            except Exception:
                log.exception("a message could not be handled", extra=self._told.extra)

    async def _handle(self, handler: Handler) -> None:
        while True:
            try:
                waiting = handler()
                if waiting is not None:
                    await waiting
            except OutOfSpace as error:
                self._told.warning("waits: %s", error)
                await self._clock.sleep(_RETRY_S)
            else:
                return

    async def close(self) -> None:
        """Handle nothing more."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
