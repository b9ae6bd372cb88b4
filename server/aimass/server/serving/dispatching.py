"""The dispatcher of a serving process, with workers that are processes on this machine."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aimass.proto.clock import SystemClock
from aimass.proto.durable import make_folder
from aimass.proto.home import ChildLimits
from aimass.server.serving.dispatch.dispatcher import Dispatcher
from aimass.server.serving.settings import ServeSettings
from aimass.server.serving.workers.nursery import Nursery, Starting

__all__ = ["local_dispatcher"]


@contextlib.asynccontextmanager
async def local_dispatcher(settings: ServeSettings) -> AsyncIterator[Dispatcher]:
    """A dispatcher until the block ends; it then answers what it has, as far as `drain_s` allows."""
    worker = settings.worker
    nursery = Nursery(
        Starting(
            folder=make_folder(Path(settings.cache).absolute() / "workers"),
            limits=ChildLimits(memory_bytes=worker.memory_bytes, start_s=worker.start_s),
            batch_bytes=worker.batch_bytes,
            start_s=worker.start_s,
        )
    )
    dispatcher = Dispatcher(
        nursery.start, settings.dispatch, now=time.monotonic, clock=SystemClock(), draw=random.random
    )
    try:
        yield dispatcher
    finally:
        await dispatcher.close(settings.drain_s)
        nursery.close()
