"""The pulse of a service's process: how late its event loop is, and what its log complains of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from aimass.proto.logs import code_of
from aimass.proto.meters import Count, Spread

__all__ = ["Vitals", "beating"]

_EVERY_S: Final = 1.0


class Vitals:
    """What every service counts of itself."""

    def __init__(self) -> None:
        self.lag = Spread(
            "aimass_loop_lag_seconds",
            "How late the event loop came to work that was due, looked at each second.",
            bounds=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
        )
        self.complaints = Count(
            "aimass_log_complaints",
            "Warnings and errors in the log, by the stable code of what they tell, `none` without one.",
            "level",
            "code",
        )


class _Complaints(logging.Handler):
    def __init__(self, meter: Count) -> None:
        super().__init__(logging.WARNING)
        self._meter = meter

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self._meter.add(record.levelname.lower(), code_of(record) or "none")


@contextlib.asynccontextmanager
async def beating(vitals: Vitals) -> AsyncIterator[None]:
    """Feel the pulse until the block ends."""
    logger, handler = logging.getLogger("aimass"), _Complaints(vitals.complaints)
    logger.addHandler(handler)
    feeling = asyncio.create_task(_lag(vitals.lag))
    try:
        yield
    finally:
        feeling.cancel()
        logger.removeHandler(handler)
        await asyncio.gather(feeling, return_exceptions=True)


async def _lag(meter: Spread) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        meter.observe(max(0.0, loop.time() - due))
