"""Secure sums at the server: attempts begun and resumed, members' messages and masked inputs, and how each ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.roster import Roster
from aimass.privacy.secagg import server as machine
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.context import decode_context
from aimass.privacy.secagg.faults import Code, Fault, FaultError
from aimass.privacy.secagg.lanes import LanePlan
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.packing import check_packed
from aimass.privacy.secagg.rounds import context_of, lanes_of, number_of
from aimass.privacy.secagg.server_state import Ended, Finish, From, GiveUp, Input, Phase
from aimass.proto.contribution import Contribution, Limits, check_contribution
from aimass.proto.errors import AimassError, BadInput, IntegrityError, InternalError, Refused, Stopped, WrongState
from aimass.proto.logs import about, subject
from aimass.proto.sealed import SealedHead
from aimass.proto.step import Step
from aimass.proto.storage import Blobs, Spool, map_file
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import decode_json
from aimass.proto.views import ParticipantState, SlotState
from aimass.server import messages, runs, steps
from aimass.server.aggregation.secure_sums import SecureInputs
from aimass.server.commits import ledger_commit
from aimass.server.engine import Engine, spool_key
from aimass.server.live import Live
from aimass.server.secure_attempt import Attempt, replayed
from aimass.server.secure_log import AttemptKey, Begun, BegunMember, SecureLog
from aimass.server.store import Store

__all__ = ["SecureDesk"]

log = logging.getLogger("aimass.server")


class SecureDesk:
    """All attempts of a server, by run, step and number: one at a time for each circle of a step."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        blobs: Blobs,
        spool: Spool,
        roster: Callable[[], Roster],
        signer: Ed25519PrivateKey,
    ) -> None:
        self._engine, self._log, self._blobs, self._spool = engine, SecureLog(store), blobs, spool
        self._roster, self._signer = roster, signer
        self._attempts: dict[tuple[str, int], dict[int, Attempt]] = {}
        self._ends: dict[AttemptKey, Finish] = {}
        self._recorded: set[tuple[str, int]] = set()

    # ---------------------------------------------------------------- from the engine

    async def sweep(self) -> None:
        """Forget what belongs to steps that are over."""
        self._recorded = set(await self._engine.on_disk(self._log.held))
        for run_id, index in sorted(self._recorded):
            live = self._engine.find(run_id)
            if live is None or str(index) not in live.row.run.open:
                await self._forget(run_id, [index])

    def closed(self, run_id: str, left: Collection[str]) -> Coroutine[Any, Any, None] | None:
        """End the attempts of a run's steps that are not among those that are `left`; None where there are none."""
        over = [index for run, index in self._recorded if run == run_id and str(index) not in left]
        for index in over:
            for attempt in self._attempts.pop((run_id, index), {}).values():
                attempt.stop()
                self._ends.pop(attempt.key, None)
        return self._forget(run_id, over) if over else None

    def tell_again(self, run_id: str, index: int, partner: str) -> None:
        """To a partner that is back: what the attempt at a step told it last."""
        for attempt in self._attempts.get((run_id, index), {}).values():
            if not attempt.over:
                attempt.tell_again(partner)

    async def inputs(self, live: Live, state: steps.StepState) -> tuple[SecureInputs, ...]:
        """What a closed step's sums are made of; after a restart from what was recorded."""
        assert state.attempts is not None  # noqa: S101  (asked of such steps alone)
        lanes = await asyncio.to_thread(self._lanes, live, state.step)
        found = []
        for circle in state.attempts.circles:
            if not circle.digests:
                continue
            key = AttemptKey(live.row.run_id, state.step.index, circle.number)
            if key not in self._ends:
                await self.form(live, key.step, key.number)
            if str(key.step) not in live.row.run.open:
                raise Stopped("the run ended while its step waited to be summed", code="run.ended")
            if key not in self._ends:
                raise IntegrityError(
                    "what was recorded of an attempt does not come to its sum",
                    code="secure.record",
                    value=state.step.index,
                    cure="Look at this disk before the next run; nothing of this step was used.",
                )
            attempt = self._attempts[key.run_id, key.step][key.number]
            found.append(SecureInputs(attempt.state, self._ends[key], lanes, attempt.names))
        return tuple(found)

    def stop(self) -> None:
        """End all tasks."""
        for attempts in self._attempts.values():
            for attempt in attempts.values():
                attempt.stop()

    # ---------------------------------------------------------------- beginning and ending

    def _lanes(self, live: Live, step: Step) -> LanePlan:
        plan = live.row.run.plan
        driver = self._engine.drivers[plan.stages[live.row.run.stage].driver]
        expected = driver.expects(step, Blob(self._blobs.open(step.inputs[0])).layout, plan)
        return lanes_of(plan, step, expected or {})

    async def form(self, live: Live, index: int, number: int) -> None:
        """Begin an attempt, or go on with it where it has begun; the members are those of the step's state."""
        key = AttemptKey(live.row.run_id, index, number)
        state = live.row.run.open.get(str(index))
        circle = _circle(state, number)
        if state is None or circle is None:
            return
        try:
            held = await self._engine.on_disk(self._log.load, key)
            begun, events = held or (await self._begun(live, key, state, circle), [])
            context = decode_context(bytes.fromhex(begun.context))
            first = machine.begin(context, begun.identities, self._signer)
            outcome = await asyncio.to_thread(replayed, first, events) if events else first
            self._recorded.add((key.run_id, key.step))
            if held is None:
                await self._engine.patiently(key.run_id, self._log.begin, key, begun)
        except AimassError as error:
            await self._cannot_begin(live, index, error)
            return
        except FaultError as error:
            await self._cannot_begin(live, index, error.fault.error())
            return
        except Exception as error:
            log.exception("an attempt could not begin", extra=subject(key.run_id, index))
            what = "an attempt at a secure sum could not begin; the server's log says why"
            await self._cannot_begin(live, index, InternalError(what, code="secure.failed", value=type(error).__name__))
            return
        if str(index) not in live.row.run.open:
            return
        assert live.row.run.plan.secure is not None  # noqa: S101  (its steps have attempts)
        attempt = Attempt(
            key, begun.names, outcome, len(events), self._append,
            self._said(key, number_of(context.attempt)), self._over, self._broke, self._engine.clock,
            live.row.run.plan.secure.phase_s,
        )  # fmt: skip
        if held and not circle.digests and (lost := await self._engine.on_disk(self._lost, attempt)):
            self._give_up(attempt, f"secure.lost: not on the server's disk any more: the input of {', '.join(lost)}")
            return  # known to nobody, it takes no message
        if str(index) not in live.row.run.open:
            return  # it ended while the disk was asked: nobody would end this attempt
        self._attempts.setdefault((key.run_id, index), {})[number] = attempt
        about(log, key.run_id, index).info(
            "attempt %d at a secure sum of %d partners%s", number, len(begun.names), ", resumed" if held else ""
        )
        attempt.start()
        for name in attempt.ids if held else ():  # who came back before it was read from the store
            self.tell_again(key.run_id, index, name)
        await self._gone_meanwhile(live, attempt)

    async def _cannot_begin(self, live: Live, index: int, error: AimassError) -> None:
        """The run ends by name, unless the step is over by now: then nothing of it is needed any more."""
        if str(index) in live.row.run.open:
            await self._engine.give_up(live, error)

    async def _gone_meanwhile(self, live: Live, attempt: Attempt) -> None:
        """Who went while the attempt was not there to hear it: it was on its way to the disk, or the server died."""
        key, run = attempt.key, live.row.run
        state = run.open.get(str(key.step))
        for name in attempt.ids if state is not None and state.counted is None else ():
            if state is not None and state.slots[name].state is not SlotState.READY:
                left = run.participants[name].state is ParticipantState.REMOVED
                await self.gone(key.run_id, runs.Gone(index=key.step, number=key.number, partner=name, left=left))

    def _lost(self, attempt: Attempt) -> list[str]:
        """Whose input was acknowledged and is not on the disk, as after a restore: the attempt has no sum then."""
        names = [attempt.names[member] for member in sorted(attempt.state.inputs)]
        return [name for name in names if not self._spool.has(spool_key(attempt.key.run_id, attempt.key.step, name))]

    def _give_up(self, attempt: Attempt, reason: str) -> None:
        """End an attempt that no message can save. Its members hear of the next one."""
        key = attempt.key
        about(log, key.run_id, key.step).error("attempt %d: %s", key.number, reason)
        now = self._engine.clock.now()
        ended = steps.AttemptEnded(number=key.number, reason=reason, at=now, burnt=attempt.burnt)
        self._engine.spawn(self._applied(key, ended))

    async def _begun(self, live: Live, key: AttemptKey, state: steps.StepState, circle: steps.Circle) -> Begun:
        roster, run = self._roster(), live.row.run
        found = [roster.by_name[name] for name in circle.members if name in roster.by_name]
        lanes = await asyncio.to_thread(self._lanes, live, state.step)
        context = context_of(
            run.plan, live.row.plan_digest, key.run_id, state.step, circle.tries - 1, [member.id for member in found],
            roster.digest, self._engine.identity, lanes,
        )  # fmt: skip
        return Begun(
            context=context.data.hex(),
            members=tuple(BegunMember(id=m.id, name=m.name, identity=m.identity.hex()) for m in found),
        )

    async def _append(self, key: AttemptKey, first: int, events: Any) -> None:
        await self._engine.patiently(key.run_id, self._log.append, key, first, events)

    def _said(self, key: AttemptKey, told: int) -> Callable[[str, Kind, bytes], None]:
        def say(partner: str, kind: Kind, data: bytes) -> None:
            if (live := self._engine.find(key.run_id)) is not None:
                message = partial(messages.secagg, key.run_id, key.step, told, kind, data)
                self._engine.voice.say(live, partner, message)

        return say

    def _over(self, attempt: Attempt, end: Finish | Ended) -> None:
        key = attempt.key
        if isinstance(end, Finish):
            self._ends[key] = end
            digests = {
                attempt.names[member]: attempt.state.inputs[member].payload_digest.hex() for member in end.survivors
            }
            event: steps.StepEvent = steps.Summed(number=key.number, digests=digests)
        else:
            event = self._ended(attempt, end)
        self._engine.spawn(self._applied(key, event))

    def _broke(self, attempt: Attempt, error: Exception) -> None:
        """What an attempt took cannot be recorded or followed: the run ends by name, and does not wait for ever."""
        key = attempt.key
        log.error("an attempt cannot go on", exc_info=error, extra=subject(key.run_id, key.step))
        if (live := self._engine.find(key.run_id)) is not None and not live.row.run.state.final:
            what = "an attempt at a secure sum cannot go on; the server's log says why"
            failed = InternalError(what, code="secure.failed", value=type(error).__name__)
            self._engine.spawn(self._engine.give_up(live, failed))

    async def _applied(self, key: AttemptKey, event: steps.StepEvent) -> None:
        await self._engine.apply(key.run_id, runs.InStep(index=key.step, event=event))

    def _ended(self, attempt: Attempt, end: Ended) -> steps.AttemptEnded:
        key = attempt.key
        absent = tuple(sorted(attempt.names[member] for member in end.absent if member in attempt.names))
        guilty = tuple(attempt.names[member] for member in attempt.state.guilty if member in attempt.names)
        reason = _reason(attempt, end.fault, absent)
        about(log, key.run_id, key.step, code=end.fault.error().code).warning("attempt %d: %s", key.number, reason)
        return steps.AttemptEnded(
            number=key.number,
            reason=reason,
            at=self._engine.clock.now(),
            absent=absent,
            withheld=(*(absent if end.fault.code is Code.SEED_INCOMPLETE else ()), *guilty),
            burnt=attempt.burnt,
        )

    async def gone(self, run_id: str, action: runs.Gone) -> None:
        """A member is out: what it sent and is not being summed yet counts no more if it left the run."""
        attempt = self._attempts.get((run_id, action.index), {}).get(action.number)
        if attempt is None or attempt.over:
            return
        member = attempt.ids.get(action.partner)
        if member is None:
            return
        try:
            if action.left and attempt.state.phase <= Phase.INPUT and member in attempt.state.inputs:
                await attempt.feed(GiveUp(f"{action.partner} left the run, and its input is not summed"))
            else:
                await attempt.gave_up(action.partner)
        except FaultError:
            pass  # the attempt ended meanwhile

    async def _forget(self, run_id: str, indices: list[int]) -> None:
        await self._engine.patiently(run_id, self._log.forget, run_id, indices)
        self._recorded -= {(run_id, index) for index in indices}

    # ---------------------------------------------------------------- from partners

    async def ready(self, partner: str, message: pb.Ready) -> None:
        """A partner's input is encoded."""
        run = self._engine.live(message.run_id).row.run
        if partner not in run.participants:
            raise Refused("not a participant of this run", code="secure.stranger", value=partner)
        figures = decode_json(dict[str, float], message.figures or b"{}", "released figures")
        check_contribution(Contribution({}, {}, figures), None, Limits())  # their number and size
        ledger = decode_json(SealedHead, message.ledger, "a sealed head") if message.ledger else None
        event = steps.Ready(partner=partner, figures=figures, ledger=ledger)
        extra = ledger_commit(partner, ledger)
        await self._engine.apply(message.run_id, runs.InStep(index=message.step, event=event), extra)

    async def message(self, partner: str, message: pb.SecAgg) -> None:
        """A member's message; raises the named error of one that is refused, and the attempt goes on."""
        attempt = self._of(partner, message.run_id, message.step, message.attempt)
        if attempt is None:
            about(log, message.run_id, message.step, partner).info("a message of an attempt that is over: dropped")
            return
        member = _member(attempt, partner)
        try:
            kind = Kind(message.kind)
        except ValueError:
            raise BadInput("no message of this protocol", code="secagg.kind", value=ascii(message.kind[:32])) from None
        if kind is Kind.ABORT:
            self._told_why(attempt, partner, message.data)
        try:
            await attempt.feed(From(member, kind, message.data))
        except FaultError as error:
            raise error.fault.error() from error

    def _told_why(self, attempt: Attempt, partner: str, data: bytes) -> None:
        try:
            abort = Abort.decode(data)
        except FaultError:
            return
        attempt.reasons[partner] = abort.code
        blamed = ", ".join(attempt.names.get(member, str(member)) for member in abort.blamed)
        about(log, attempt.key.run_id, attempt.key.step, partner, f"secagg.{abort.code}").warning(
            "gave up attempt %d: %s%s", attempt.key.number, abort.code, f", blames {blamed}" if blamed else ""
        )

    def _of(self, partner: str, run_id: str, index: int, told: int) -> Attempt | None:
        """A partner is in one circle of a step; it counts that circle's attempts."""
        # A list: threads ask too, while other circles' attempts begin.
        attempts = list(self._attempts.get((run_id, index), {}).values())
        mine = (one for one in attempts if partner in one.ids and number_of(one.state.context.attempt) == told)
        return next(mine, None)

    # ---------------------------------------------------------------- masked inputs

    def key(self, partner: str, header: SubmitHeader) -> str:
        """Where a masked input goes, if it may come now: from its signed header, before a byte of it is read."""
        attempt = self._of(partner, header.run_id, header.step, header.attempt)
        if attempt is None:
            raise WrongState("no such attempt is open", code="secure.attempt", value=header.attempt)
        try:
            found = machine.check_input(attempt.state, _member(attempt, partner), _signed(header))
        except FaultError as error:
            raise error.fault.error() from error
        if (found.length, found.payload_digest.hex()) != (header.size, header.digest):
            raise BadInput("not the input that its header speaks of", code="secure.header", value=header.digest[:16])
        return spool_key(header.run_id, header.step, partner)

    def stored(self, partner: str, header: SubmitHeader) -> bool:
        """Whether exactly this input was acknowledged in this attempt."""
        attempt = self._of(partner, header.run_id, header.step, header.attempt)
        held = attempt.state.inputs.get(attempt.ids.get(partner, -1)) if attempt is not None else None
        return held is not None and held.payload_digest.hex() == header.digest

    async def accept(self, partner: str, header: SubmitHeader, path: Path) -> None:
        """Record an input that is whole, as its digest shows; then it may be acknowledged."""
        attempt = self._of(partner, header.run_id, header.step, header.attempt)
        if attempt is None:
            raise WrongState("the attempt ended before this input was whole", code="secure.late", value=header.attempt)
        context, member = attempt.state.context, _member(attempt, partner)
        try:
            check_packed(map_file(path), context.lanes, context.bits)
            padded = True
        except ValueError:
            padded = False
        event = Input(member, _signed(header), header.size, bytes.fromhex(header.digest), padded)
        try:
            await attempt.feed(event)
        except FaultError as error:
            self._engine.meters.contributions.add("refused", error.fault.error().code)
            about(log, header.run_id, header.step, partner).warning("masked input refused: %s", error)
            raise error.fault.error() from error
        self._engine.meters.contributions.add("stored", "")
        about(log, header.run_id, header.step, partner).info("masked input stored, %d bytes", header.size)


def _circle(state: steps.StepState | None, number: int) -> steps.Circle | None:
    """The circle whose newest attempt has this number."""
    circles = state.attempts.circles if state is not None and state.attempts is not None else ()
    return next((circle for circle in circles if circle.number == number and not circle.out), None)


def _member(attempt: Attempt, partner: str) -> int:
    member = attempt.ids.get(partner)
    if member is None:
        raise Refused("not a member of this attempt", code="secure.member", value=partner)
    return member


def _signed(header: SubmitHeader) -> bytes:
    try:
        return bytes.fromhex(header.masked)
    except ValueError:
        raise BadInput("a header that is not hexadecimal", code="secure.header") from None


def _reason(attempt: Attempt, fault: Fault, absent: tuple[str, ...]) -> str:
    """One line: the fault, who was waited for in vain, what members said themselves, who is blamed."""
    parts = [f"{fault.code}: {fault.error().sentence()}"]
    if absent:
        parts.append(f"missing: {', '.join(absent)}")
    if attempt.reasons:
        said = ", ".join(f"{name} {code}" for name, code in sorted(attempt.reasons.items()))
        parts.append(f"gave up: {said}")
    if blamed := sorted({*fault.blamed, *attempt.state.guilty}):
        parts.append(f"blamed: {', '.join(attempt.names.get(member, str(member)) for member in blamed)}")
    return "; ".join(parts)
