"""One version in memory: its queue, what its workers have underway, and what becomes of that when they die.

An idle worker gets what waits at the end of the same turn of the event loop; while it computes, the queue gathers. All
of it runs in the event loop, and nothing waits for a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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
from aimass.server.serving.dispatch.crew import Crew, Start
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
from aimass.server.serving.workers.protocol import DIGEST_NAME

__all__ = ["Lane", "Now", "Settle"]

log = logging.getLogger("aimass.serving")
_LEAST_RETRY_S: Final = 0.1

Now = Callable[[], float]
"""Seconds of a clock that only goes forward."""

Settle = Callable[["Lane", Entry, Answer | AimassError], None]
"""Called for each entry once: with its answer, or why there is none."""


class Lane:
    """A version with its workers. `settle` is told what becomes of each entry, `stalled` when no worker lives."""

    def __init__(
        self, source: Source, settings: DispatchSettings, start: Start, settle: Settle, stalled: Callable[[Lane], None],
        now: Now, clock: Clock,
    ) -> None:  # fmt: skip
        self.source = source
        self._settings, self._settle, self._stalled = settings, settle, stalled
        self._now = now
        self._crew = Crew(source, settings, start, clock, self._flush_soon, self._lost, self._left)
        self.queue: deque[Entry] = deque()
        self._underway: dict[Working, tuple[float, list[Entry]]] = {}
        self._asked: dict[Working, asyncio.Future[str | None]] = {}
        self._telling: dict[Working, asyncio.Future[str | None]] = {}
        self._flushes = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._row_s = 0.0
        self._stuck = False
        self._loop = asyncio.get_running_loop()

    @property
    def answers(self) -> bool:
        """Whether a worker of it lives and not all of them are at a batch for longer than an attempt may take."""
        return self.alive and not self._stuck

    async def open(self) -> None:
        """Start all workers; raises what the first of them raises."""
        self.opened = await self._crew.open()
        self.inputs = {spec.name: spec for spec in self.opened.inputs}

    @property
    def workers(self) -> list[Working]:
        """Those that live."""
        return self._crew.workers

    @property
    def ended(self) -> int:
        """How many have died or were killed."""
        return self._crew.ended

    @property
    def alive(self) -> bool:
        """Whether any of its workers lives."""
        return bool(self._crew.workers)

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
            if self._crew.free(worker):
                self._next(worker)
        self._see_whether_empty()

    def _see_whether_empty(self) -> None:
        if not self.queue and not self._underway:
            self._empty.set()

    def _next(self, worker: Working) -> None:
        """Give an idle worker something to do, if there is anything."""
        if worker in self._asked:
            self._telling[worker] = self._asked.pop(worker)
            self._underway[worker] = (self._now(), [])
            worker.digest(lambda reply: self._digested(worker, reply))
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
        self._stuck = False
        now = self._now()
        if isinstance(reply, IntegrityError) and reply.code == "serving.memory":
            self._again(batch, "wrote what cannot be read")
            worker.kill()
            return
        self._row_s = least_lately(self._row_s, (now - started) / sum(entry.rows for entry in batch))
        if self._crew.freed(worker):
            self._next(worker)  # before the answers are told: they take their time
        if isinstance(reply, AimassError):
            self._refuse(batch, reply)
        else:
            self._share_out(batch, reply, started, now)
        self._see_whether_empty()

    def _share_out(self, batch: list[Entry], reply: Mapping[str, Array], started: float, now: float) -> None:
        source = self.source
        for entry, outputs in outputs_of(batch, self.opened.outputs, reply):
            if isinstance(outputs, str):
                self._end(entry, InvalidOutput(source.model, source.version, outputs))
            else:
                self._end(entry, Answer(outputs, source.model, source.version, started - entry.since, now - started))

    def _end(self, entry: Entry, outcome: Answer | AimassError) -> None:
        if not entry.over:
            entry.over = True
            self._settle(self, entry, outcome)

    def _lost(self, worker: Working) -> None:
        """Its batch is given to another at once, each request alone: inference changes nothing, so it may be done
        twice, and one of them may be what the worker died of."""
        source = self.source
        _, batch = self._underway.pop(worker, (0.0, []))
        self._stuck = False
        log.warning("a worker of %s@%d ended; %d requests were with it", source.model, source.version, len(batch))
        for asked in (self._asked, self._telling):
            if worker in asked:
                _fail(asked.pop(worker), WorkerLost(source.model, source.version, "died"))
        self._again(batch, "died")
        if not self.alive:
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
        self._stuck = 0 < len(self._underway) == len(self.workers) and all(
            now - started >= settings.attempt_s for started, _ in self._underway.values()
        )
        for worker, (started, _) in list(self._underway.items()):
            if now - started >= settings.hang_s:
                log.warning("a worker of %s@%d hangs and is killed", source.model, source.version)
                worker.kill()
        self._crew.look(now)
        self._flush_soon()

    @property
    def waits(self) -> bool:
        """Whether anything is asked of it that time may run out for."""
        return bool(self.queue or self._underway)

    def _entries(self) -> list[Entry]:
        return [*self.queue, *(entry for _, batch in self._underway.values() for entry in batch)]

    def cleared(self) -> Iterable[Entry]:
        """All that still wait in the queue, which is then empty; what is over was answered elsewhere."""
        while self.queue:
            entry = self.queue.popleft()
            if not entry.over:
                entry.over = True
                yield entry

    async def digest(self) -> tuple[str, ...]:
        """The SHA-256 of the parameters in each worker's memory; raises `WorkerLost` where one ends before it tells."""
        told = [self._asked.setdefault(worker, self._loop.create_future()) for worker in self.workers]
        self._flush_soon()
        return tuple(digest for digest in await asyncio.gather(*map(asyncio.shield, told)) if digest is not None)

    def _left(self, worker: Working) -> None:
        if worker in self._asked:
            self._asked.pop(worker).set_result(None)  # another has its place, and may be asked

    def _digested(self, worker: Working, reply: Reply) -> None:
        del self._underway[worker]
        told = self._telling.pop(worker)
        if self._crew.freed(worker):
            self._next(worker)
        if isinstance(reply, AimassError):
            _fail(told, reply)
        elif not told.done():
            told.set_result(bytes(reply[DIGEST_NAME][0]).decode())
        self._see_whether_empty()

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
        await self._crew.close()
        lost = WorkerLost(self.source.model, self.source.version, "was stopped")
        for entry in self._entries():
            self._end(entry, lost)
        for told in (*self._asked.values(), *self._telling.values()):
            _fail(told, lost)
        self._empty.set()


def _fail(told: asyncio.Future[str | None], error: AimassError) -> None:
    if not told.done():
        told.set_exception(error)
