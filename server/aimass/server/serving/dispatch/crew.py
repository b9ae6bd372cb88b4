"""The workers of one version: started, replaced when they die or grow too large, ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.dispatch.working import Working
from aimass.server.serving.workers.protocol import Opened

__all__ = ["Crew", "Start"]

log = logging.getLogger("aimass.serving")
Start = Callable[[Source], Awaitable[Working]]
_BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_LOOK_S: Final = 1.0
"""How often workers are weighed."""


class Crew:
    """Calls `joined` when a worker can be given work, `lost` with one that has ended by itself or was killed, and
    `left` with one that goes because another stands in its place. `ended` is how many were lost."""

    def __init__(
        self,
        source: Source,
        settings: DispatchSettings,
        start: Start,
        clock: Clock,
        joined: Callable[[], None],
        lost: Callable[[Working], None],
        left: Callable[[Working], None],
    ) -> None:
        self._source, self._settings, self._start, self._clock = source, settings, start, clock
        self._joined, self._lost, self._left = joined, lost, left
        self.workers: list[Working] = []
        self.ended = 0
        self._grown: set[Working] = set()
        self._leaving: set[Working] = set()
        self._looked = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> Opened:
        """Start all workers; raises what the first of them raises."""
        for _ in range(self._settings.workers):
            self._join(await self._start(self._source))
        return self.workers[0].opened

    def free(self, worker: Working) -> bool:
        """Whether it can be given work."""
        return worker.idle and worker not in self._leaving

    def freed(self, worker: Working) -> bool:
        """The same, of one that has just answered; one in whose place another stands goes now."""
        if worker in self._leaving:
            self._retire(worker)
            return False
        return True

    def _join(self, worker: Working) -> None:
        self.workers.append(worker)
        worker.when_lost(lambda: self._gone(worker))
        self._joined()

    def _gone(self, worker: Working) -> None:
        if worker not in self._grown and not self._closed:  # for one that has grown another is started already
            self._in_background(self._another(None))
        self._forget(worker)
        self.ended += 1
        self._lost(worker)

    def _forget(self, worker: Working) -> None:
        self.workers.remove(worker)
        self._leaving.discard(worker)
        self._grown.discard(worker)

    async def _another(self, instead: Working | None) -> None:
        """Start one, after longer and longer waits where none can be started."""
        for wait_s in itertools.chain(_BACKOFF_S, itertools.repeat(_BACKOFF_S[-1])):
            if wait_s:
                await self._clock.sleep(wait_s)
            try:
                self._join(await self._start(self._source))
            except (AimassError, OSError) as error:
                log.error("no new worker for %s@%d: %s", self._source.model, self._source.version, error)
            else:
                break
        if instead in self.workers:
            self._leaving.add(instead)
            if instead.idle:
                self._retire(instead)

    def _retire(self, worker: Working) -> None:
        self._forget(worker)
        self._in_background(worker.end())
        self._left(worker)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look(self, now: float) -> None:
        """Weigh them, now and then; one that has grown too large answers until another stands in its place."""
        most = self._settings.resident_bytes
        if not most or now - self._looked < _LOOK_S:
            return
        self._looked = now
        for worker in self.workers:
            if worker not in self._grown and (resident := worker.resident_bytes) > most:
                name = f"{self._source.model}@{self._source.version}"
                log.warning("a worker of %s has grown to %d MB and is replaced", name, resident >> 20)
                self._grown.add(worker)
                self._in_background(self._another(worker))

    async def close(self) -> None:
        """End them all."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers, self.workers = self.workers, []
        await asyncio.gather(*(worker.end() for worker in workers))
