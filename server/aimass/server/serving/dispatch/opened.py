"""A dispatcher over real workers, for who composes a server of it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator

from aimass.proto.clock import SystemClock
from aimass.server.serving.dispatch.dispatcher import Dispatcher
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.workers.nursery import Nursery, Starting

__all__ = ["dispatching"]


@contextlib.asynccontextmanager
async def dispatching(starting: Starting, settings: DispatchSettings) -> AsyncIterator[Dispatcher]:
    """No models yet; all processes end with the context. Who wants to drain calls `close` before.

    Its clock is `time.monotonic`: a request that may wait for a second has the deadline `time.monotonic() + 1`.
    """
    nursery = Nursery(starting)
    nursery.begin()
    dispatcher = Dispatcher(nursery.start, settings, now=time.monotonic, clock=SystemClock(), draw=random.random)
    try:
        yield dispatcher
    finally:
        await dispatcher.close(0.0)
        nursery.close()
