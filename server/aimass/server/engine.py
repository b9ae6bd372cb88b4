"""The shell around the run machines: it persists before it speaks, reduces in a thread, and goes on after a restart.

Events of a run take turns: those that wait together are applied in order, their consequences are stored in one
transaction, and only then are partners told. Whatever the process had not yet told when it died follows from the
stored state when it starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.proto.clock import Clock, Stopwatch
from aimass.proto.errors import (
    AimassError,
    BadInput,
    InternalError,
    NotFound,
    OutOfSpace,
    Stopped,
    Unavailable,
    WrongState,
)
from aimass.proto.logs import about, subject
from aimass.proto.storage import Blobs, Spool
from aimass.proto.traffic import Moved
from aimass.proto.views import RunState, SlotState
from aimass.server import messages, run_machine, runs, steps
from aimass.server.committer import Committer
from aimass.server.drivers.base import Driver, find_driver
from aimass.server.live import Live, Outbox, Programs, SecretSums
from aimass.server.manifests import with_manifest
from aimass.server.meters import ServerMeters
from aimass.server.reduction import reduce_step
from aimass.server.resumption import hindrance
from aimass.server.store import Commit, HeadRow, Store
from aimass.server.turns import Extra, Group, Turn
from aimass.server.voice import Voice

__all__ = ["MODEL_KEY", "Engine", "InstalledDrivers", "spool_key"]

log = logging.getLogger("aimass.server")
T = TypeVar("T")
_RETRY_S: Final = 5.0
_GRACE_S: Final = 120.0


MODEL_KEY: Final = "model-"


def spool_key(run_id: str, step: int, partner: str) -> str:
    """Where the spool keeps a contribution."""
    return f"{run_id}-{step}-{partner}"


class InstalledDrivers(Mapping[str, Driver]):
    """Installed drivers by name, each loaded when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Driver] = {}

    def __getitem__(self, name: str) -> Driver:
        if name not in self._loaded:
            self._loaded[name] = find_driver(name)
        return self._loaded[name]

    def __iter__(self) -> Any:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


class Engine:
    """All runs of a server. Construct, `start`, feed, `stop`."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        spool: Spool,
        signer: Ed25519PrivateKey,
        outbox: Outbox,
        clock: Clock,
        drivers: Mapping[str, Driver] | None = None,
        meters: ServerMeters | None = None,
    ) -> None:
        self.clock = clock
        self.meters = meters or ServerMeters()
        self.after_commit: Callable[[str], Coroutine[Any, Any, None]] | None = None
        """Called with a run's id after each commit that made a model or another blob, or that needs one no more:
        housekeeping hangs here."""
        self.secret: SecretSums | None = None
        """Who makes sums in secret; set before `start`."""
        self.programs: Programs | None = None
        """Who runs what drivers listen to; set before `start`."""
        self.drivers: Mapping[str, Driver] = InstalledDrivers() if drivers is None else drivers
        self._store, self._blobs, self._spool = store, blobs, spool
        self._signer, self._outbox = signer, outbox
        self.voice = Voice(outbox, signer)
        self.meters.transfers.of_run = self._moved
        self._runs: dict[str, Live] = {}
        self._inherited: frozenset[str] = frozenset()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._committer = Committer(self._next, self._save, self._saved, clock, self.spawn)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="aimass-store")
        self._sums = ThreadPoolExecutor(1, thread_name_prefix="aimass-sums")

    # ---------------------------------------------------------------- life

    async def start(self) -> tuple[str, ...]:
        """Load every run and go on with those that have not ended; returns their ids.

        One that cannot go on ends as failed, with the reason, and hinders no other.
        """
        going_on = []
        for row in await self.on_disk(self._store.runs):
            live = Live(row, await self.on_disk(self._store.chain, row.run_id))
            for partner, chain, signature in await self.on_disk(self._store.heads, row.run_id):
                live.heads[partner] = chain, signature
            live.moved = live.moved_stored = await self.on_disk(self._store.moved, row.run_id)
            self._runs[row.run_id] = live
            if not row.run.state.final:
                going_on.append(live)
        await self.on_disk(self._sweep_spool)
        if self.secret is not None:
            await self.secret.sweep()
        resumed = []
        for live in going_on:
            if (hindered := await self.on_disk(hindrance, live.row.run, self.drivers, self._blobs.has)) is not None:
                await self.give_up(live, hindered)
                continue
            await self._ask_for_lost(live)
            self._resume(live)
            resumed.append(live.row.run_id)
        return tuple(resumed)

    async def give_up(self, live: Live, error: AimassError) -> None:
        """End a run that cannot go on here, with the reason; one that has ended meanwhile stays as it is."""
        about(log, live.row.run_id).error("cannot go on: %s", error, exc_info=error.__cause__)
        with contextlib.suppress(WrongState):
            change = runs.Change(change="fail", reason=f"{error.code}: {error.sentence()}")
            await self.apply(live.row.run_id, change)

    async def _ask_for_lost(self, live: Live) -> None:
        """Partners keep what they sent until it is counted: what this disk has lost, they send again."""
        run_id = live.row.run.run_id
        for index, partner in sorted(live.row.run.acknowledged()):
            if not await self.on_disk(self._spool.has, spool_key(run_id, index, partner)):
                about(log, run_id, index, partner).warning("the contribution is not on the disk: it is asked again")
                await self.apply(run_id, runs.InStep(index=index, event=steps.Lost(partner=partner)))

    def _resume(self, live: Live) -> None:
        """Go on with a run. A deadline that passed while the server was away is no partner's fault: there is grace."""
        run = live.row.run
        if self.programs is not None:
            self.programs.changed(live)
        if run.state is RunState.WAITING:
            self.spawn(self._join_deadline(run.run_id, resumed=True))
        if run.unheard:
            about(log, run.run_id).info("restored: goes on when all of these were heard: %s", ", ".join(run.unheard))
            self.spawn(self._hearing_deadline(run.run_id))
        for state in run.open.values():
            if state.counted is not None:
                if run.unheard:
                    continue
                self.spawn(self._reduce(run.run_id, state.step.index, state.counted))
            else:
                deadline_at = self._resumed(state.deadline_at, state.patience_s)
                live.deadlines[state.step.index] = self.spawn(
                    self._step_deadline(run.run_id, state.step.index, deadline_at)
                )
                if self.secret is not None and state.attempts is not None:
                    for circle in state.attempts.circles:
                        if circle.members:
                            self.spawn(self.secret.form(live, state.step.index, circle.number))

    def _resumed(self, deadline_at: float, deadline_s: float) -> float:
        """When a deadline is due after a restart: after some grace, and no later than it would be if it began now.

        The clock may have been set back while the server was away.
        """
        now = self.clock.now()
        return min(max(deadline_at, now + min(deadline_s, _GRACE_S)), now + deadline_s)

    def _sweep_spool(self) -> None:
        """Forget contributions to steps that are no longer open; a first model may still be on its way.

        What an earlier process took in may have changed on the disk since: it is verified before it is summed.
        """
        wanted = {
            spool_key(live.row.run_id, index, partner)
            for live in self._runs.values()
            for index, partner in live.row.run.contributions()
        }
        self._spool.sweep(lambda key: key in wanted or key.startswith(MODEL_KEY))
        self._inherited = frozenset(wanted)

    async def stop(self) -> None:
        """End all tasks; what is stored stays as it is."""
        if self.secret is not None:
            self.secret.stop()
        if self.programs is not None:
            self.programs.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._sums, self._disk):  # a disk that is slow now must not stop the loop that others end on
            await asyncio.to_thread(pool.shutdown, wait=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work`, which ends with the engine; its failure is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the engine failed", exc_info=error)

    # ---------------------------------------------------------------- for the desks

    def live(self, run_id: str) -> Live:
        """A run; raises `NotFound`."""
        live = self._runs.get(run_id)
        if live is None:
            raise NotFound("no such run", code="run.unknown", value=run_id, cure="aimass run list shows all.")
        return live

    @property
    def identity(self) -> bytes:
        """The key that this server's signatures stand under."""
        return self._signer.public_key().public_bytes_raw()

    def find(self, run_id: str) -> Live | None:
        """A run, if there is one."""
        return self._runs.get(run_id)

    def lives(self) -> list[Live]:
        """All runs, oldest first."""
        return list(self._runs.values())

    async def on_disk(self, function: Callable[..., T], *args: object) -> T:
        """Call `function` in the one thread that has the store: what is asked first is done first."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(function, *args))

    async def patiently(self, run_id: str, function: Callable[..., T], *args: object) -> T:
        """`on_disk`, again and again while the disk is full or the store is locked; it says that it waits."""
        return await self._patiently(run_id, self._disk, function, *args)

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """To its end, even where the call that asked for it is cut: memory and disk say the same."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def begin(self, live: Live) -> None:
        """Take up a run that was just recorded: invite its participants and wait for them."""
        self._runs[live.row.run_id] = live
        names = list(live.row.run.participants)
        for partner in names:
            self._outbox.send(partner, messages.invite(live.row))
        self.voice.history(live, names, 0, await self.on_disk(self._store.entries, live.row.run_id, 0))
        self.spawn(self._join_deadline(live.row.run_id))

    def record(self, live: Live) -> None:
        """Take up the record of an offline run: nobody is invited, and nothing is waited for."""
        self._runs[live.row.run_id] = live
        if self.programs is not None:
            self.programs.changed(live)

    async def reported(self, run_id: str, event: runs.Reported, extra: Extra) -> runs.Run:
        """Apply a step that an offline run reports, with what makes what is stored of it."""
        return await self._committer.in_turn(self.live(run_id), Turn(event, extra))

    async def change(self, run_id: str, change: str, who: str) -> None:
        """Pause, resume or stop; raises `WrongState` where the run's state does not allow it."""
        if change not in ("pause", "resume", "stop"):
            raise BadInput("no such change", code="run.change", value=change, limit="pause, resume, stop, prune")
        await self.apply(run_id, runs.Change(change=change, reason=f"{change} by {who}"))

    async def readmit(self, run_id: str, partner: str, who: str) -> None:
        """Ask a partner again that was excluded; raises `WrongState` where it is not."""
        await self.apply(run_id, runs.Readmitted(partner=partner))
        about(log, run_id, partner=partner).info("readmitted by %s", who)

    # ---------------------------------------------------------------- events

    async def apply(self, run_id: str, event: runs.Event, extra: Commit | None = None) -> runs.Run:
        """Apply `event`, store what follows from it, and `extra`, then say it to whom it concerns; the run as it is
        then.

        Who stops waiting for it does not stop it.
        """
        return await self._committer.in_turn(self.live(run_id), Turn(event, extra or Commit()))

    async def _save(self, live: Live, done: Group) -> None:
        """One transaction; what partners signed of the history lately goes with it, and what moved since the last."""
        heads = tuple(HeadRow(partner, *live.heads[partner]) for partner in sorted(live.fresh_heads))
        moved = None if live.moved == live.moved_stored else live.moved
        commit, run = dataclasses.replace(done.commit, heads=heads, moved=moved), done.row.run

        def save() -> None:
            finished = run.state is RunState.FINISHED and commit.ended_at is not None
            self._store.save(run, with_manifest(self._store, self._blobs, done.row, commit) if finished else commit)

        await self._patiently(run.run_id, self._disk, self.meters.store_seconds.timed(save))
        live.moved_stored = moved or live.moved_stored
        live.fresh_heads -= {head.partner for head in heads if live.heads[head.partner][0] == head.chain}

    def _moved(self, run_id: str, moved: Moved) -> None:
        if (live := self._runs.get(run_id)) is not None:
            live.moved += moved

    async def _saved(self, live: Live, done: Group) -> None:
        """It is the run's state from now on; partners are told, and what was sent and is wanted no more is deleted."""
        before = live.row.run
        gone = before.contributions() - done.row.run.contributions()
        live.row, live.chain = done.row, done.chain
        self.meters.changed(done.row.run, done.actions, done.commit.steps)
        live.touch(view.index for view in done.commit.steps)
        self._speak(live, done.actions, done.commit)
        if self.programs is not None:
            self.programs.changed(live)
        if self.after_commit is not None and (done.commit.models or _lets_go(before, done.row.run)):
            live.let_go |= before.named
            self.spawn(self.after_commit(before.run_id))
        try:
            if gone:
                await self.on_disk(self._discard, live.row.run_id, sorted(gone))
        except OSError:
            log.exception("what is not needed any more was not deleted", extra=subject(live.row.run_id))
        finally:
            for watcher in live.watchers:
                watcher.set()

    def _discard(self, run_id: str, gone: Sequence[tuple[int, str]]) -> None:
        for index, partner in gone:
            self._spool.discard(spool_key(run_id, index, partner))

    def _next(self, run: runs.Run, event: runs.Event) -> tuple[runs.Run, tuple[runs.Action, ...]]:
        """What the machine says; a driver that cannot say it ends its run, and no other."""
        try:
            here = self._outbox.connected() if run.plan.cohort.connected else None
            return run_machine.apply(run, event, self.drivers, self.clock.now(), here)
        except AimassError:
            if isinstance(event, runs.Change | runs.Readmitted | runs.Reported):
                raise
            log.exception("cannot go on", extra=subject(run.run_id))
        except Exception:
            log.exception("cannot go on", extra=subject(run.run_id))
        reason = "driver.failed: the driver could not propose a step; the server's log says why"
        return run_machine.apply(run, runs.Change(change="fail", reason=reason), self.drivers, self.clock.now())

    async def _patiently(self, run_id: str, pool: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
        """Run in `pool`; a full disk or a locked store waits and tries again, and says so."""
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, partial(function, *args))
            except (OutOfSpace, Unavailable) as error:
                about(log, run_id).warning("waits: %s", error)
                await self.clock.sleep(_RETRY_S)

    def _speak(self, live: Live, actions: Sequence[runs.Action], change: Commit) -> None:
        """Nothing here waits or reads: what was stored is said whole, and what it asks for is begun."""
        run = live.row.run
        for index in [index for index in live.deadlines if str(index) not in run.open]:
            live.deadlines.pop(index).cancel()
        if self.secret is not None and (ending := self.secret.closed(run.run_id, run.open)) is not None:
            self.spawn(ending)
        self.voice.changed(live, change)
        for action in actions:
            match action:
                case runs.Open():
                    self._open(live, action.step.index)
                case runs.Reduce():
                    self.spawn(self._reduce(run.run_id, action.index, action.counted))
                case runs.TellClosed() | runs.TellCarried() | runs.TellStanding():
                    self.voice.tell(live, action)
                case runs.Prolong():
                    about(log, run.run_id, action.index).info("waits longer for its quorum")
                    self._await_deadline(live, action.index)
                case runs.Form() | runs.Ask() | runs.Gone():
                    self._in_secret(live, action)
                case runs.Void():
                    about(log, run.run_id, action.closed.step.index).warning("no result: %s", action.reason)
                case runs.End():
                    about(log, run.run_id).info("%s: %s", action.state, action.reason)
                    live.let_go.update(action.named)
                    self.voice.ended(live)
                case runs.Commit():
                    pass

    def _in_secret(self, live: Live, action: runs.Form | runs.Ask | runs.Gone) -> None:
        assert self.secret is not None  # noqa: S101  (no run with such steps is taken without it)
        state = live.row.run.open.get(str(action.index))
        match action:
            case runs.Form():
                self.spawn(self.secret.form(live, action.index, action.number))
            case runs.Gone():
                self.spawn(self.secret.gone(live.row.run_id, action))
            case runs.Ask():
                if state is not None:
                    self.voice.ask(live, state.step, state.deadline_at, action.partners)

    def _open(self, live: Live, index: int) -> None:
        """Ask whoever is still to answer: a later event of the same commit may have closed the step."""
        state = self._await_deadline(live, index)
        if state is not None:
            asked = [name for name in state.step.participants if state.slots[name].state is SlotState.ASKED]
            self.voice.ask(live, state.step, state.deadline_at, asked)

    def _await_deadline(self, live: Live, index: int) -> steps.StepState | None:
        """Wait for a step's deadline as it is now, and for no earlier one; the step, unless it is over."""
        if (earlier := live.deadlines.pop(index, None)) is not None and earlier is not asyncio.current_task():
            earlier.cancel()
        state = live.row.run.open.get(str(index))
        if state is None or state.counted is not None:
            return None
        live.deadlines[index] = self.spawn(self._step_deadline(live.row.run_id, index, state.deadline_at))
        return state

    # ---------------------------------------------------------------- time and sums

    async def _join_deadline(self, run_id: str, *, resumed: bool = False) -> None:
        live = self.live(run_id)
        deadline_s = live.row.run.plan.cohort.join_deadline_s
        due = live.row.created_at + deadline_s
        if resumed:
            due = self._resumed(due, deadline_s)
        await self.clock.sleep(max(0.0, due - self.clock.now()))
        if live.row.run.state is RunState.WAITING:
            await self.apply(run_id, runs.JoinTimeUp())

    async def _hearing_deadline(self, run_id: str) -> None:
        """A restored run ends where a partner stays away that may hold a newer history."""
        live = self.live(run_id)
        await self.clock.sleep(live.row.run.plan.cohort.step_deadline_s)
        if live.row.run.unheard:
            away = ", ".join(live.row.run.unheard)
            reason = f"run.restored_unheard: not heard of since the restore, and may hold a newer history: {away}"
            await self.apply(run_id, runs.Behind(reason=reason))

    async def _step_deadline(self, run_id: str, index: int, deadline_at: float) -> None:
        await self.clock.sleep(max(0.0, deadline_at - self.clock.now()))
        await self.apply(run_id, runs.InStep(index=index, event=steps.TimeUp(at=self.clock.now())))

    async def _reduce(self, run_id: str, index: int, counted: Sequence[str]) -> None:
        live = self.live(run_id)
        try:
            async with live.reducing:
                if str(index) not in live.row.run.open:
                    return  # given up, or its run has ended, while it waited for its turn
                event, extra = await self._reduced(live, index, counted)
                await self._committer.in_turn(live, Turn(event, extra, of_step=index))
        except Exception as error:  # a step that is closing has no deadline: nobody else would ever end it
            log.exception("cannot go on", extra=subject(run_id, index))
            what = "a step's result could not be recorded; the server's log says why"
            await self.give_up(live, InternalError(what, code="server.commit", value=type(error).__name__))

    async def _reduced(self, live: Live, index: int, counted: Sequence[str]) -> tuple[runs.Event, Extra]:
        """What a closed step comes to, or the end of its run; what it reads changes only where nobody wants it."""
        run = live.row.run
        state = run.open.get(str(index))
        keys = {name: spool_key(run.run_id, state.origin(name).index, name) for name in counted} if state else {}
        paths = {name: self._spool.path(key) for name, key in keys.items()}
        verify = frozenset(name for name, key in keys.items() if key in self._inherited)
        driver = self.drivers[run.plan.stages[run.stage].driver]

        def reduce() -> tuple[runs.Event, Extra]:
            if state is None or str(index) not in live.row.run.open:
                raise Stopped("the step ended while it waited to be summed", code="run.ended")
            return reduce_step(
                run, live.chain, state, paths, verify, driver, self._blobs, self._signer, self.clock.now(), secure
            )

        watch, step_log = Stopwatch(), about(log, run.run_id, index)
        try:
            secure = None
            if self.secret is not None and state is not None and state.attempts is not None:
                secure = await self.secret.inputs(live, state)
            done = await self._patiently(run.run_id, self._sums, self.meters.sum_seconds.timed(reduce))
            watch.lap("summed")
            step_log.info("%s %d contributions", watch, len(counted))
        except AimassError as error:
            step_log.error("cannot go on: %s", error)
            reason = f"{error.code}: {error.sentence()}"
        except Exception:
            log.exception("cannot go on", extra=subject(run.run_id, index))
            reason = "driver.failed: the step could not be reduced; the server's log says why"
        else:
            return done
        return runs.Change(change="fail", reason=reason), Commit()


def _lets_go(before: runs.Run, after: runs.Run) -> bool:
    """Whether blobs may be superfluous now that nobody made a model: the driver names others, or the run is over."""
    return after.state.final or (after.driver != before.driver and after.named != before.named)
