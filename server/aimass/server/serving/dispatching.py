"""The dispatcher of a serving process by its settings, with workers that are processes on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aimass.proto.durable import make_folder
from aimass.proto.home import ChildLimits
from aimass.server.serving.dispatch.dispatcher import Dispatcher
from aimass.server.serving.dispatch.opened import dispatching
from aimass.server.serving.settings import ServeSettings
from aimass.server.serving.workers.nursery import Starting
from aimass.server.serving.workers.scratch import scratch_folder

__all__ = ["local_dispatcher"]


@contextlib.asynccontextmanager
async def local_dispatcher(settings: ServeSettings) -> AsyncIterator[Dispatcher]:
    """A dispatcher until the block ends; it then answers what it has, as far as `drain_s` allows."""
    worker = settings.worker
    with scratch_folder(make_folder(Path(settings.cache).absolute() / "workers")) as folder:
        starting = Starting(
            folder=folder,
            limits=ChildLimits(memory_bytes=worker.memory_bytes, start_s=worker.start_s),
            batch_bytes=worker.batch_bytes,
            start_s=worker.start_s,
            preload=worker.preload,
        )
        async with dispatching(starting, settings.dispatch) as dispatcher:
            try:
                yield dispatcher
            finally:
                await dispatcher.close(settings.drain_s)
