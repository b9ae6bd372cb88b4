"""The shell around one run's session machine: decides, works, gates and sends, and persists before it acts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from aimass.client import session as machine
from aimass.client.child import Worker, start_child
from aimass.client.journal import JournalLine
from aimass.client.partner import Partner
from aimass.client.policy import Admit, Pending, Refuse, decide
from aimass.client.release import Released, release
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase, Session
from aimass.client.worker_protocol import Order
from aimass.privacy.transcript import Chain, check_head_seen, check_history, check_receipt, sign_head_seen
from aimass.proto.clock import Clock
from aimass.proto.durable import append_line_unless_held
from aimass.proto.errors import (
    AimassError,
    IntegrityError,
    OutOfSpace,
    Refused,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from aimass.proto.grpc_env import grpc
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import Plan, decode_plan, plan_digest
from aimass.proto.rng import stream_seed
from aimass.proto.step import Step
from aimass.proto.storage import map_file
from aimass.proto.task import TaskSource, locate
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, SubmitHeader, fetch, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import decode_canonical_json
from aimass.proto.wire import to_fault

__all__ = ["ActiveRun", "StartWorker", "Uplink"]

log = logging.getLogger("aimass.client")
T = TypeVar("T")
_RETRY_S: Final = 1.0
_MAX_BLOB: Final = 8 << 30
_ALL_LEVELS: Final = frozenset({"process", "files", "network"})
StartWorker = Callable[[TaskSource, ShardManifest, Partner], Awaitable[Worker]]


class Uplink(Protocol):
    """The way to the server: messages now or never, and transfers over whatever connection there is."""

    def send(self, message: pb.FromPartner) -> None:
        """Queue a message for the current connection; dropped where there is none (the server asks again)."""
        ...

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        """Run `use` over the connection, as soon as there is one; raises `Unavailable` when that connection ends."""
        ...


async def start_worker(source: TaskSource, manifest: ShardManifest, partner: Partner) -> Worker:
    """The real child."""
    return await start_child(
        source, manifest, partner.folder / "data", partner.secret_file, partner.folder / "state" / "scratch"
    )


class ActiveRun:
    """One run at this partner. All events of a run are handled in order, by its owner, the daemon."""

    def __init__(
        self, run_id: str, partner: Partner, folder: RunFolder, uplink: Uplink, clock: Clock, start: StartWorker
    ) -> None:
        self.run_id = run_id
        self._partner, self._folder, self._uplink, self._clock, self._start = partner, folder, uplink, clock, start
        self.session: Session | None = folder.load()
        self._plan: Plan | None = decode_plan(folder.plan()) if self.session else None
        self._worker: Worker | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # ---------------------------------------------------------------- the invitation

    async def invited(self, invite: pb.Invite) -> None:
        """Decide, once; a repeated invitation repeats the answer. A plan that differs from the first one is refused."""
        digest = plan_digest(invite.plan)
        held = self.session
        if held is not None and held.phase in (Phase.LEFT, Phase.ENDED, Phase.DECLINED):
            if held.phase is not Phase.ENDED:
                self._decline(WrongState(held.reason, code=held.reason.partition(":")[0] or "session.left"))
            return
        if held is not None and held.plan_digest != digest:
            self._apply(machine.Forked(reason="session.plan_changed: the server sent another plan for this run"))
            return
        try:
            phase, error = await self._decide(invite)
        except AimassError as refusal:
            phase, error = Phase.DECLINED, refusal
        if held is None:
            self._folder.save_plan(invite.plan)
        reason = f"{error.code}: {error.sentence()}" if error else ""
        self.session = self.session or Session(
            run_id=self.run_id, plan_digest=digest, roster_digest=invite.roster_digest, phase=Phase.PENDING
        )
        self._apply(machine.Answer(phase=phase, reason=reason))
        if error is not None:
            log.warning("run %s: %s: %s", self.run_id[:8], phase, reason)
            self._decline(error)
            return
        self._join(digest)

    def _join(self, digest: str) -> None:
        assert self._worker is not None  # noqa: S101  (decided just now)
        opened = self._worker.opened
        log.info(
            "run %s: takes part on %s, confined: %s", self.run_id[:8], opened.device, ", ".join(opened.confinement)
        )
        self._uplink.send(
            pb.FromPartner(
                joined=pb.Joined(
                    run_id=self.run_id,
                    plan_digest=digest,
                    participant=self._manifest().participant,
                    device=opened.device,
                    confinement="+".join(opened.confinement),
                )
            )
        )

    async def _decide(self, invite: pb.Invite) -> tuple[Phase, AimassError | None]:
        plan = self._plan = decode_plan(invite.plan)
        roster = self._partner.keeper.roster
        if invite.roster_digest != roster.digest and (self.session is None or self.session.phase is not Phase.JOINED):
            return Phase.PENDING, WrongState(
                "the run pins another roster than the one approved here",
                code="policy.approval_pending",
                value=invite.roster_digest[:16],
                limit=roster.digest[:16],
                cure="aimass client roster show, then approve.",
            )
        participants = len(plan.cohort.partners or roster.partners)
        first = self._judged(plan, participants, _ALL_LEVELS)
        if first is not None:
            return first
        source = locate(plan.task.name)
        if source.digest != plan.task.digest:
            raise Refused(
                "the installed task is not the plan's",
                code="task.digest",
                value=source.digest,
                limit=plan.task.digest,
                cure="Install the same version of the task's package on both sides.",
            )
        if self._worker is None:
            self._worker = await self._start(source, self._manifest(), self._partner)
        second = self._judged(plan, participants, frozenset(self._worker.opened.confinement))
        if second is not None:
            await self._stop_worker()
            return second
        return Phase.JOINED, None

    def _judged(self, plan: Plan, participants: int, levels: frozenset[str]) -> tuple[Phase, AimassError] | None:
        match decide(self._partner.policy, plan, participants, levels):
            case Admit():
                return None
            case Pending(reason):
                return Phase.PENDING, WrongState(reason, code="policy.approval_pending", cure="aimass client pending.")
            case Refuse(code, reason, value, limit):
                return Phase.DECLINED, Refused(reason, code=code, value=value, limit=limit)

    def _manifest(self) -> ShardManifest:
        assert self._plan is not None  # noqa: S101  (there is no run without a plan)
        return self._partner.manifest(self._partner.policy.schemas[self._plan.data_schema])

    def _decline(self, error: AimassError) -> None:
        self._uplink.send(pb.FromPartner(declined=pb.Declined(run_id=self.run_id, fault=to_fault(error))))

    # ---------------------------------------------------------------- messages

    def opened(self, message: pb.OpenStep) -> None:
        """The server asks for a step: look at what the others saw, then work."""
        if self.session is None:
            return
        for head in message.heads:
            if (fork := self._contradicts(head)) is not None:
                self._apply(machine.Forked(reason=fork))
                return
        step = decode_canonical_json(Step, message.step, "the step")
        if self._partner.settings.name not in step.participants:
            raise WrongState("a step that does not name this partner", code="session.not_invited", value=step.index)
        if step.quorum < self._partner.policy.smallest_cohort:
            raise Refused("a step with too small a quorum", code="policy.quorum", value=step.quorum)
        self._apply(machine.Opened(step=step))

    def _contradicts(self, head: pb.HeadSeen) -> str | None:
        """Why another partner's signed head shows that the server tells two histories, if it does."""
        member = self._partner.keeper.roster.by_name.get(head.partner)
        if member is None or self.session is None:
            return None
        check_head_seen(head.run_id, Chain(head.entries, head.head), head.signature, member.identity, head.partner)
        seen = self.session.heads
        if head.run_id == self.run_id and 0 < head.entries <= len(seen) and seen[head.entries - 1] != head.head:
            return f"transcript.two_histories: {head.partner} holds another head after {head.entries} entries"
        return None

    def history(self, message: pb.History) -> None:
        """More of the transcript: it must extend what is held, and the server must have signed it."""
        if self.session is None:
            return
        held = self.session.chain
        try:
            key = self._partner.keeper.roster.server.identity
            chain = check_history(self.run_id, held, message.first, message.entries, message.signature, key)
        except (IntegrityError, Unauthenticated) as error:
            self._apply(machine.Forked(reason=f"{error.code}: {error.sentence()}"))
            return
        fresh = message.entries[held.entries - message.first :]
        if chain != held:
            self._apply(machine.HistoryGrew(heads=tuple(hashlib.sha256(entry).hexdigest() for entry in fresh)))
        signature = sign_head_seen(self._partner.keys.identity, self.run_id, chain)
        self._uplink.send(
            pb.FromPartner(
                head_seen=pb.HeadSeen(
                    run_id=self.run_id,
                    partner=self._partner.settings.name,
                    entries=chain.entries,
                    head=chain.head,
                    signature=signature,
                )
            )
        )

    def receipt(self, message: pb.Receipt) -> None:
        """Keep a receipt that the server signed and that fits the transcript that is held."""
        receipt = check_receipt(message.body, message.signature, self._partner.keeper.roster.server.identity)
        if self.session is None or receipt.partner != self._partner.settings.name:
            raise Unauthenticated("a receipt of somebody else", code="receipt.partner", value=receipt.partner)
        seen = self.session.heads
        if not 0 < receipt.entries <= len(seen) or seen[receipt.entries - 1] != receipt.head:
            self._apply(machine.Forked(reason="receipt.head: a receipt speaks of another transcript"))
            return
        line = message.body + b" " + message.signature.hex().encode()
        append_line_unless_held(
            self._partner.folder / "receipts.jsonl", line, self._partner.durability, "client.receipt"
        )
        log.info("run %s step %d: %s", self.run_id[:8], receipt.step, receipt.outcome)
        self._apply(machine.GotReceipt(receipt=receipt))

    def closed(self, message: pb.CloseStep) -> None:
        """The server does not want a step's work any more."""
        log.info("run %s step %d is closed: %s", self.run_id[:8], message.step, message.fault.what)
        if self.session is not None:
            self._apply(machine.StepOver(index=message.step, reason=message.fault.code))

    def ended(self, message: pb.EndRun) -> None:
        """The run is over."""
        log.info("run %s %s %s", self.run_id[:8], message.state, message.fault.what)
        if self.session is not None:
            self._apply(machine.Ended(state=message.state, reason=message.fault.what))

    # ---------------------------------------------------------------- the machine

    def _apply(self, event: machine.Event) -> None:
        assert self.session is not None  # noqa: S101  (callers have checked)
        after, actions = machine.apply(self.session, event)
        if after != self.session:
            self._folder.save(after)
            self.session = after
        for action in actions:
            self._perform(action)

    def _perform(self, action: machine.Action) -> None:
        match action:
            case machine.Train():
                self._once(f"work-{action.step.index}", lambda: self._work(action.step))
            case machine.Submit():
                self._once(f"submit-{action.step.index}", lambda: self._submit(action.step, action.digest))
            case machine.Release():
                self._folder.drop_contribution(action.index)
            case machine.TellStepFailed():
                code, _, what = action.reason.partition(": ")
                fault = pb.Fault(kind="internal", code=code, what=what)
                failed = pb.StepFailed(run_id=self.run_id, step=action.index, fault=fault)
                self._uplink.send(pb.FromPartner(step_failed=failed))
            case machine.LeaveRun():
                if action.reason:
                    log.error("run %s: left: %s", self.run_id[:8], action.reason)
                    code, _, what = action.reason.partition(": ")
                    self._decline(IntegrityError(what, code=code))
                self._once("stop", self._stop_worker)
            case machine.KeepLocalState():
                pass  # averaging keeps none; the place where a driver's local state replaces the one before

    def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` unless it runs already: a reconnection repeats what the server asked for."""
        if name in self._tasks:
            return
        task = self._tasks[name] = asyncio.create_task(work())
        task.add_done_callback(lambda done: self._finished(name, done))

    def _finished(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run %s: %s failed", self.run_id[:8], name, exc_info=error)

    # ---------------------------------------------------------------- work

    async def _work(self, step: Step) -> None:
        try:
            released = await self._patiently(lambda: self._computed(step))
        except AimassError as error:
            log.error("run %s step %d: %s", self.run_id[:8], step.index, error)
            self._apply(machine.StepFailed(index=step.index, reason=f"{error.code}: {error.what}"))
            return
        digest = hashlib.sha256(released.data).hexdigest()
        current = self.session.step if self.session else None
        if current is None or current.index != step.index:
            return
        self._folder.save_contribution(step.index, released.data)
        self._partner.journal.record(self._journal_line(step, released, digest))
        self._apply(machine.Worked(index=step.index, digest=digest))

    async def _computed(self, step: Step) -> Released:
        plan = self._plan
        if plan is None or self._worker is None:
            raise WrongState("no training child for this run", code="session.no_child")
        name = self._partner.settings.name
        request = FetchRequest(digest=step.inputs_of(name)[0], run_id=self.run_id)
        model = await self._uplink.transfer(lambda channel: fetch(channel, request, self._partner.cache, _MAX_BLOB))
        purpose = f"{step.kind}:{step.purpose}"
        seed = stream_seed(plan.seed, self._manifest().participant, purpose, step.round)
        order = Order(kind=step.kind, purpose=step.purpose, seed=seed.hex(), train=plan.train, evaluate=plan.evaluate)
        result = await self._worker.work(order, model, _MAX_BLOB)
        layout = Blob(map_file(model)).layout
        return await asyncio.to_thread(release, result, step, layout, self._partner.policy)

    async def _patiently(self, attempt: Callable[[], Awaitable[Released]]) -> Released:
        """Try until it works or is refused: a broken link or a full disk is waited for."""
        while True:
            try:
                return await attempt()
            except (Unavailable, OutOfSpace) as error:
                log.info("run %s waits: %s", self.run_id[:8], error)
                await self._clock.sleep(_RETRY_S)

    def _journal_line(self, step: Step, released: Released, digest: str) -> JournalLine:
        return JournalLine(
            at=self._clock.now(),
            server=self._partner.settings.server,
            run_id=self.run_id,
            step=step.index,
            kind=f"{step.kind}:{step.purpose}".rstrip(":"),
            digest=digest,
            bytes=len(released.data),
            tensors=released.tensors,
            metrics=released.metrics,
            figures=released.figures,
            mechanisms=released.mechanisms,
            previous=self._partner.journal.head,
        )

    async def _submit(self, step: Step, digest: str) -> None:
        data = map_file(self._folder.contribution(step.index))
        header = SubmitHeader(kind="contribution", size=len(data), digest=digest, run_id=self.run_id, step=step.index)
        while True:
            try:
                await self._uplink.transfer(lambda channel: submit(channel, header, data))
                break
            except (Unavailable, OutOfSpace) as error:
                log.info("run %s step %d waits to send: %s", self.run_id[:8], step.index, error)
                await self._clock.sleep(_RETRY_S)
                if self.session is None or self.session.step is None or self.session.step.index != step.index:
                    return
            except WrongState as error:
                log.info("run %s step %d: not wanted any more: %s", self.run_id[:8], step.index, error)
                return
            except AimassError as error:
                log.error("run %s step %d: contribution refused: %s", self.run_id[:8], step.index, error)
                reason = f"{error.code}: {error.sentence()}"
                self._apply(machine.StepFailed(index=step.index, reason=reason, told=True))
                return
        self._apply(machine.Acknowledged(index=step.index))

    async def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()

    async def stop(self) -> None:
        """End all work here; what is stored stays for the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop_worker()
