"""The shell around the run machines: it persists before it speaks, reduces in a thread, and goes on after a restart.

Each run has a lock; an event is applied, its consequences are stored in one transaction, and only then are partners
told. Whatever the process had not yet told when it died follows from the stored state when it starts again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.roster import Roster
from aimass.privacy.transcript import Chain, Receipt, check_head_seen, sign_head
from aimass.proto.clock import Clock
from aimass.proto.contribution import Contribution, Limits, check_contribution, decode_contribution
from aimass.proto.durable import Durability
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound, OutOfSpace, Refused, Unavailable, WrongState
from aimass.proto.plan import Plan, decode_plan, plan_digest
from aimass.proto.step import Step
from aimass.proto.storage import Blobs, Spool, map_file
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from aimass.proto.views import (
    ModelView,
    ParticipantState,
    ReceiptList,
    ReceiptView,
    RunState,
    RunSummary,
    RunView,
    SlotState,
)
from aimass.server import messages, runs, steps
from aimass.server.aggregation.sums import ModelStore, SpooledSums, sum_metrics, summarise
from aimass.server.commits import created_entry, step_commit, with_change
from aimass.server.drivers.base import Driver, StepResult, find_driver
from aimass.server.run_views import model_view, run_summary, run_view, step_view
from aimass.server.store import Commit, ModelRow, RunRow, Store

__all__ = ["SILENT", "Engine", "Outbox"]

log = logging.getLogger("aimass.server")
T = TypeVar("T")
_RETRY_S: Final = 5.0
_HEAD: Final = re.compile(r"[0-9a-f]{64}")


class Outbox(Protocol):
    """Where messages to partners go. Never blocks; a partner that is away gets everything when it connects."""

    def send(self, partner: str, message: pb.ToPartner) -> None:
        """Queue `message`."""
        ...

    def connected(self) -> frozenset[str]:
        """Who is here now."""
        ...


class _Silent:
    def send(self, partner: str, message: pb.ToPartner) -> None:
        """Drop it."""

    def connected(self) -> frozenset[str]:
        """Nobody."""
        return frozenset()


SILENT: Final[Outbox] = _Silent()


@dataclasses.dataclass(slots=True)
class _Live:
    """A run in memory: its row, its chain, its lock, and who watches it."""

    row: RunRow
    chain: Chain
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    watchers: set[asyncio.Event] = dataclasses.field(default_factory=set)
    heads: dict[str, tuple[Chain, bytes]] = dataclasses.field(default_factory=dict)


class Engine:
    """All runs of a server. Construct, `start`, feed, `stop`."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        spool: Spool,
        signer: Ed25519PrivateKey,
        roster: Callable[[], Roster],
        outbox: Outbox,
        clock: Clock,
        durability: Durability,
        limits: Limits,
    ) -> None:
        self._store, self._blobs, self._spool = store, blobs, spool
        self._signer, self._roster, self._outbox = signer, roster, outbox
        self._clock, self._durability, self._limits = clock, durability, limits
        self._models = ModelStore(blobs)
        self._runs: dict[str, _Live] = {}
        self._drivers: dict[str, Driver] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._submitting = asyncio.Lock()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="aimass-store")

    # ---------------------------------------------------------------- life

    async def start(self) -> tuple[str, ...]:
        """Load every run and go on with those that have not ended; returns their ids."""
        resumed = []
        for row in await self._on_disk(self._store.runs):
            live = _Live(row, await self._on_disk(self._store.chain, row.run_id))
            self._runs[row.run_id] = live
            for partner, chain, signature in await self._on_disk(self._store.heads, row.run_id):
                live.heads[partner] = chain, signature
            for stage in row.run.plan.stages:
                self._driver(stage.driver)
            if not row.run.state.final:
                resumed.append(row.run_id)
                self._resume(live)
        await self._on_disk(self._sweep_spool)
        return tuple(resumed)

    def _resume(self, live: _Live) -> None:
        run = live.row.run
        if run.state is RunState.WAITING:
            self._spawn(self._join_deadline(run.run_id))
        for state in run.open.values():
            if state.counted is not None:
                self._spawn(self._reduce(run.run_id, state.step.index, state.counted))
            else:
                self._spawn(self._step_deadline(run.run_id, state.step.index, state.deadline_at))

    def _sweep_spool(self) -> None:
        """Delete spooled contributions of steps that are no longer open."""
        wanted = {
            self._spool_key(live.row.run_id, state.step.index, partner)
            for live in self._runs.values()
            for state in live.row.run.open.values()
            for partner in state.slots
        }
        for key in list(self._spool.keys()):
            if key not in wanted:
                self._spool.discard(key)

    async def stop(self) -> None:
        """End all tasks; what is stored stays as it is."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._disk.shutdown(wait=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the engine failed", exc_info=error)

    async def _on_disk(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(function, *args))

    async def _patiently(self, what: str, function: Callable[..., T], *args: object) -> T:
        """Run on the disk thread; a full disk or a locked store waits and tries again, and says so."""
        while True:
            try:
                return await self._on_disk(function, *args)
            except (OutOfSpace, Unavailable) as error:
                log.warning("%s waits: %s", what, error)
                await self._clock.sleep(_RETRY_S)

    def _driver(self, name: str) -> Driver:
        if name not in self._drivers:
            self._drivers[name] = find_driver(name)
        return self._drivers[name]

    def _live(self, run_id: str) -> _Live:
        live = self._runs.get(run_id)
        if live is None:
            raise NotFound("no such run", code="run.unknown", value=run_id, cure="aimass run list shows all.")
        return live

    # ---------------------------------------------------------------- people

    async def submit(self, plan_bytes: bytes, key: str, owner: str) -> RunView:
        """Check and record a new run and invite its partners; the same key gives the same run.

        Raises `BadInput` for a plan or model that does not fit, `NotFound` for a driver or a model that is not here.
        """
        return await self._whole(self._submit(plan_bytes, key, owner))

    async def _submit(self, plan_bytes: bytes, key: str, owner: str) -> RunView:
        async with self._submitting:
            held = await self._on_disk(self._store.run_of_key, key)
            return await self.run_view(held or await self._create(plan_bytes, key, owner))

    async def _create(self, plan_bytes: bytes, key: str, owner: str) -> str:
        plan = decode_plan(plan_bytes)
        self._check_plan(plan)
        roster = self._roster()
        unknown = sorted(set(plan.cohort.partners) - set(roster.partners))
        names = plan.cohort.partners or roster.partners
        if unknown or not names or plan.cohort.quorum > len(names):
            raise BadInput(
                "the plan's cohort does not fit the roster",
                code="plan.cohort",
                value=", ".join(unknown) or plan.cohort.quorum,
                limit=", ".join(roster.partners) or "no partners",
                cure="Name enrolled partners and a quorum they can reach.",
            )
        run_id = secrets.token_hex(16)
        run = runs.Run(
            run_id=run_id,
            plan=plan,
            model=plan.model,
            participants={name: runs.Participant() for name in sorted(names)},
        )
        row = RunRow(run_id, owner, self._clock.now(), None, plan_bytes, plan_digest(plan_bytes), roster.digest, run)
        entry = created_entry(row)
        await self._on_disk(self._store.create, row, key, entry)
        live = self._runs[run_id] = _Live(row, entry.chain)
        log.info("run %s (%s) submitted by %s: %d partners invited", run_id[:8], plan.name, owner, len(names))
        for partner in names:
            self._outbox.send(partner, messages.invite(live.row))
        await self._send_history(live, names, 0)
        self._spawn(self._join_deadline(run_id))
        return run_id

    def _check_plan(self, plan: Plan) -> None:
        if not self._blobs.has(plan.model):
            raise NotFound(
                "the plan's first model is not here",
                code="plan.model",
                value=plan.model,
                cure="Upload it first; `aimass run submit` does.",
            )
        layout = Blob(self._blobs.open(plan.model)).layout
        for index, stage in enumerate(plan.stages):
            driver = self._driver(stage.driver)
            driver.check(plan, stage)
            context = runs.context(
                runs.Run(
                    run_id="0" * 32,
                    plan=plan,
                    model=plan.model,
                    stage=index,
                    participants={"probe": runs.Participant(state=ParticipantState.JOINED, key="probe")},
                )
            )
            proposed = driver.next(driver.start(context, plan.model), context)
            for step in proposed if isinstance(proposed, tuple) else ():
                driver.expects(step, layout)

    async def change(self, run_id: str, change: str, who: str) -> RunView:
        """Pause, resume or stop; raises `WrongState` where the run's state does not allow it."""
        if change not in ("pause", "resume", "stop"):
            raise BadInput("no such change", code="run.change", value=change, limit="pause, resume, stop")
        await self._apply(run_id, runs.Change(change=change, reason=f"{change} by {who}"))
        return await self.run_view(run_id)

    async def run_view(self, run_id: str) -> RunView:
        """A run in full."""
        live = self._live(run_id)
        stored = await self._on_disk(self._store.steps, run_id)
        return run_view(
            live.row, live.chain, stored, self._outbox.connected(), runs.progress(live.row.run, self._drivers)
        )

    def summaries(self, state: str, limit: int, owner: str | None = None) -> tuple[RunSummary, ...]:
        """Runs newest first, of one owner where one is named."""
        chosen = [
            live.row
            for live in reversed(self._runs.values())
            if (not state or live.row.run.state == state) and owner in (None, live.row.owner)
        ]
        return tuple(run_summary(row, runs.progress(row.run, self._drivers)) for row in chosen[: limit or 100])

    def owner(self, run_id: str) -> str:
        """Who submitted a run."""
        return self._live(run_id).row.owner

    async def watch(self, run_id: str) -> AsyncIterator[RunView]:
        """The run now, then at each change with the steps that changed, until it has ended."""
        live = self._live(run_id)
        changed = asyncio.Event()
        live.watchers.add(changed)
        seen: dict[int, bytes] = {}
        try:
            while True:
                changed.clear()
                view = await self.run_view(run_id)
                fresh = tuple(step for step in view.steps if seen.get(step.index) != canonical_json(step))
                seen |= {step.index: canonical_json(step) for step in fresh}
                yield msgspec.structs.replace(view, steps=fresh)
                if view.summary.state.final:
                    return
                await changed.wait()
        finally:
            live.watchers.discard(changed)

    async def receipts(self, run_id: str) -> ReceiptList:
        """Every receipt of a run."""
        self._live(run_id)
        rows = await self._on_disk(self._store.receipts, run_id)
        views = [(msgspec.json.decode(row.body, type=Receipt), row) for row in rows]
        return ReceiptList(
            run_id=run_id,
            receipts=tuple(
                ReceiptView(
                    step=row.step,
                    partner=row.partner,
                    outcome=receipt.outcome,
                    contribution=receipt.contribution,
                    body=row.body.decode(),
                    signature=row.signature.hex(),
                )
                for receipt, row in views
            ),
        )

    async def models(self, run_id: str = "", digest: str = "", limit: int = 100) -> tuple[ModelView, ...]:
        """Committed models, newest first, with the metrics of the evaluation that followed."""
        rows = await self._on_disk(self._store.models, run_id, digest, limit)
        return tuple([model_view(row, self._runs[row.run_id].row, await self._steps(row.run_id)) for row in rows])

    async def _steps(self, run_id: str) -> Sequence[Any]:
        return await self._on_disk(self._store.steps, run_id)

    # ---------------------------------------------------------------- partners

    async def partner_connected(self, partner: str, marks: Sequence[pb.RunMark]) -> None:
        """Bring a partner that has just connected to where its runs stand."""
        known = {mark.run_id: mark for mark in marks}
        for live in list(self._runs.values()):
            run = live.row.run
            mark = known.get(run.run_id)
            if partner not in run.participants or (run.state.final and mark is None):
                continue
            async with live.lock:
                await self._catch_up(live, partner, mark.entries if mark else 0)

    async def _catch_up(self, live: _Live, partner: str, seen: int) -> None:
        run = live.row.run
        if not run.state.final:
            self._outbox.send(partner, messages.invite(live.row))
        await self._send_history(live, [partner], seen)
        for row in await self._on_disk(self._store.receipts, run.run_id, partner, seen):
            self._outbox.send(partner, messages.receipt(row))
        if run.state.final:
            self._outbox.send(partner, messages.end_run(run))
        for state in run.open.values():
            slot = state.slots.get(partner)
            if slot is not None and slot.state is SlotState.ASKED and state.counted is None:
                self._ask(live, state, [partner])

    async def joined(self, partner: str, message: pb.Joined) -> None:
        """A partner takes part; it must have read the plan that was submitted."""
        live = self._live(message.run_id)
        if message.plan_digest != live.row.plan_digest:
            raise BadInput("the partner read another plan", code="run.plan_digest", value=message.plan_digest)
        member = live.row.run.participants.get(partner)
        if member is not None and member.state is ParticipantState.JOINED and member.key == message.participant:
            return
        event = runs.Joined(
            partner=partner, key=message.participant, device=message.device[:100], confinement=message.confinement[:100]
        )
        await self._apply(message.run_id, event)
        log.info("run %s: %s takes part as %s on %s", message.run_id[:8], partner, message.participant, message.device)

    async def declined(self, partner: str, message: pb.Declined) -> None:
        """A partner does not take part, waits for a person, or leaves."""
        reason = messages.reason_of(message.fault)
        log.info("run %s: %s declines: %s", message.run_id[:8], partner, reason)
        live = self._live(message.run_id)
        member = live.row.run.participants.get(partner)
        if member is not None and member.state is ParticipantState.JOINED:
            await self._apply(message.run_id, runs.Removed(partner=partner, reason=reason))
        else:
            pending = message.fault.code == "policy.approval_pending"
            await self._apply(message.run_id, runs.Declined(partner=partner, reason=reason, pending=pending))

    async def step_failed(self, partner: str, message: pb.StepFailed) -> None:
        """A partner cannot do a step."""
        reason = messages.reason_of(message.fault)
        log.info("run %s step %d: %s failed: %s", message.run_id[:8], message.step, partner, reason)
        failed = steps.Failed(partner=partner, reason=reason)
        await self._apply(message.run_id, runs.InStep(index=message.step, event=failed))

    async def head_seen(self, partner: str, message: pb.HeadSeen) -> None:
        """Keep a partner's signed word on the history, to be relayed to the others."""
        live = self._live(message.run_id)
        if not _HEAD.fullmatch(message.head):
            raise BadInput("not a transcript head", code="transcript.head", value=ascii(message.head))
        chain = Chain(message.entries, message.head)
        if partner in live.heads and live.heads[partner][0] == chain:
            return
        member = self._roster().by_name.get(partner)
        if member is None:
            return
        check_head_seen(message.run_id, chain, message.signature, member.identity, partner)
        await self._on_disk(self._store.save_head, message.run_id, partner, chain, message.signature)
        live.heads[partner] = chain, message.signature

    async def partners_removed(self, names: frozenset[str], reason: str) -> None:
        """Take revoked partners out of every run."""
        for live in list(self._runs.values()):
            for name in sorted(names & set(live.row.run.participants)):
                if not live.row.run.state.final:
                    await self._apply(live.row.run_id, runs.Removed(partner=name, reason=reason))

    async def partners_outside(self, members: frozenset[str], reason: str) -> None:
        """Take everybody who is not one of `members` out of every run, whenever they were removed."""
        held = {name for live in self._runs.values() for name in live.row.run.participants}
        await self.partners_removed(frozenset(held) - members, reason)

    # ---------------------------------------------------------------- contributions

    @staticmethod
    def _spool_key(run_id: str, step: int, partner: str) -> str:
        return f"{run_id}-{step}-{partner}"

    def spool_key(self, partner: str, header: SubmitHeader) -> str:
        """Where a contribution's bytes go, if this partner may send it now.

        Raises `NotFound`, `Refused`, or `WrongState` for a step that is not open or was answered.
        """
        run = self._live(header.run_id).row.run
        if partner not in run.participants:
            raise Refused("not a participant of this run", code="submit.stranger", value=partner)
        state = run.open.get(str(header.step))
        if state is None or state.counted is not None or partner not in state.slots:
            raise WrongState(
                "the step is not open",
                code="submit.step_closed",
                value=header.step,
                limit=", ".join(run.open) or "none",
            )
        slot = state.slots[partner]
        if slot.state is SlotState.STORED and slot.digest != header.digest:
            raise Conflict("another contribution is stored for this step", code="submit.twice", value=header.digest)
        if slot.state not in (SlotState.ASKED, SlotState.STORED):
            raise WrongState(
                f"this step's contribution is {slot.state}: {slot.reason}", code="submit.resolved", value=header.step
            )
        return self._spool_key(header.run_id, header.step, partner)

    def stored(self, partner: str, header: SubmitHeader) -> bool:
        """Whether exactly this contribution was acknowledged before, also in a step that has closed since."""
        live = self._runs.get(header.run_id)
        state = live.row.run.open.get(str(header.step)) if live else None
        slot = state.slots.get(partner) if state else None
        return slot is not None and slot.digest == header.digest

    async def accept(self, partner: str, header: SubmitHeader, path: Path) -> None:
        """Check a spooled contribution and record it; then it may be acknowledged.

        Raises the named reason for which it was refused; the refusal is recorded and the step goes on.
        """
        key = self.spool_key(partner, header)
        run = self._live(header.run_id).row.run
        step = run.open[str(header.step)].step
        try:
            await asyncio.to_thread(self._check, run, step, path)
        except AimassError as error:
            log.warning("run %s step %d: contribution of %s refused: %s", run.run_id[:8], step.index, partner, error)
            refused = steps.Refused(partner=partner, reason=f"{error.code}: {error.sentence()}")
            await self._apply(header.run_id, runs.InStep(index=header.step, event=refused))
            await self._on_disk(self._spool.discard, key)
            raise
        stored = steps.Stored(partner=partner, digest=header.digest)
        await self._apply(header.run_id, runs.InStep(index=header.step, event=stored))
        log.info("run %s step %d: %s stored, %d bytes", run.run_id[:8], step.index, partner, header.size)

    def _check(self, run: runs.Run, step: Step, path: Path) -> None:
        contribution = decode_contribution(Blob(map_file(path)))
        driver = self._drivers[run.plan.stages[run.stage].driver]
        layout = Blob(self._blobs.open(step.inputs[0])).layout
        check_contribution(contribution, driver.expects(step, layout), self._limits)

    def may_fetch(self, partner: str, run_id: str, digest: str) -> bool:
        """Whether a participant may read a blob: the inputs of the run's open steps."""
        live = self._runs.get(run_id)
        if live is None or partner not in live.row.run.participants:
            return False
        return any(digest in state.step.inputs_of(partner) for state in live.row.run.open.values())

    # ---------------------------------------------------------------- events

    async def _apply(self, run_id: str, event: runs.Event) -> None:
        await self._whole(self._apply_alone(run_id, event))

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """To its end, even where the call that asked for it is cut: memory and disk say the same."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _apply_alone(self, run_id: str, event: runs.Event) -> None:
        live = self._live(run_id)
        async with live.lock:
            await self._apply_locked(live, event, Commit())

    async def _apply_locked(self, live: _Live, event: runs.Event, extra: Commit) -> None:
        before = live.row.run
        run, actions = runs.apply(before, event, self._drivers, self._clock.now())
        if run == before and not actions:
            return
        change, chain, row = with_change(live.row, live.chain, run, actions, extra, self._clock.now())
        await self._patiently(f"run {run.run_id[:8]}", self._store.save, run, change)
        live.row, live.chain = row, chain
        await self._speak(live, actions, change)
        for watcher in live.watchers:
            watcher.set()

    async def _speak(self, live: _Live, actions: Sequence[runs.Action], change: Commit) -> None:
        run = live.row.run
        if change.entries:
            first = change.entries[0].chain.entries - 1
            await self._send_history(live, list(run.participants), first)
        for receipt in change.receipts:
            self._outbox.send(receipt.partner, messages.receipt(receipt))
        for action in actions:
            match action:
                case runs.Open():
                    state = run.open[str(action.step.index)]
                    self._spawn(self._step_deadline(run.run_id, action.step.index, state.deadline_at))
                    self._ask(live, state, list(action.step.participants))
                case runs.Reduce():
                    self._spawn(self._reduce(run.run_id, action.index, action.counted))
                case runs.TellClosed():
                    self._outbox.send(action.partner, messages.close_step(run.run_id, action))
                case runs.End():
                    log.info("run %s %s: %s", run.run_id[:8], action.state, action.reason)
                    for partner in run.participants:
                        self._outbox.send(partner, messages.end_run(run))
                case runs.Commit():
                    pass

    async def _send_history(self, live: _Live, partners: Sequence[str], first: int) -> None:
        entries = await self._on_disk(self._store.entries, live.row.run_id, first)
        signature = sign_head(self._signer, live.row.run_id, live.chain)
        message = messages.history(live.row.run_id, first, entries, signature)
        for partner in partners:
            self._outbox.send(partner, message)

    def _ask(self, live: _Live, state: steps.StepState, partners: Sequence[str]) -> None:
        for partner in partners:
            self._outbox.send(partner, messages.open_step(live.row.run_id, state, partner, live.heads))

    # ---------------------------------------------------------------- time and sums

    async def _join_deadline(self, run_id: str) -> None:
        live = self._live(run_id)
        due = live.row.created_at + live.row.run.plan.cohort.join_deadline_s
        await self._clock.sleep(max(0.0, due - self._clock.now()))
        if live.row.run.state is RunState.WAITING:
            await self._apply(run_id, runs.JoinTimeUp())

    async def _step_deadline(self, run_id: str, index: int, deadline_at: float) -> None:
        await self._clock.sleep(max(0.0, deadline_at - self._clock.now()))
        await self._apply(run_id, runs.InStep(index=index, event=steps.TimeUp()))

    async def _reduce(self, run_id: str, index: int, counted: Sequence[str]) -> None:
        live = self._live(run_id)
        async with live.lock:
            if str(index) not in live.row.run.open:
                return
            try:
                event, extra = await self._patiently(f"run {run_id[:8]}", self._receive, live, index, counted)
            except AimassError as error:
                log.error("run %s cannot go on: %s", run_id[:8], error)
                event, extra = runs.Change(change="fail", reason=f"{error.code}: {error.sentence()}"), Commit()
            await self._apply_locked(live, event, extra)
        for partner in counted:
            await self._on_disk(self._spool.discard, self._spool_key(run_id, index, partner))

    def _receive(self, live: _Live, index: int, counted: Sequence[str]) -> tuple[runs.Event, Commit]:
        """Reduce a closed step and let the driver make the next model; on the disk thread."""
        run = live.row.run
        state = run.open[str(index)]
        driver = self._drivers[run.plan.stages[run.stage].driver]
        ordered = sorted(counted, key=lambda name: run.participants[name].key.encode())
        contributions = [self._spooled(run.run_id, index, name) for name in ordered]
        sums, metrics = SpooledSums(contributions), sum_metrics(contributions)
        result = StepResult(state.step, tuple(counted), metrics, sums)
        after = driver.receive(runs.driver_state(run, driver), result, self._models, runs.context(run))
        model = driver.model(after)
        event = runs.Received(index=index, driver=canonical_json(after).decode(), model=model)
        figures = {name: item.figures for name, item in zip(ordered, contributions, strict=True)}
        view = step_view(
            state, self._clock.now(), model if model != run.model else "", metrics, figures, summarise(sums)
        )
        made: tuple[ModelRow, ...] = ()
        if model != run.model:
            size = len(self._blobs.open(model))
            made = (ModelRow(run.run_id, state.step.index, model, state.step.round, size, self._clock.now()),)
        return event, step_commit(run, live.chain, state, view, made, self._signer)

    def _spooled(self, run_id: str, index: int, partner: str) -> Contribution:
        return decode_contribution(Blob(map_file(self._spool.path(self._spool_key(run_id, index, partner)))))
