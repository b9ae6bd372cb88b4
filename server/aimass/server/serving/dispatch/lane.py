"""One version in memory: its queue, its workers, and what happens when they die.

An idle worker gets what waits at the end of the same turn of the event loop; while it computes, the queue gathers. All
of it runs in the event loop, and nothing waits for a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, IntegrityError, LimitExceeded
from aimass.proto.servable import Array
from aimass.server.serving.dispatch.batching import (
    Entry,
    expired,
    gathered,
    least_lately,
    outputs_of,
    rows_at_once,
    take,
)
from aimass.server.serving.dispatch.requests import (
    Answer,
    AttemptPassed,
    InvalidOutput,
    Overloaded,
    QueueDeadline,
    WorkerLost,
)
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.dispatch.working import Reply, Working
from aimass.server.serving.workers.protocol import DIGEST_NAME, Opened

__all__ = ["Lane", "Now", "Settle", "Start"]

log = logging.getLogger("aimass.serving")
_BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_LEAST_RETRY_S: Final = 0.1
_LOOK_S: Final = 1.0
"""How often workers are weighed."""


Now = Callable[[], float]
"""Seconds of a clock that only goes forward."""

Start = Callable[[Source], Awaitable[Working]]
Settle = Callable[["Lane", Entry, Answer | AimassError], None]
"""Called for each entry once: with its answer, or why there is none."""


class Lane:
    """A version with its workers. `settle` is told what becomes of each entry, `stalled` when no worker lives."""

    def __init__(
        self, source: Source, settings: DispatchSettings, start: Start, settle: Settle, stalled: Callable[[Lane], None],
        now: Now, clock: Clock,
    ) -> None:  # fmt: skip
        self.source = source
        self._settings, self._start, self._settle, self._stalled = settings, start, settle, stalled
        self._now, self._clock = now, clock
        self.queue: deque[Entry] = deque()
        self.workers: list[Working] = []
        self._underway: dict[Working, tuple[float, list[Entry]]] = {}
        self._asked: dict[Working, asyncio.Future[str]] = {}
        self._flushes = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._grown: set[Working] = set()
        self._leaving: set[Working] = set()
        self._looked = now()
        self._empty = asyncio.Event()
        self._empty.set()
        self._row_s = 0.0
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def opened(self) -> Opened:
        """What its model takes and answers."""
        return self._opened

    @property
    def alive(self) -> bool:
        """Whether any of its workers lives."""
        return bool(self.workers)

    async def open(self) -> None:
        """Start all workers; raises what the first of them raises."""
        first = await self._start(self.source)
        self._opened = first.opened
        self.inputs = {spec.name: spec for spec in first.opened.inputs}
        self._joined(first)
        for _ in range(self._settings.workers - 1):
            self._joined(await self._start(self.source))

    def push(self, entry: Entry) -> None:
        """Put a request into the queue; raises `Overloaded` where that is full."""
        if len(self.queue) >= self._settings.most_queued:
            raise Overloaded(
                "too many requests wait for this model",
                retry_after_s=max(_LEAST_RETRY_S, self._row_s * len(self.queue) / self._settings.workers),
                value=len(self.queue),
                limit=self._settings.most_queued,
            )
        self.queue.append(entry)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushes:
            self._flushes = True
            self._empty.clear()
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = False
        for worker in self.workers:
            if not self.queue and not self._asked:
                break
            if worker.idle and worker not in self._leaving:
                self._next(worker)
        if not self.queue and not self._underway:
            self._empty.set()

    def _next(self, worker: Working) -> None:
        """Give an idle worker something to do, if there is anything."""
        if worker in self._asked:
            told = self._asked.pop(worker)
            self._underway[worker] = (self._now(), [])
            worker.digest(lambda reply: self._digested(worker, told, reply))
            return
        settings = self._settings
        batch = take(self.queue, rows_at_once(settings.most_rows, self._row_s, settings.batch_s))
        if not batch:
            return
        now = self._now()
        self._underway[worker] = (now, batch)
        try:
            worker.compute(gathered(batch), lambda reply: self._answered(worker, reply))
        except LimitExceeded as error:
            del self._underway[worker]
            self._refuse(batch, error)

    def _refuse(self, batch: list[Entry], error: AimassError) -> None:
        """What failed for a batch is tried for each of it alone, and told to who was alone."""
        if len(batch) == 1:
            self._end(batch[0], error)
            return
        for entry in reversed(batch):
            entry.alone = True
            self.queue.appendleft(entry)
        self._flush_soon()

    def _answered(self, worker: Working, reply: Reply) -> None:
        started, batch = self._underway.pop(worker)
        now = self._now()
        if isinstance(reply, IntegrityError) and reply.code == "serving.memory":
            self._again(batch, "wrote what cannot be read")
            worker.kill()
            return
        self._row_s = least_lately(self._row_s, (now - started) / sum(entry.rows for entry in batch))
        if worker in self._leaving:
            self._retire(worker)
        else:
            self._next(worker)  # before the answers are told: they take their time
        if isinstance(reply, AimassError):
            self._refuse(batch, reply)
        else:
            self._share_out(batch, reply, started, now)
        if not self.queue and not self._underway:
            self._empty.set()

    def _share_out(self, batch: list[Entry], reply: Mapping[str, Array], started: float, now: float) -> None:
        source = self.source
        for entry, outputs in outputs_of(batch, self._opened.outputs, reply):
            if isinstance(outputs, str):
                self._end(entry, InvalidOutput(source.model, source.version, outputs))
            else:
                self._end(entry, Answer(outputs, source.model, source.version, started - entry.since, now - started))

    def _end(self, entry: Entry, outcome: Answer | AimassError) -> None:
        if not entry.over:
            entry.over = True
            self._settle(self, entry, outcome)

    # Workers come and go.

    def _joined(self, worker: Working) -> None:
        self.workers.append(worker)
        worker.when_lost(lambda: self._lost(worker))
        self._flush_soon()

    def _lost(self, worker: Working) -> None:
        """Its batch is given to another at once, each request alone: inference changes nothing, so it may be done
        twice, and one of them may be what the worker died of."""
        self.workers.remove(worker)
        replaced = worker in self._grown
        self._leaving.discard(worker)
        self._grown.discard(worker)
        if worker in self._asked:
            self._asked.pop(worker).cancel()
        _, batch = self._underway.pop(worker, (0.0, []))
        log.warning(
            "a worker of %s@%d ended; %d requests were with it", self.source.model, self.source.version, len(batch)
        )
        self._again(batch, "died")
        if self._closed:
            return
        if not replaced:
            self._restart()
        if not self.workers:
            self._stalled(self)

    def _again(self, batch: list[Entry], how: str) -> None:
        for entry in reversed(batch):
            entry.attempts += 1
            if entry.attempts >= self._settings.most_attempts:
                self._end(entry, WorkerLost(self.source.model, self.source.version, how))
            elif not entry.over:
                entry.alone = True
                self.queue.appendleft(entry)
        self._flush_soon()

    def _restart(self, instead: Working | None = None) -> None:
        self._in_background(self._started_again(instead))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _started_again(self, instead: Working | None) -> None:
        """Another worker, after longer and longer waits where none can be started."""
        for wait_s in itertools.chain(_BACKOFF_S, itertools.repeat(_BACKOFF_S[-1])):
            if wait_s:
                await self._clock.sleep(wait_s)
            try:
                self._joined(await self._start(self.source))
            except (AimassError, OSError) as error:
                log.error("no new worker for %s@%d: %s", self.source.model, self.source.version, error)
            else:
                break
        if instead in self.workers:
            self._leaving.add(instead)
            if instead.idle:
                self._retire(instead)

    def _retire(self, worker: Working) -> None:
        """It has nothing underway, and another stands in its place."""
        self.workers.remove(worker)
        self._leaving.discard(worker)
        self._grown.discard(worker)
        self._in_background(worker.end())
        self._flush_soon()

    # Time passes.

    def tick(self, now: float, *, may_fall_back: bool) -> None:
        """Give up what is late, kill who hangs; with a fallback, no request waits longer than an attempt may take."""
        settings, source = self._settings, self.source
        for entry in expired(self._entries(), now):
            self._end(entry, QueueDeadline(source.model))
        if may_fall_back:
            late = AttemptPassed(source.model, source.version, settings.attempt_s)
            for entry in self._entries():
                if not entry.over and now - entry.since >= settings.attempt_s:
                    self._end(entry, late)
        for worker, (started, _) in list(self._underway.items()):
            if now - started >= settings.hang_s:
                log.warning("a worker of %s@%d hangs and is killed", source.model, source.version)
                worker.kill()
        if settings.resident_bytes and now - self._looked >= _LOOK_S:
            self._looked = now
            self._replace_grown()
        self._flush_soon()

    def _replace_grown(self) -> None:
        """A worker that has grown too large answers until another stands in its place."""
        for worker in self.workers:
            if worker not in self._grown and worker.resident_bytes > self._settings.resident_bytes:
                log.warning(
                    "a worker of %s@%d has grown to %d MB and is replaced",
                    self.source.model, self.source.version, worker.resident_bytes >> 20,
                )  # fmt: skip
                self._grown.add(worker)
                self._restart(worker)

    @property
    def waits(self) -> bool:
        """Whether anything is asked of it that time may run out for."""
        return bool(self.queue or self._underway)

    def _entries(self) -> list[Entry]:
        return [*self.queue, *(entry for _, batch in self._underway.values() for entry in batch)]

    def cleared(self) -> Iterable[Entry]:
        """All that wait in the queue, which is then empty."""
        while self.queue:
            yield self.queue.popleft()

    async def digest(self) -> tuple[str, ...]:
        """The SHA-256 of the parameters in each worker's memory."""
        told = [self._asked.setdefault(worker, self._loop.create_future()) for worker in self.workers]
        self._flush_soon()
        return tuple(await asyncio.gather(*told))

    def _digested(self, worker: Working, told: asyncio.Future[str], reply: Reply) -> None:
        del self._underway[worker]
        self._flush_soon()
        if told.done():
            return
        if isinstance(reply, AimassError):
            told.set_exception(reply)
        else:
            told.set_result(bytes(reply[DIGEST_NAME][0]).decode())

    async def close(self, drain_s: float) -> None:
        """Answer what it was given, as far as `drain_s` allows, then end the workers; who is cancelled drains no more.

        Called once more, it ends what the first call still waits for.
        """
        self._flush_soon()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), drain_s)
        finally:
            await self._ended()

    async def _ended(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers, self.workers = self.workers, []
        await asyncio.gather(*(worker.end() for worker in workers))
        for entry in self._entries():
            self._end(entry, WorkerLost(self.source.model, self.source.version, "was stopped"))
        self._empty.set()
