"""Watches one model that is served: the thin shell around its decisions.

Four tasks: one asks the registry, one ticks and hands on what requests did, one takes events one after the other and
does what they decide, and one at a time works on a version that is coming. The dispatcher never waits for any of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, Unavailable, WrongState
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.layout import Reference
from aimass.proto.serving_views import AuditLine, WatchView
from aimass.server.serving.dispatch.seam import Dispatching
from aimass.server.serving.watching.audit_log import AuditLog
from aimass.server.serving.watching.figures import Figures
from aimass.server.serving.watching.handling import Handling
from aimass.server.serving.watching.inquiry import Inquiry
from aimass.server.serving.watching.last_good import LastGood
from aimass.server.serving.watching.machine import decide
from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.observer import Observer, with_kinds
from aimass.server.serving.watching.releases import Releases, release_of
from aimass.server.serving.watching.retraining import Retrainer
from aimass.server.serving.watching.rows import RowWatch
from aimass.server.serving.watching.sample import Sample
from aimass.server.serving.watching.settings import WatchSettings
from aimass.server.serving.watching.state import (
    Action,
    Away,
    Event,
    Examine,
    Fetch,
    Keep,
    Load,
    Promoted,
    Release,
    Remember,
    Retrain,
    Retrained,
    Seen,
    Shift,
    Stage,
    Started,
    State,
    Tell,
    Tick,
    Try,
    Unload,
)
from aimass.server.serving.watching.views import WatchMeters, view_of

__all__ = ["Surroundings", "Watcher"]

log = logging.getLogger("aimass.serving")
_TICK_S: Final = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What all watchers of a process share. What they write has a thread of its own, `disk`: a store that hangs keeps
    the others. A request that takes `attempt_s` is late."""

    dispatcher: Dispatching
    audit: AuditLog
    meters: WatchMeters
    settings: WatchSettings
    retrainer: Retrainer | None
    clock: Clock
    monotonic: Callable[[], float]
    rng: random.Random
    disk: Executor
    attempt_s: float
    device: str = "cpu"

    def moment(self) -> Moment:
        """Now."""
        return Moment(self.clock.now(), self.monotonic())


class Watcher:
    """Of one model. It taps the dispatcher from the start, and decides while `run` runs."""

    def __init__(self, reference: Reference, releases: Releases, last_good: LastGood, around: Surroundings) -> None:
        self.model = reference.name
        self._releases, self._last_good, self._around = releases, last_good, around
        self._state = State(str(reference))
        self._observer = Observer(self.model, around.settings.drift.sample, around.attempt_s, around.rng)
        self._handling = Handling(
            self.model,
            releases,
            around.dispatcher,
            around.settings,
            around.device,
            around.monotonic,
        )
        self._rows = RowWatch(around.settings.drift)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._inquiry = Inquiry(releases, around.settings.registry, around.clock, around.rng, self._answered)
        self._heard = 0
        """Answers of the registry that were seen to."""
        self._changed = asyncio.Event()
        """Set at each change, for those who wait for it then."""
        self._wrong: AimassError | None = None
        """Why the last thing that failed did, unless it may be otherwise in a moment."""
        self._work: tuple[Release, asyncio.Task[None]] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        around.dispatcher.tap(self._observer.tap, named=False)

    # ---------------------------------------------------------------- for others

    async def run(self) -> None:
        """Until it is cancelled. What is in memory then is the dispatcher's to end."""
        memory, kept = await asyncio.to_thread(lambda: (self._last_good.memory(), self._releases.kept()))
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._happens(Started(memory, None if kept is None else release_of(kept)))
            tasks.create_task(self._take_events())
            tasks.create_task(self._inquiry.run())
            tasks.create_task(self._tick())

    def begin_anew(self) -> None:
        """Before `run` runs again: what was in memory is no more."""
        self._state, self._wrong, self._heard = State(self._state.target), None, 0

    async def started(self) -> None:
        """Return when the model answers, or when it cannot for the time being because the registry is away.

        Raises what is wrong with the registry's answer or the version that it names, where no other can serve instead.
        """
        while self._state.serving is None and not self._is_stuck():
            await self._changed.wait()
        if self._wrong is not None and self._state.serving is None:
            raise self._wrong

    def _is_stuck(self) -> bool:
        """Whether nothing is on its way although the registry was asked."""
        return self._state.coming is None and self._heard > 0

    async def look_now(self) -> None:
        """Ask the registry without waiting for the next turn, and see to it that what it names is loaded and tried.

        Raises what is wrong with its answer, and `WrongState` where the version that it names is refused.
        """
        answers = self._heard + (2 if self._inquiry.under_way else 1)  # an answer that is on its way may be too old
        self._inquiry.now()
        while self._heard < answers or self._is_preparing():
            await self._changed.wait()
        promoted = self._state.promoted
        if self._state.away_since is not None:
            raise self._wrong or Unavailable("the registry does not answer", code="registry.away", value=self.model)
        refused = [one for one in self._state.memory.refused if promoted and one.release == promoted.release]
        if refused:
            raise WrongState(
                "the version that the registry names is refused",
                code="serving.refused",
                value=f"{self.model}@{refused[0].release.number}: {refused[0].reason}",
                cure="aimass serve audit tells the story. Promote another version, or the same again.",
            )

    def _is_preparing(self) -> bool:
        coming = self._state.coming
        return coming is not None and coming.stage is not Stage.CANARY

    def version(self, number: int) -> ModelVersion | None:
        """What the registry says of a version in memory."""
        return self._handling.version(number)

    async def caught_up(self) -> None:
        """Return when all that has happened is decided and told."""
        await self._events.join()

    def view(self) -> WatchView:
        """How things stand."""
        return view_of(self._state, self._rows.last, self._rows.not_watched)

    # ---------------------------------------------------------------- events

    async def _take_events(self) -> None:
        while True:
            event = await self._events.get()
            try:
                await self._happens(event)
            except Exception:  # a fault of ours must not leave what serves unwatched
                log.exception("%s: %s could not be handled", self.model, type(event).__name__)
            finally:
                self._events.task_done()

    async def _happens(self, event: Event) -> None:
        """Decide, and do what was decided; what takes long goes on beside, and comes back as an event.

        Requests are shifted before it is told: the disk may be slow.
        """
        state, actions = decide(self._state, event, self._around.settings, self._around.moment())
        try:
            for action in actions:
                await self._do(action)
            await self._tell([action for action in actions if isinstance(action, Tell)])
        finally:
            self._state = state  # who looks sees what has been done
            self._heard += isinstance(event, Promoted | Away)
            self._changed.set()
            self._changed = asyncio.Event()

    async def _do(self, action: Action) -> None:
        around = self._around
        match action:
            case Tell():
                pass  # when the rest is done
            case Shift():
                shares = {release.number: share for release, share in action.shares}
                around.dispatcher.share(self.model, shares, action.fallback.number if action.fallback else None)
            case Fetch() | Load() | Try():
                self._work_on(action)
            case Unload():
                self._let_go(action.release)
            case Examine():
                self._beside(self._examine(action.release))
            case Keep():
                self._beside(self._keep(action.release))
            case Remember():
                await self._on_disk(self._last_good.remember, action.memory)
            case Retrain():
                self._beside(self._retrain(action))

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None  # noqa: S101  (nothing is decided before `run`)
        return self._tasks.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault of ours in one piece of work must not end the watch."""
        try:
            await work
        except Exception:
            log.exception("%s: a piece of work failed", self.model)

    async def _on_disk(self, write: Callable[[Any], None], what: Any) -> None:
        """Write; a full disk does not stop serving."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._around.disk, write, what)
        except (AimassError, OSError) as error:
            self._around.meters.failed.add()
            log.error("%s: what was decided could not be written: %s", self.model, error)

    async def _tell(self, told: Sequence[Tell]) -> None:
        for one in told:
            self._around.meters.told.add(self.model, one.kind)
            log.info("%s: %s", self._state.target, one.text)
        if told:
            await self._on_disk(self._around.audit.append, [self._line(one) for one in told])

    def _line(self, told: Tell) -> AuditLine:
        return AuditLine(
            at=self._around.clock.now(),
            target=self._state.target,
            kind=told.kind,
            text=told.text,
            version=told.release.number if told.release else None,
            figures={name: float(value) for name, value in told.figures.items()},
        )

    # ---------------------------------------------------------------- what is coming, and what goes

    def _work_on(self, action: Fetch | Load | Try) -> None:
        before = self._work[1] if self._work is not None else None
        _give_up(before)
        if isinstance(action, Fetch):
            self._handling.forget_all_but(self._state.in_memory)
        self._work = (action.release, self._beside(self._step(action, before)))

    async def _step(self, action: Fetch | Load | Try, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})  # a load that was given up is cleared away before the next one
        event, error = await self._handling.step(action)
        self._note(error)
        self._events.put_nowait(event)

    def _note(self, error: AimassError | None) -> None:
        self._wrong = None if isinstance(error, Unavailable) else error or self._wrong

    def _let_go(self, release: Release) -> None:
        if self._work is not None and self._work[0] == release:
            _give_up(self._work[1])
        self._beside(self._unload(release))

    async def _unload(self, release: Release) -> None:
        try:
            await self._around.dispatcher.unload(self.model, release.number)
        except AimassError as error:  # it never came into memory
            log.debug("%s %s was not unloaded: %s", self.model, release, error)

    async def _keep(self, release: Release) -> None:
        try:
            await asyncio.to_thread(self._releases.keep, release)
            await asyncio.to_thread(self._last_good.clear, self._wanted())
        except (AimassError, OSError) as error:
            log.warning("%s %s is not kept for a start without the registry: %s", self.model, release, error)

    def _wanted(self) -> set[str]:
        """Parameters that stay on this disk: what is in memory or on its way, and what was good before."""
        coming = (self._state.coming.release,) if self._state.coming else ()
        releases = (*self._state.in_memory, *self._state.memory.good, *coming)
        found = [self._releases.known(release) for release in releases]
        return {one.version.parameters.digest for one in found if one is not None}

    async def _examine(self, release: Release) -> None:
        examined = await self._handling.examine(release)
        if examined is not None:
            self._events.put_nowait(examined)

    async def _retrain(self, action: Retrain) -> None:
        if self._around.retrainer is None:  # the settings see to it that there is one
            return
        try:
            run = await asyncio.to_thread(self._around.retrainer.submit, self.model, action.release)
        except (AimassError, OSError) as error:
            self._events.put_nowait(Retrained(action.release, wrong=str(error)))
        else:
            self._events.put_nowait(Retrained(action.release, run))

    # ---------------------------------------------------------------- the registry, and time

    def _answered(self, answer: Promoted | Away, error: AimassError | None) -> None:
        """The registry's answer, or that there is none."""
        if error is not None:
            self._note(error)
        self._events.put_nowait(answer)

    async def _tick(self) -> None:
        while True:
            await self._around.clock.sleep(_TICK_S)
            figures, sampled = self._observer.taken()
            if figures:
                self._events.put_nowait(Seen(await self._with_answers(figures, sampled)))
            self._events.put_nowait(Tick())
            await self._look_at_rows(sampled)

    async def _with_answers(
        self, figures: Mapping[int, Figures], sampled: Mapping[int, Sample]
    ) -> Mapping[int, Figures]:
        """While a version has a share: also what it and the one that serves answered."""
        coming = self._state.coming
        version = None if coming is None else self._handling.version(coming.release.number)
        if coming is None or coming.stage is not Stage.CANARY or version is None or version.schema is None:
            return figures
        try:
            return await asyncio.to_thread(with_kinds, figures, version.schema, sampled)
        except Exception:  # whatever it answered, the rest of its figures count
            log.exception("%s: answers could not be compared", self.model)
            return figures

    async def _look_at_rows(self, sampled: Mapping[int, Sample]) -> None:
        serving = self._state.serving
        prepared = None if serving is None else self._handling.prepared.get(serving.release.digest)
        if serving is None or prepared is None:
            return
        rows, now = sampled.get(serving.release.number), self._around.monotonic()
        try:
            found = await asyncio.to_thread(self._rows.look, serving.release, prepared, rows, now)
        except Exception:  # whatever was sent as a row, the next ones are looked at
            log.exception("%s: rows could not be looked at", self.model)
            return
        for event in found:
            self._events.put_nowait(event)


def _give_up(work: asyncio.Task[None] | None) -> None:
    """Cancel it once: a second time would cut off how it clears away what it began."""
    if work is not None and not work.cancelling():
        work.cancel()
