"""Drivers of offline runs that this server sees to: each a process of its own, started, watched, and started again.

A driver keeps all that it needs in the run's store, so that killing it loses a step at most. What it has come to is
read from there, and recorded as any offline run is that reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from aimass.proto.clock import Clock
from aimass.proto.durable import make_folder
from aimass.proto.errors import AimassError, NotFound, OutOfSpace, Unavailable
from aimass.proto.logs import about, subject
from aimass.proto.storage import Blobs
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.ending import to_its_end
from aimass.server.engine import Engine
from aimass.server.live import Live
from aimass.server.offline.order import FIRST, WORK
from aimass.server.offline.reporter import report_of
from aimass.server.reports import Reports
from aimass.server.simulation.folder import Committed
from aimass.server.store_threads import StoreThreads

__all__ = ["LOG", "Course", "Launches", "Supervisor"]

log = logging.getLogger("aimass.server")
LOG: Final = "driver.log"
_LOOK_S: Final = 2.0
_GRACE_S: Final = 10.0
_AGAIN_S: Final = 5.0
_LAST_WORDS: Final = 2_000
_SPARE_THREADS: Final = 4
"""Beside one for each driver: who pauses a run whose store hangs leaves a thread there until it answers."""


class Course(Protocol):
    """What a run has come to in its store. All calls block."""

    def steps(self, first: int) -> Sequence[Committed]:
        """Its steps from index `first` on."""
        ...

    def model(self, digest: str) -> memoryview:
        """A model that is kept there; raises `NotFound`."""
        ...

    def end(self) -> tuple[RunState, str] | None:
        """How it ended and why; None while it goes on."""
        ...


class Launches(Protocol):
    """How a driver is started."""

    def __call__(self, run: runs.Run, offline: runs.Offline, folder: Path) -> Sequence[str]:
        """The command of the run's driver, which goes on where the run stands; `folder` is its own on this machine."""
        ...


class Supervisor:
    """All drivers of a server; `Programs` of its engine, as it is told of every change of a run."""

    def __init__(
        self,
        engine: Engine,
        reports: Reports,
        blobs: Blobs,
        folder: Path,
        launches: Launches,
        course: Callable[[str, Path], Course],
        clock: Clock,
        at_once: int = 1,
    ) -> None:
        """`course` opens what the run has come to whose state is in a store, with its folder on this machine."""
        self._engine, self._reports, self._blobs, self._clock = engine, reports, blobs, clock
        self._folder, self._launches, self._course = folder.absolute(), launches, course  # a driver works elsewhere
        self._turns = asyncio.Semaphore(at_once)
        self._threads = StoreThreads(_SPARE_THREADS + at_once, "drivers")
        self._tended: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    def changed(self, live: Live) -> None:
        """A run was stored, or is taken up after a restart: its driver begins, or ends."""
        run = live.row.run
        if run.offline is None or run.offline.job is None or self._stopped:
            return
        task = self._tended.get(run.run_id)
        if run.state is RunState.RUNNING and task is None:
            self._tended[run.run_id] = self._engine.spawn(self._tend(live))
        elif run.state is not RunState.RUNNING and task is not None and task is not asyncio.current_task():
            task.cancel()
        elif run.state.final and task is None and (self._folder / run.run_id / WORK).is_dir():
            self._engine.spawn(asyncio.to_thread(self._clear, run.run_id))

    def stop(self) -> None:
        """No driver begins any more; those that are there end with the engine's tasks."""
        self._stopped = True

    def _clear(self, run_id: str) -> None:
        """Forget what was fetched for a run that has ended: thousands of runs would fill the disk."""
        shutil.rmtree(self._folder / run_id / WORK, ignore_errors=True)
        (self._folder / run_id / FIRST).unlink(missing_ok=True)

    async def _tend(self, live: Live) -> None:
        """Until the run pauses or ends. Resumed while its driver was still ending, it begins again."""
        run_id = live.row.run_id
        try:
            async with self._turns:
                while live.row.run.state is RunState.RUNNING:
                    await self._once(live)
        except asyncio.CancelledError:
            log.info("the driver was stopped", extra=subject(run_id))
            raise
        finally:
            del self._tended[run_id]
            self.changed(live)

    async def _once(self, live: Live) -> None:
        """One life of a driver: what it comes to is recorded while it lives, and what it died of after it."""
        run_id, offline = live.row.run_id, live.row.run.offline
        assert offline is not None  # noqa: S101  (of these alone there are drivers)
        assert offline.job is not None  # noqa: S101
        folder = make_folder(self._folder / run_id)
        course = await self._threads.run(self._course, offline.job.out, folder / WORK)
        try:
            code = await self._driven(live, self._launches(live.row.run, offline, folder), folder, course)
            await self._look(live, course)
            if (ended := await self._threads.run(course.end)) is not None:
                await self._reports.end(run_id, *ended)
                return
            reason = f"exit code {code}: {_last_line(folder / LOG)}"
        except AimassError as error:
            reason = f"{error.code}: {error.sentence()}"
        except Exception as error:
            log.exception("a driver could not be seen to", extra=subject(run_id))
            reason = f"{type(error).__name__}: {error}"
        about(log, run_id).warning("the driver died: %s", reason)
        await self._engine.apply(run_id, runs.DriverDied(reason=reason[:_LAST_WORDS]))
        await self._clock.sleep(_AGAIN_S)

    async def _driven(self, live: Live, command: Sequence[str], folder: Path, course: Course) -> int:
        """Start the driver and look at its store now and then until it ends; its exit code."""
        with (folder / LOG).open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
            )
        about(log, live.row.run_id).info("driver %d started", process.pid)
        try:
            while process.returncode is None:
                await self._moment(process)
                await self._look(live, course)
            return process.returncode
        finally:
            await to_its_end(_end(process))

    async def _moment(self, process: asyncio.subprocess.Process) -> None:
        """Until it is time to look, or the process ends."""
        waiting = {asyncio.create_task(work) for work in (_over(process), self._clock.sleep(_LOOK_S))}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _look(self, live: Live, course: Course) -> None:
        """Record what the run has come to since. What cannot be read or recorded now is later."""
        try:
            for step in await self._threads.run(course.steps, live.row.run.next_index):
                await self._record(live.row.run_id, step, course)
        except (Unavailable, OutOfSpace) as error:
            about(log, live.row.run_id).warning("what it came to is recorded later: %s", error)

    async def _record(self, run_id: str, step: Committed, course: Course) -> None:
        report = report_of(step)
        if step.model:
            try:
                await self._threads.run(lambda: self._blobs.put([course.model(step.model)]))
            except NotFound:  # a later step has superseded it: the record has its figures alone
                report = report_of(step, sent=False)
        await self._reports.step(run_id, report)


async def _over(process: asyncio.subprocess.Process) -> None:
    await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask it to stop, then kill it and what it started, and wait for it."""
    for number, patience_s in ((signal.SIGINT, _GRACE_S), (signal.SIGKILL, None)):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience_s)


def _last_line(path: Path) -> str:
    """The last line that a driver wrote."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_WORDS))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
