"""Flower apps at the server: one worker for each run that goes on, what it asks of the engine, and how it ends.

The worker of a run is started when the run goes on, also after a restart or a pause, and killed when it does not. What
it asks is an event of its run, stored like any other; what it is answered comes from the run's journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from aimass.proto.apps import find, run_config
from aimass.proto.errors import AimassError, BadInput, IntegrityError, InternalError, OutOfSpace, WrongState
from aimass.proto.frames import sealed_view
from aimass.proto.logs import about, subject
from aimass.proto.plan import Plan
from aimass.proto.storage import Blobs
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.ending import to_its_end
from aimass.server.engine import Engine
from aimass.server.flower.journal import Asked, Exchange, Finished, Past, State, Words
from aimass.server.flower.process import LOG, WorkerProcess, start_worker
from aimass.server.flower.replay import last_told
from aimass.server.flower.speech import (
    Answer,
    Ask,
    Begin,
    Broken,
    Failure,
    Fetch,
    Keep,
    Kept,
    NoMore,
    Over,
    Refusal,
    Reply,
    There,
    Who,
)
from aimass.server.live import Live, Outbox
from aimass.server.settings import Limits
from aimass.server.store import Commit, ModelRow

__all__ = ["FlowerDesk"]

log = logging.getLogger("aimass.server")
_PROBE_S: Final = 60.0
_LAST_WORDS_S: Final = 5.0
_QUIET_S: Final = 600.0
_RETURN_S: Final = 35.0
"""A daemon waits up to half a minute between two tries to connect."""
_LOOK_S: Final = 0.1
_PROBES_AT_ONCE: Final = 4
_PROBES_KEPT: Final = 20
_PROBED: Final = "0" * 32
_OF_THE_MACHINE: Final = frozenset(
    ("app.absent", "app.changed", "flower.died", "flower.disk", "flower.missing", "flower.series", "flower.start")
)
"""Faults that are put right here, without a word to the app: the run pauses, and can be resumed."""


@dataclasses.dataclass(slots=True, eq=False)
class _Tended:
    """A run whose worker is there, or begins or ends. `changed` is set, and replaced, when the run has changed.
    `awaited` are those that an app which goes on was told of last."""

    task: asyncio.Task[None]
    changed: asyncio.Event
    kept: Counter[str]
    awaited: frozenset[str]
    ending: bool = False


class FlowerDesk:
    """All workers of a server."""

    def __init__(self, engine: Engine, blobs: Blobs, outbox: Outbox, home: Path, data: Path, limits: Limits) -> None:
        """Apps are installed below `home`; workers get folders below `data`, and are held to the partners' `limits`."""
        self._engine, self._blobs, self._outbox = engine, blobs, outbox
        self._home, self._folder, self._max_bytes = home, data / "flower", limits.max_model_bytes
        self._tended: dict[str, _Tended] = {}
        self._states: dict[str, tuple[str, State]] = {}
        self._probing = asyncio.Semaphore(_PROBES_AT_ONCE)
        self._stopped = False

    # ---------------------------------------------------------------- from the engine

    def changed(self, live: Live) -> None:
        """A run was stored, or resumed: its worker begins, hears of it, or ends."""
        run = live.row.run
        if run.plan.task.kind != "app" or self._stopped:
            return
        tended = self._tended.get(run.run_id)
        wanted = run.state is RunState.RUNNING and self._state(run).result is None
        if tended is None and wanted:
            task = self._engine.spawn(self._tend(live))
            self._tended[run.run_id] = _Tended(task, asyncio.Event(), Counter(), last_told(self._state(run)))
        elif tended is not None:
            tended.changed.set()
            tended.changed = asyncio.Event()
            if not wanted and not tended.ending and tended.task is not asyncio.current_task():
                tended.ending = True
                tended.task.cancel()
        if run.state.final:
            self._states.pop(run.run_id, None)

    def kept(self, digest: str) -> bool:
        """Whether a worker has sent this blob and is yet to say what for: nobody may delete it."""
        return any(tended.kept[digest] for tended in self._tended.values())

    def stop(self) -> None:
        """No worker begins any more; those that are there end with the engine's tasks."""
        self._stopped = True

    def _state(self, run: runs.Run) -> State:
        held = self._states.get(run.run_id)
        if held is None or held[0] != run.driver:
            held = run.driver, decode_json(State, run.driver.encode(), "the state of a Flower app")
            self._states[run.run_id] = held
        return held[1]

    # ---------------------------------------------------------------- a run's worker

    async def _tend(self, live: Live) -> None:
        """Until the run pauses or ends, or its app does."""
        run_id = live.row.run.run_id
        try:
            worker = await self._start(live)
            watching = asyncio.create_task(self._watch(live))
            try:
                await self._serve(live, worker)
            finally:
                watching.cancel()
                await to_its_end(worker.end())
        except Exception as error:  # noqa: BLE001  (nobody else would end the run)
            await self._failed(live, error)
        finally:
            self._tended.pop(run_id, None)
            self.changed(live)  # it may have been paused and resumed while its worker ended

    async def _start(self, live: Live) -> WorkerProcess:
        run = live.row.run
        state = self._state(run)
        about(log, run.run_id).info("the Flower app %s begins, after %d exchanges", run.plan.task.name, len(state.past))
        begin = await asyncio.to_thread(self._begin, run.plan, run.run_id, sorted(run.participants), state)
        return await self._with_model(begin, run.plan, self._folder / run.run_id)

    async def _with_model(self, begin: Begin, plan: Plan, folder: Path) -> WorkerProcess:
        """A worker that has the plan's first model."""
        model = await self._engine.on_disk(self._blobs.descriptor, plan.model)
        try:
            return await start_worker(begin, model, folder)
        finally:
            os.close(model)

    async def _watch(self, live: Live) -> None:
        """Warn, once, where nothing happens for long and it is the app that everybody waits for."""
        run_id = live.row.run.run_id
        while True:
            changed = self._tended[run_id].changed
            waits = {asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._engine.clock.sleep(_QUIET_S))}
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
            run = live.row.run
            if not changed.is_set() and not self._state(run).asked:
                about(log, run_id).warning(
                    "the Flower app has asked nothing for %g min, and no step is open: it computes, hangs, or waits "
                    "for more partners than the %d of %d that are connected. %s says what it does; if it hangs, mend "
                    "it and submit it again after `aimass run stop`",
                    _QUIET_S / 60,
                    len(self._outbox.connected().intersection(run.joined)),
                    len(run.participants),
                    self._log(run_id),
                )
                return

    def _begin(self, plan: Plan, run_id: str, partners: Sequence[str], state: State, *, probe: bool = False) -> Begin:
        """Raises where the app is not installed with the plan's digest, or has not the keys of its configuration."""
        app = find(self._home, plan.task.name, plan.task.digest)
        return Begin(
            folder=str(app.folder),
            server_app=app.server_app,
            run_id=run_id,
            seed=plan.seed,
            config=run_config(app, plan.stages[0].options),
            rounds=int(plan.stages[0].options["rounds"]),
            partners=tuple(partners),
            secure=plan.secure is not None,
            parent=os.getpid(),
            state=state,
            probe=probe,
        )

    async def _serve(self, live: Live, worker: WorkerProcess) -> None:
        """Answer until the app is over. Raises the error with which it failed."""
        run_id, waiting = live.row.run.run_id, set[asyncio.Task[None]]()

        def later(answer: Coroutine[Any, Any, None]) -> None:
            task = asyncio.create_task(self._to_an_end(live, answer))
            waiting.add(task)
            task.add_done_callback(waiting.discard)

        try:
            async for request, descriptors in worker.requests():
                match request:
                    case Fetch():
                        later(self._fetch(live, worker, request))
                    case Who():
                        later(self._who(live, worker, request))
                    case Over():
                        await self._over(live, request.model)
                        return
                    case Broken():
                        raise self._broken(run_id, request)
                    case _:
                        await worker.answer(await self._answer(live, request, descriptors))
            raise await self._died(run_id, worker)
        finally:
            for task in waiting:
                task.cancel()

    async def _to_an_end(self, live: Live, answer: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for an answer that comes later, so what hinders it is told here."""
        try:
            await answer
        except Exception as error:  # noqa: BLE001  (the app would wait for ever)
            await self._failed(live, error)

    async def _who(self, live: Live, worker: WorkerProcess, request: Who) -> None:
        """Who is there. An app that goes on is told it once those are back that it was told of before, or have had the
        time: it is this server that was away, and they connect one after the other. Else what an app draws by chance
        would hang on who was the quickest."""
        tended, waited_s = self._tended[live.row.run.run_id], 0.0
        while waited_s < _RETURN_S and not tended.awaited & set(live.row.run.joined) <= self._outbox.connected():
            await self._engine.clock.sleep(_LOOK_S)
            waited_s += _LOOK_S
        tended.awaited = frozenset()
        here = self._outbox.connected()
        names = tuple(name for name in live.row.run.joined if name in here)
        await worker.answer(There(id=request.id, names=names))

    async def _answer(self, live: Live, request: Keep | Ask, descriptors: tuple[int, ...]) -> Answer:
        """What is refused is the app's own affair: it may go on without."""
        run = live.row.run
        try:
            match request:
                case Keep():
                    await self._keep(run.run_id, request.digest, descriptors)
                case Ask():
                    await self._ask(live, request.number, request.exchange)
        except AimassError as error:
            return Refusal(id=request.id, code=error.code, what=error.sentence())
        return Kept(id=request.id)

    async def _keep(self, run_id: str, digest: str, descriptors: tuple[int, ...]) -> None:
        """Counted as kept before it is stored: what is deleted meanwhile is deleted before that, or not at all."""
        (descriptor,) = descriptors
        view = sealed_view(descriptor, self._max_bytes)
        self._tended[run_id].kept[digest] += 1
        found = await self._engine.patiently(run_id, self._blobs.put, [view])
        if found != digest:
            raise IntegrityError("a blob is not what the worker says", code="flower.digest", value=found, limit=digest)

    async def _ask(self, live: Live, number: int, exchange: Exchange) -> None:
        run = live.row.run
        strangers, blobs = set(exchange.partners) - set(run.participants), exchange.blobs
        if strangers or not await self._engine.on_disk(lambda: all(self._blobs.has(digest) for digest in blobs)):
            raise BadInput("an exchange of strangers, or of what is not here", code="flower.exchange", value=number)
        after = self._state(await self._say(live, Asked(number=number, exchange=exchange)))
        if number >= len(after.past) + len(after.asked):
            raise BadInput("an exchange out of order", code="flower.order", value=number, limit=len(after.past))
        self._tended[run.run_id].kept -= Counter(blobs)

    async def _over(self, live: Live, model: str) -> None:
        """The run is done, with this model on record."""
        run = live.row.run
        state, made = self._state(run), tuple[ModelRow, ...]()
        if (last := model or state.model) != run.model:
            size = await self._engine.on_disk(lambda: len(self._blobs.open(last)))
            now = self._engine.clock.now()
            made = (ModelRow(run.run_id, run.next_index, last, state.trained, size, now),)
        await self._say(live, Finished(model=last), Commit(models=made))

    async def _say(self, live: Live, words: Words, extra: Commit | None = None) -> runs.Run:
        """Have the driver hear something, before a step is summed or after: what comes of the sum takes the place of
        the state that the sum began with."""
        async with live.reducing:
            said = runs.Said(words=canonical_json(words).decode())
            return await self._engine.apply(live.row.run.run_id, said, extra)

    # ---------------------------------------------------------------- what became of an exchange

    async def _fetch(self, live: Live, worker: WorkerProcess, request: Fetch) -> None:
        past = await self._past(live, request)
        if past is not None:
            await self._tell(worker, request.id, past)
        await worker.answer(NoMore(id=request.id, over=past is not None))

    async def _past(self, live: Live, request: Fetch) -> Past | None:
        while True:
            changed, past = self._tended[live.row.run.run_id].changed, self._state(live.row.run).past
            if request.number < len(past):
                return past[request.number]
            if not request.wait:
                return None
            await changed.wait()

    async def _tell(self, worker: WorkerProcess, request_id: int, past: Past) -> None:
        for partner, digest in past.replies.items():
            descriptor = await self._engine.on_disk(self._blobs.descriptor, digest)
            await worker.answer(Reply(id=request_id, partner=partner), (descriptor,))
        for partner, reason in past.failures.items():
            await worker.answer(Failure(id=request_id, partner=partner, reason=reason))
        if past.sum is not None:
            model = past.sum.model
            with_it = (await self._engine.on_disk(self._blobs.descriptor, model),) if model else ()
            await worker.answer(Reply(id=request_id, partner=past.sum.node, sum=past.sum), with_it)

    # ---------------------------------------------------------------- ends

    async def _failed(self, live: Live, error: Exception) -> None:
        """A run cannot be served: it pauses or ends, by what stands in its way."""
        if isinstance(error, AimassError):
            await self._set_down(live, error)
        elif isinstance(error, OSError):
            await self._set_down(live, _of_the_disk(error))
        else:
            log.error("the worker of a Flower app cannot be served", exc_info=error, extra=subject(live.row.run.run_id))
            what = "the worker of a Flower app could not be served; the server's log says why"
            await self._engine.give_up(live, InternalError(what, code="flower.desk", value=type(error).__name__))

    async def _set_down(self, live: Live, error: AimassError) -> None:
        """Pause a run that this machine stands in the way of, so that it goes on where it was; end any other."""
        run_id = live.row.run.run_id
        if error.code not in _OF_THE_MACHINE and not isinstance(error, OutOfSpace):
            await self._engine.give_up(live, error)
            return
        about(log, run_id).error("paused: %s", error, exc_info=error.__cause__)
        with contextlib.suppress(WrongState):  # it was paused, or has ended, meanwhile
            reason = f"{error.code}: {error.sentence()} Then: aimass run resume."
            await self._engine.apply(run_id, runs.Change(change="pause", reason=reason))

    def _broken(self, run_id: str, broken: Broken) -> AimassError:
        """A fault of the app in words of ours: its own stay in its log."""
        if broken.what:
            return InternalError(broken.what, code=broken.code)
        return InternalError(
            "the Flower app failed", code=broken.code, value=broken.place, cure=f"{self._log(run_id)} has its words."
        )

    async def _died(self, run_id: str, worker: WorkerProcess) -> AimassError:
        code = await worker.ended(_LAST_WORDS_S)
        return InternalError(
            "the worker of the Flower app ended without a word",
            code="flower.died",
            value="it closed its link" if code is None else f"exit code {code}",
            cure=f"A negative code is a signal, -9 often for want of memory. {self._log(run_id)} has its last words.",
        )

    def _log(self, run_id: str) -> str:
        return f"data/{self._folder.name}/{run_id}/{LOG} in the server's folder"

    # ---------------------------------------------------------------- before a run

    async def probe(self, plan: Plan, partners: Sequence[str]) -> None:
        """Run the app of a plan until it asks its first exchange, which is not done.

        Raises what stands in the way: it is not installed, it fails, it waits for more partners than there are, or its
        strategy does not go with the plan's secure sums. One that has not asked in a minute may do so later.
        """
        async with self._probing:
            await self._probe(plan, partners)

    async def _probe(self, plan: Plan, partners: Sequence[str]) -> None:
        begin = await asyncio.to_thread(self._begin, plan, _PROBED, partners, State(model=plan.model), probe=True)
        place = f"probe/{secrets.token_hex(4)}"
        await self._engine.on_disk(_forget, self._folder / "probe")
        worker = await self._with_model(begin, plan, self._folder / place)
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._probed(worker, partners, place)
        except TimeoutError:
            log.info("the Flower app %s asked nothing in %g s: it is taken as it is", plan.task.name, _PROBE_S)
        finally:
            await to_its_end(worker.end())

    async def _probed(self, worker: WorkerProcess, partners: Sequence[str], place: str) -> None:
        async for request, _ in worker.requests():
            match request:
                case Who():
                    await worker.answer(There(id=request.id, names=tuple(partners)))
                case Ask():
                    return
                case Over():
                    raise BadInput("the Flower app ends without asking any partner anything", code="flower.nothing")
                case Broken():
                    error = self._broken(place, request)
                    raise BadInput(error.what, code=error.code, value=error.value, cure=error.cure)
        error = await self._died(place, worker)
        raise BadInput(error.what, code=error.code, value=error.value, cure=error.cure)


def _of_the_disk(error: OSError) -> AimassError:
    what = "the files of a Flower app's run cannot be read or written here"
    fault = InternalError(what, code="flower.disk", value=error.strerror or type(error).__name__)
    fault.__cause__ = error
    return fault


def _forget(probes: Path) -> None:
    """Of the logs of earlier probes the last stay."""
    old = sorted(probes.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)[_PROBES_KEPT:]
    for path in old:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
