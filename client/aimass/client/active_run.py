"""The shell around one run's session machine: decides, works, gates and sends, and persists before it acts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, get_args

import msgspec

from aimass.client import session as machine
from aimass.client.inbox import Handler, Inbox, patiently
from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.policy import Admit, Confinement, Pending, Refuse, decide
from aimass.client.preview import Preview
from aimass.client.resources import check_gpu, check_needs, resources_here
from aimass.client.run_folder import RunFolder
from aimass.client.secure import Due, SecureSums
from aimass.client.session import Phase, Session, Work
from aimass.client.step_check import check_taken_together
from aimass.client.study_policy import ApprovedStudy
from aimass.client.study_preview import StudyPreview, reserved_by, study_preview
from aimass.client.told import told
from aimass.client.uplink import Uplink
from aimass.client.upload import Uploads
from aimass.client.workbench import Product, StartWorker, Workbench
from aimass.client.worker_protocol import APP_DEVICE
from aimass.privacy.transcript import Chain, check_head_seen, check_history, check_receipt, sign_head_seen
from aimass.proto.clock import Clock, Stopwatch
from aimass.proto.durable import append_line_unless_held
from aimass.proto.errors import AimassError, IntegrityError, Refused, Unauthenticated, WrongState, printable
from aimass.proto.logs import about
from aimass.proto.plan import Plan, decode_plan, plan_digest, planned_steps
from aimass.proto.step import Step
from aimass.proto.storage import map_file
from aimass.proto.studies import study_digest
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import decode_canonical_json
from aimass.proto.wire import CARRIED, to_fault

__all__ = ["ActiveRun"]

log = logging.getLogger("aimass.client")
T = TypeVar("T")
_ALL_LEVELS: Final = frozenset(get_args(Confinement))
WITHDREW: Final = "partner.withdrew"


class ActiveRun:
    """One run at this partner. Its messages are handled in order, and hold up no other run."""

    def __init__(
        self,
        run_id: str,
        partner: Partner,
        folder: RunFolder,
        uplink: Uplink,
        clock: Clock,
        start: StartWorker,
        meters: DaemonMeters | None = None,
    ) -> None:
        self.run_id = run_id
        self._meters = meters or DaemonMeters()
        self._partner, self._folder, self._uplink, self._clock = partner, folder, uplink, clock
        self.session: Session | None = folder.load()
        if self.session is not None and not folder.whole(self.session):
            self.session, _ = machine.apply(self.session, machine.Lost())
        # A plan that was declined may be one that cannot be read here.
        self._plan: Plan | None = decode_plan(folder.plan()) if self.takes_part else None
        if self.session is not None and not self.takes_part:
            folder.forget_work()  # a crash may have come between the word and the deed
        self._bench = Workbench(run_id, partner, folder, self._meters, uplink, clock, start)
        self._uploads = Uploads(partner, uplink, clock, self._meters, lambda index: self._received == index)
        self._sums = SecureSums(run_id, partner, folder, self._uploads, self._due, self._sends)
        self.excluded = ""
        """Why the server asks this partner no more, where it does not."""
        self._received = -1
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._inbox = Inbox(about(log, run_id), clock)

    async def deliver(self, handler: Handler) -> None:
        """Queue a message's handler: the methods below, in the order of the messages."""
        await self._inbox.put(handler)

    # ---------------------------------------------------------------- the invitation

    async def invited(self, invite: pb.Invite) -> None:
        """Decide, once; a repeated invitation repeats the answer. A plan that differs from the first one is refused."""
        digest = plan_digest(invite.plan)
        self._sums.linked()
        if self.takes_part and self.session is not None and self.session.sent and not self._knows(self.session.sent):
            reason = "the records of secure sums were lost or are older than this run: it could sign twice in a round"
            self._apply(machine.Forked(reason=f"secure.records_lost: {reason}"))
        held, self.excluded = self.session, ""  # each connection begins so: what still holds is said again
        if held is not None and held.phase in (Phase.LEFT, Phase.WITHDRAWN, Phase.ENDED, Phase.DECLINED):
            if held.phase is Phase.ENDED:  # no server that knows what it signed asks again
                self._decline(WrongState("the run has ended here", code="session.ended", value=held.reason))
            else:
                self._decline(WrongState(held.reason, code=held.reason.partition(":")[0] or "session.left"))
            return
        if held is not None and held.plan_digest != digest:
            self._apply(machine.Forked(reason="session.plan_changed: the server sent another plan for this run"))
            return
        try:
            phase, error = await self._decide(invite)
            self._partner.check_member()  # a person may have withdrawn it while the child was started
        except AimassError as refusal:
            about(log, self.run_id).warning("cannot take part: %s: %s", refusal.code, refusal)
            phase, error = Phase.DECLINED, told(refusal, self._plan, self._partner.policy)
        if held is not None and not self.takes_part:
            return  # it was left while this was considered, and the server was told
        if held is None:
            self._folder.save_plan(invite.plan)
        reason = f"{error.code}: {error.sentence()}" if error else ""
        if self.session is None or self.session.phase is not Phase.JOINED:
            self.session = self._session_of(invite, digest)
        self._apply(machine.Answer(phase=phase, reason=reason))
        if error is not None:
            about(log, self.run_id, code=error.code).warning("%s: %s", phase, reason)
            self._decline(error)
        elif self.session.phase is Phase.JOINED:
            await self._join(digest)

    def _session_of(self, invite: pb.Invite, digest: str) -> Session:
        """The session of an invitation that is not joined yet: it pins the roster that was compared just now."""
        session = self.session or Session(
            run_id=self.run_id, plan_digest=digest, roster_digest=invite.roster_digest, phase=Phase.PENDING
        )
        secure = self._plan is not None and self._plan.secure is not None
        return msgspec.structs.replace(session, roster_digest=invite.roster_digest, secure=secure)

    def _knows(self, payload_digest: str) -> bool:
        return self._partner.sums.know(payload_digest)

    async def _join(self, digest: str) -> None:
        assert self._plan is not None  # noqa: S101  (decided just now)
        opened = (await self._bench.worker(self._plan)).opened  # raises where the run was left meanwhile
        about(log, self.run_id).info("takes part on %s, confined: %s", opened.device, ", ".join(opened.confinement))
        is_app = self._plan.task.kind == "app"  # what it says of itself would be a text of its own
        self._uplink.send(
            pb.FromPartner(
                joined=pb.Joined(
                    run_id=self.run_id,
                    plan_digest=digest,
                    participant=self._bench.manifest(self._plan).participant,
                    device=APP_DEVICE if is_app else opened.device,
                    confinement="+".join(sorted(_ALL_LEVELS.intersection(opened.confinement))),
                )
            )
        )

    async def _decide(self, invite: pb.Invite) -> tuple[Phase, AimassError | None]:
        plan = self._plan = decode_plan(invite.plan)
        self._partner.check_member()
        roster = self._partner.keeper.roster
        joined = self.session is not None and self.session.phase is Phase.JOINED
        if invite.roster_digest != roster.digest and not joined:
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
        if plan.needs is not None and not joined:
            held = plan.base.bytes if plan.base is not None and self._partner.bases.has(plan.base) else 0
            check_needs(plan.needs, resources_here(self._partner.folder, self._partner.settings, held))
        worker = await self._bench.worker(plan)
        second = self._judged(plan, participants, frozenset(worker.opened.confinement))
        if second is not None:
            await self._bench.close()
            return second
        if plan.needs is not None and not joined:
            check_gpu(plan.needs, worker.opened.gpu_bytes)
        waiting = await self._bench.check_budget(plan, self.session.worked if self.session is not None else {})
        if waiting is not None:
            await self._bench.close()
            return Phase.PENDING, waiting
        return Phase.JOINED, None

    async def preview(self) -> Preview:
        """What the run would take of the rows here, for the owner alone: also before anybody approved it."""
        return await self._looked(self._bench.preview)

    async def study(self) -> StudyPreview:
        """What the study of the run reserves of the budget here, for the owner alone: also before it was approved."""

        async def shown(plan: Plan) -> StudyPreview:
            ledger, units, summed = await self._bench.study(plan)
            participants = len(plan.cohort.partners or self._partner.keeper.roster.partners)
            return await asyncio.to_thread(
                study_preview, self._partner.policy, ledger, plan, units, participants, _ALL_LEVELS, summed
            )

        return await self._looked(shown)

    async def approve_study(self) -> StudyPreview:
        """A person here admits the study of the run, to reserve what it would by the run's plan; what that is."""

        async def approved(plan: Plan) -> StudyPreview:
            ledger, units, summed = await self._bench.study(plan)
            if plan.study is not None and ledger is not None:
                events = await asyncio.to_thread(reserved_by, ledger, plan, units, summed)
                terms = study_digest(plan.study)
                self._partner.approve_study(
                    ApprovedStudy(id=plan.study.id, data_set=ledger.data_set, terms=terms, events=events)
                )
            return await self.study()

        return await self._looked(approved)

    async def _looked(self, look: Callable[[Plan], Coroutine[Any, Any, T]]) -> T:
        """Look at the run's plan with its rows at hand; a child that only this look needed is ended."""
        plan, waits = decode_plan(self._folder.plan()), self.session is None or self.session.phase is not Phase.JOINED
        try:
            return await look(plan)
        finally:
            if waits:
                await self._bench.close()

    def _judged(self, plan: Plan, participants: int, levels: frozenset[str]) -> tuple[Phase, AimassError] | None:
        match decide(self._partner.policy, plan, participants, levels):
            case Admit():
                return None
            case Pending(reason, study=True):
                cure = "aimass client preview RUN shows what it reserves, then: aimass client approve --study RUN."
                return Phase.PENDING, WrongState(reason, code="policy.approval_pending", cure=cure)
            case Pending(reason, name):
                first = "" if plan.explain is None else f"aimass client preview {self.run_id[:8]} shows what it takes. "
                cure = f"{first}Read its code, then: aimass client approve {name}."
                return Phase.PENDING, WrongState(reason, code="policy.approval_pending", cure=cure)
            case Refuse(code, reason, value, limit):
                self._meters.refusals.add(code)
                return Phase.DECLINED, Refused(reason, code=code, value=value, limit=limit)

    def _decline(self, error: AimassError) -> None:
        declined = pb.Declined(run_id=self.run_id, fault=to_fault(error), mark=self.mark)
        self._uplink.send(pb.FromPartner(declined=declined))

    @property
    def mark(self) -> pb.RunMark | None:
        """What is held of the run's history, with the server's signature over it; None where nothing is."""
        if self.session is None or not self.session.heads:
            return None
        chain = self.session.chain
        signature = bytes.fromhex(self.session.head_signature)
        return pb.RunMark(run_id=self.run_id, entries=chain.entries, head=chain.head, signature=signature)

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
        if self._plan is not None:
            check_taken_together(self._plan, step, self._partner.policy.smallest_cohort)
        self._check_allowance(step)
        self._apply(machine.Opened(step=step))

    def _check_allowance(self, step: Step) -> None:
        """Raise `Refused` for a step that the plan has no room for, and leave the run: the plan is what was agreed."""
        session, plan = self.session, self._plan
        if session is None or plan is None or (session.step is not None and session.step.index == step.index):
            return
        allowed, begun = planned_steps(plan, step.kind, step.purpose), session.worked
        if machine.repeats(session, step):  # a round that ended after a signature is asked for again, on the same model
            allowed, begun = allowed * self._partner.policy.secure.contributions_per_model, session.repeated
        if session.phase is Phase.JOINED and begun.get(machine.task_of(step), 0) >= allowed:
            self._apply(
                machine.Forked(reason=f"session.not_planned: the plan has room for {allowed:g} steps of {step.kind}")
            )
            raise Refused("a step beyond the plan", code="session.not_planned", value=step.index, limit=f"{allowed:g}")

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
        if chain != held or not self.session.head_signature:
            heads = tuple(hashlib.sha256(entry).hexdigest() for entry in fresh)
            self._apply(machine.HistoryGrew(heads=heads, signature=message.signature.hex()))
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
        about(log, self.run_id, receipt.step).info("%s", receipt.outcome)
        self._received = receipt.step if receipt.outcome == "counted" else self._received
        self._apply(machine.GotReceipt(receipt=receipt))

    async def summed(self, message: pb.SecAgg) -> None:
        """One message of a secure sum."""
        if self._plan is None or self._plan.secure is None:
            raise WrongState("the plan of this run has no secure sums", code="session.not_secure")
        await self._sums.message(message)

    def _due(self, index: int) -> Due | None:
        """The step of this index, where its lanes wait to be summed."""
        session, plan = self.session, self._plan
        if session is None or plan is None or session.phase is not Phase.JOINED or not session.secure:
            return None
        if session.step is None or session.step.index != index or session.work is Work.WORKING:
            return None
        return Due(plan, session.plan_digest, session.roster_digest, session.step)

    async def _sends(self, index: int, digest: str) -> None:
        await self._tell(machine.Sent(index=index, digest=digest))

    def closed(self, message: pb.CloseStep) -> None:
        """The server does not want a step's work any more."""
        step_log = about(log, self.run_id, message.step, code=message.fault.code)
        if message.fault.code == CARRIED:
            step_log.warning("%s", message.fault.what)
            return
        step_log.info("closed: %s", message.fault.what)
        if self.session is not None:
            self._apply(machine.StepOver(index=message.step, reason=message.fault.code))

    def standing(self, message: pb.Standing) -> None:
        """The server asks this partner no more, or again."""
        run_log = about(log, self.run_id, code=message.fault.code)
        if message.HasField("fault"):
            self.excluded = printable(f"{message.fault.code}: {message.fault.what}", 500)
            run_log.error("asked no more: %s %s", self.excluded, message.fault.cure)
        elif self.excluded:
            run_log.info("asked again")
            self.excluded = ""

    def withdraw(self) -> None:
        """A person here takes this partner out: work that is not counted yet is deleted, here and at the server."""
        if not self.takes_part:
            raise WrongState(
                "this partner takes no part in that run",
                code="session.no_part",
                value=self.session.phase if self.session else "unknown",
            )
        self._apply(machine.Withdrew(reason=f"{WITHDREW}: the partner withdrew from the run"))
        self._folder.forget_work()

    def ended(self, message: pb.EndRun) -> None:
        """The run is over."""
        text = ": ".join(part for part in (message.state, message.fault.what) if part)
        about(log, self.run_id, code=message.fault.code).info("%s", text)
        if self.session is not None:
            self._apply(machine.Ended(state=message.state, reason=message.fault.what))

    @property
    def takes_part(self) -> bool:
        """Whether this partner is in the run, or may come to be."""
        return self.session is not None and self.session.phase in (Phase.JOINED, Phase.PENDING)

    @property
    def over(self) -> bool:
        """Whether the run has ended and nothing is left to do for it here."""
        return self.session is not None and self.session.phase is Phase.ENDED

    # ---------------------------------------------------------------- the machine

    def _apply(self, event: machine.Event) -> None:
        assert self.session is not None  # noqa: S101  (callers have checked)
        after, actions = machine.apply(self.session, event)
        for action in actions:
            if isinstance(action, machine.KeepLocalState):  # before the step is forgotten: a crash repeats it
                self._folder.keep_new_state(action.index)
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
            case machine.TellReady():
                self._sums.ready(action.index)
            case machine.Release():
                self._sums.forget(action.index)
                self._end(f"work-{action.index}")
                self._end(f"submit-{action.index}")
                self._folder.drop_contribution(action.index)
            case machine.TellStepFailed():
                code, _, what = action.reason.partition(": ")
                fault = pb.Fault(kind="internal", code=code, what=what)
                failed = pb.StepFailed(run_id=self.run_id, step=action.index, fault=fault)
                self._uplink.send(pb.FromPartner(step_failed=failed))
            case machine.LeaveRun():
                if action.reason:
                    code, _, what = action.reason.partition(": ")
                    weight = logging.INFO if code == WITHDREW else logging.ERROR
                    about(log, self.run_id, code=code).log(weight, "left: %s", action.reason)
                    self._decline((WrongState if code == WITHDREW else IntegrityError)(what, code=code))
                self._once("leave", self._bench.leave)
            case machine.KeepLocalState():
                pass  # done before the step was forgotten

    def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` unless it runs already: a reconnection repeats what the server asked for."""
        if name in self._tasks:
            return
        task = self._tasks[name] = asyncio.create_task(work())
        task.add_done_callback(lambda done: self._finished(name, done))

    def _end(self, name: str) -> None:
        """Stop what runs under `name`, unless it is what asks."""
        task = self._tasks.get(name)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _finished(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            about(log, self.run_id).error("%s failed", name, exc_info=error)

    # ---------------------------------------------------------------- work

    async def _work(self, step: Step) -> None:
        step_log = about(log, self.run_id, step.index)
        try:
            if self._plan is None:
                raise WrongState("no plan for this run", code="session.no_plan")
            plan, kept = self._plan, self.session is not None and self.session.kept
            product = await patiently(step_log, self._clock, lambda: self._bench.compute(plan, step, kept=kept))
            await patiently(step_log, self._clock, lambda: self._worked(step, product))
        except AimassError as error:
            step_log.error("%s", error)
            self._meters.failed(step.kind, error)
            heard = told(error, self._plan, self._partner.policy)
            await self._tell(machine.StepFailed(index=step.index, reason=f"{heard.code}: {heard.what}"))

    async def _worked(self, step: Step, product: Product) -> None:
        """Durable, journalled, and then known to be ready: in this order."""
        watch = Stopwatch(self._meters.part_seconds)
        saving = asyncio.ensure_future(asyncio.to_thread(self._bench.save, step, product))
        try:
            digest = await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.wait({saving})  # a thread goes on writing whatever happens here
            self._dropped(step)
            raise
        watch.lap("saved")
        about(log, self.run_id, step.index).info("%s", watch)
        if self._dropped(step):
            return
        await self._bench.settle(product, digest)
        self._bench.journal(step, product, digest)
        self._apply(machine.Worked(index=step.index, digest=digest))

    def _dropped(self, step: Step) -> bool:
        """Whether a step is over whose contribution was just saved; then its files are gone again."""
        current = self.session.step if self.session else None
        if current is not None and current.index == step.index:
            return False
        self._folder.drop_contribution(step.index)
        return True

    async def _tell(self, event: machine.Event) -> None:
        """Apply an event from within a task; a full disk is waited for."""

        async def once() -> None:
            self._apply(event)

        await patiently(about(log, self.run_id), self._clock, once)

    async def _submit(self, step: Step, digest: str) -> None:
        path = self._folder.contribution(step.index)
        header = SubmitHeader(
            kind="contribution",
            size=path.stat().st_size,
            digest=digest,
            run_id=self.run_id,
            step=step.index,
            ledger=None if self._plan is None else self._partner.ledger_head(self._plan),
        )
        try:
            if self._plan is None or self._plan.secure is not None:  # a session that says otherwise is not believed
                raise WrongState("lanes of a secure sum leave under masks alone", code="session.unmasked")
            acknowledged = await self._uploads.bring(step.kind, header, lambda: map_file(path))
        except AimassError as error:
            reason = f"{error.code}: {error.sentence()}"
            await self._tell(machine.StepFailed(index=step.index, reason=reason, told=True))
        else:
            if acknowledged:
                await self._tell(machine.Acknowledged(index=step.index))

    async def settle(self) -> None:
        """Wait for what was ended to be over."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def stop(self) -> None:
        """End all work here; what is stored stays for the next start."""
        await self._inbox.close()
        await self._sums.stop()
        for task in self._tasks.values():
            task.cancel()
        await self.settle()
        await self._bench.close()
