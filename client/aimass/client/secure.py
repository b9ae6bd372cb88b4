"""Secure sums of one run at a partner: the shell around the client's machine, which keeps, sends, and answers again.

The machine's steps take seconds for a large model, so they run in a thread, one at a time, in the order of the
messages. What it wants kept is on the disk before anything that follows is sent. Its secrets live in memory alone: an
attempt that the last process began is given up by name, and the same encoded lanes are ready for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aimass.client.inbox import patiently
from aimass.client.partner import Partner
from aimass.client.policy import Policy
from aimass.client.run_folder import RunFolder
from aimass.client.secure_records import Counted
from aimass.client.upload import Uploads
from aimass.privacy.roster import MemberRole
from aimass.privacy.secagg import admission, client
from aimass.privacy.secagg.client_state import (
    Action,
    ClientState,
    Ended,
    Kind,
    Limits,
    Member,
    Outcome,
    Persist,
    Phase,
    Randomness,
    Record,
    Send,
    SendInput,
)
from aimass.privacy.secagg.context import RoundContext, decode_context, purpose_id
from aimass.privacy.secagg.faults import Code, Fault, FaultError, fail
from aimass.privacy.secagg.messages import Abort, MaskedInput, RoundStart
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.rounds import expected_of, lanes_of, number_of, ppm, purpose_of
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.logs import Log, about
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.storage import map_file
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json

__all__ = ["Due", "SecureSums"]

log = logging.getLogger("aimass.client")
Actions = tuple[Action, ...]
_CURES: Final = {
    Code.POLICY: "See [secure] and smallest_cohort in policy.toml.",
    Code.REPEAT_MODEL: "See contributions_per_model and contributions_per_data under [secure] in policy.toml.",
    Code.ROSTER: "aimass client roster show: who was removed takes part in nothing more.",
    Code.RESTARTED: "Nothing is lost: this partner is in the next attempt.",
    Code.ROUND_CLOSED: "The server opens another step where this one has no sum.",
} | dict.fromkeys(
    (Code.MODEL_DIGEST, Code.PLAN, Code.SERVER_SIG, Code.OVERFLOW, Code.VERSION),
    "Ask the operator: the server asks for something else than plan and step say.",
)


class _Secret:
    """The system's source."""

    def below(self, bound: int) -> int:
        return secrets.randbelow(bound)

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """A step whose lanes are durable and wait to be summed, and what this partner agreed to when it joined."""

    plan: Plan
    plan_digest: str
    roster_digest: str
    step: Step


@dataclasses.dataclass(slots=True)
class _Live:
    """The attempt that this process is in, by its number."""

    step: Step
    attempt: int
    state: ClientState
    counted: Counted
    limits: Limits

    @property
    def key(self) -> tuple[int, int]:
        """Step and attempt."""
        return self.step.index, self.attempt


class SecureSums:
    """One run's. `due` gives the step of an index where it waits to be summed; `sent` makes the digest of a masked
    input durable before it leaves."""

    def __init__(
        self,
        run_id: str,
        partner: Partner,
        folder: RunFolder,
        uploads: Uploads,
        due: Callable[[int], Due | None],
        sent: Callable[[int, str], Awaitable[None]],
        random: Randomness | None = None,
    ) -> None:
        self._run_id, self._partner, self._folder = run_id, partner, folder
        self._uploads, self._uplink, self._meters = uploads, uploads.uplink, uploads.meters
        self._due, self._sent = due, sent
        self._random: Randomness = random or _Secret()
        self._live: _Live | None = None
        self._sending: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._delivered: set[tuple[int, int]] = set()
        """Inputs that the server acknowledged over this connection: it need not be told twice."""

    # ---------------------------------------------------------------- what the run says

    def ready(self, index: int) -> None:
        """Tell the server that a step's contribution waits; told again as often as it asks."""
        figures, due = canonical_json(self._folder.beside(index).figures), self._due(index)
        head = None if due is None else self._partner.ledger_head(due.plan)
        ledger = b"" if head is None else canonical_json(head)
        ready = pb.Ready(run_id=self._run_id, step=index, figures=figures, ledger=ledger)
        self._uplink.send(pb.FromPartner(ready=ready))

    def linked(self) -> None:
        """A new connection: what the server asks for again is sent again."""
        self._delivered.clear()

    def forget(self, index: int) -> None:
        """A step is over: its attempt's secrets go, and nothing of it is sent any more."""
        if self._live is not None and self._live.step.index == index:
            self._live = None
        self._stop_sending(lambda key: key[0] == index)

    async def stop(self) -> None:
        """End all work; the records stay."""
        self._live = None
        self._stop_sending(lambda _: True)
        await asyncio.gather(*self._sending.values(), return_exceptions=True)

    # ---------------------------------------------------------------- what the server says

    async def message(self, message: pb.SecAgg) -> None:
        """Take one message of an attempt; returns when it was answered, but for an upload, which goes on beside."""
        if message.kind not in tuple(Kind):
            raise BadInput("a message of no kind that secure sums have", code="secagg.kind", value=message.kind[:32])
        kind, live, due = Kind(message.kind), self._live, self._due(message.step)
        if live is not None and live.key == (message.step, message.attempt):
            await self._advance(live, lambda: self._answer(live, kind, message.data))
            return
        record = self._record(due)
        if record is not None and number_of(record.attempt) == message.attempt:
            self._restarted(message, record, kind)
        elif kind is Kind.START:
            await self._start(message, due)
        else:
            self._log(message.step).info("a %s of attempt %d, which is not this partner's", kind, message.attempt)

    def _record(self, due: Due | None) -> Record | None:
        """What is durable of the step's round."""
        if due is None:
            return None
        run_id = purpose_id(bytes.fromhex(self._run_id), purpose_of(due.plan, due.step))
        return self._partner.sums.held(run_id, due.step.index)

    def _restarted(self, message: pb.SecAgg, record: Record, kind: Kind) -> None:
        """The records know an attempt that this process does not: its secrets went with another process."""
        if kind is not Kind.ABORT:  # of which the server knows
            cure = _CURES[Code.ROUND_CLOSED if record.signed else Code.RESTARTED]
            self._log(message.step, Code.RESTARTED).warning(
                "attempt %d ended: %s: it was begun before this start. %s", message.attempt, Code.RESTARTED, cure
            )
            self._meters.sums.add(Code.RESTARTED)
            self._send(message.step, message.attempt, Kind.ABORT, admission.restarted(record).data)
        if not record.signed:
            self.ready(message.step)

    async def _start(self, message: pb.SecAgg, due: Due | None) -> None:
        try:
            live, actions = await asyncio.to_thread(self._admitted, message, due)
            await self._keep(live, actions)
        except FaultError as refused:
            self._refuse(message, refused.fault)
            return
        if self._due(message.step) is None:
            return  # it was closed, or the run was left, while this was considered
        self._live = live
        self._stop_sending(lambda key: key != live.key)
        await self._speak(live, actions)

    def _admitted(self, message: pb.SecAgg, due: Due | None) -> tuple[_Live, Actions]:
        """Every check of the start, against what this partner knows itself; raises `FaultError`."""
        if due is None:
            raise fail(Code.STATE, "no contribution waits here to be summed in this step", message.step)
        context = _context(message.data)
        if number_of(context.attempt) != message.attempt:
            raise fail(Code.CTX_MISMATCH, "the start of another attempt", number_of(context.attempt), message.attempt)
        try:
            policy = self._partner.policy
        except AimassError as error:
            raise fail(Code.POLICY, f"the policy cannot be read ({error.code})") from error
        data_set = policy.schemas.get(due.plan.data_schema)
        if data_set is None:
            raise fail(Code.POLICY, "the policy maps the plan's schema to no data set", due.plan.data_schema)
        self._check_cohort(due.step, context)
        lanes = lanes_of(due.plan, due.step, self._folder.beside(due.step.index).groups)
        lanes.check_noise(context)
        expected = expected_of(due.plan, due.plan_digest, self._run_id, due.step, lanes)
        counted, limits = Counted(data_set, purpose_of(due.plan, due.step)), _limits(policy)
        history = self._partner.sums.history(expected.run_id, expected.round, expected.model_digest, counted)
        state, actions = admission.start(
            self._member(due, context, limits), expected, history, message.data, self._random
        )
        lanes.check_context(context)
        if history.signed_on_model:
            self._log(due.step.index).warning(
                "the server asks for another input on one model: %d signed before", history.signed_on_model
            )
        return _Live(due.step, message.attempt, state, counted, limits), actions

    def _check_cohort(self, step: Step, context: RoundContext) -> None:
        """The lanes are as wide as the step's participants need: nobody else is invited."""
        roster = self._partner.keeper.roster
        asked = {roster.by_name[name].id for name in step.participants if name in roster.by_name}
        if not context.members <= asked:
            raise fail(Code.ROSTER, "the round invites somebody whom the step does not ask, or who was removed")

    def _member(self, due: Due, context: RoundContext, limits: Limits) -> Member:
        """This partner, by the roster in force here. The run's own roster, approved when it was joined, names a round
        as well; who was removed since is in neither."""
        roster = self._partner.keeper.roster
        if self._partner.settings.name not in roster.by_name:
            raise fail(Code.ROSTER, "this partner is not in the roster any more")
        pinned = due.roster_digest if context.roster_digest.hex() == due.roster_digest else roster.digest
        identities = {member.id: member.identity for member in roster.members if member.role is MemberRole.PARTNER}
        return Member(
            id=roster.by_name[self._partner.settings.name].id,
            identity=self._partner.keys.identity,
            identities=identities,
            roster_digest=bytes.fromhex(pinned),
            server_key=roster.server.identity,
            limits=limits,
        )

    def _refuse(self, message: pb.SecAgg, fault: Fault) -> None:
        """Say why this partner is in no attempt like this one. It does not offer itself again by itself."""
        error = _named(fault)
        self._log(message.step).error("attempt %d was refused: %s: %s", message.attempt, fault.code, error)
        self._meters.refusals.add(error.code)
        try:
            context = _context(message.data)
        except FaultError:
            return  # it names no attempt that an answer could be about
        self._send(message.step, message.attempt, Kind.ABORT, Abort(context.ctx, fault.code).data)

    # ---------------------------------------------------------------- the machine

    def _answer(self, live: _Live, kind: Kind, data: bytes) -> Outcome:
        """The machine's answer; it meets the lanes when the masks can be made, and not before."""
        if live.state.phase is Phase.ABORTED:
            return live.state, live.state.last  # its last word may have been lost with a link
        state, actions = client.receive(live.state, kind, data, self._random)
        if state.phase is not Phase.DELIVERED:
            return state, actions
        try:
            kept = map_file(self._folder.contribution(live.step.index))
            state, more = client.encoded(state, kept, self._folder.room)
        except FaultError as error:
            return client.abort(state, error.fault)
        return state, (*actions, *more)

    async def _advance(self, live: _Live, take: Callable[[], Outcome]) -> None:
        """Keep, then go on in the new state, then speak: a step that cannot be kept was never taken."""
        told, clock = self._log(live.step.index), self._uploads.clock
        state, actions = await patiently(told, clock, partial(asyncio.to_thread, take))
        try:
            await self._keep(live, actions)
        except FaultError as refused:
            state, actions = client.abort(state, refused.fault)
        if self._live is not live:
            return  # forgotten meanwhile
        live.state = state
        await self._speak(live, actions)

    async def _keep(self, live: _Live, actions: Actions) -> None:
        """Make durable what has to be; a full disk is waited for. Raises `FaultError` for what may not be kept."""
        for action in actions:
            if isinstance(action, Persist):
                keep = partial(self._partner.sums.keep, action.record, live.counted, live.limits)
                await patiently(self._log(live.step.index), self._uploads.clock, partial(asyncio.to_thread, keep))

    async def _speak(self, live: _Live, actions: Actions) -> None:
        for action in actions:
            match action:
                case Send(kind, data):
                    self._send(live.step.index, live.attempt, kind, data)
                case SendInput(header, payload):
                    await self._send_input(live, header, payload)
                case Ended(fault):
                    self._ended(live, fault)
                case Persist():
                    pass  # kept before

    def _ended(self, live: _Live, fault: Fault | None) -> None:
        step_log = self._log(live.step.index)
        if fault is None:
            self._meters.sums.add("done")
            step_log.info("attempt %d: this partner's part of the sum is done", live.attempt)
            return
        self._stop_sending(lambda key: key == live.key)
        error = _named(fault)
        self._meters.sums.add(fault.code)
        names = {member.id: member.name for member in self._partner.keeper.roster.members}
        blamed = ", ".join(names.get(member, str(member)) for member in fault.blamed)
        laid = f" Laid to {blamed}." if blamed else ""
        step_log.warning("attempt %d ended: %s: %s%s", live.attempt, fault.code, error, laid)
        if not live.state.record.signed:
            self.ready(live.step.index)

    # ---------------------------------------------------------------- what leaves

    def _send(self, index: int, attempt: int, kind: Kind, data: bytes) -> None:
        told = pb.SecAgg(run_id=self._run_id, step=index, attempt=attempt, kind=kind, data=data)
        self._uplink.send(pb.FromPartner(secagg=told))

    async def _send_input(self, live: _Live, header: bytes, payload: bytes | memoryview) -> None:
        """Start the upload, unless it is under way or was acknowledged over this connection."""
        if live.key in self._sending or live.key in self._delivered:
            return
        head = SubmitHeader(
            kind="contribution",
            size=len(payload),
            digest=MaskedInput.decode(header).payload_digest.hex(),
            run_id=self._run_id,
            step=live.step.index,
            attempt=live.attempt,
            masked=header.hex(),
        )
        await self._sent(live.step.index, head.digest)
        if self._live is live:
            task = self._sending[live.key] = asyncio.create_task(self._bring(live, head, payload))
            task.add_done_callback(lambda done: self._brought(live, done))

    async def _bring(self, live: _Live, head: SubmitHeader, payload: bytes | memoryview) -> None:
        with contextlib.suppress(AimassError):  # told already, and the server knows what it refused
            if await self._uploads.bring(live.step.kind, head, lambda: memoryview(payload)):
                self._delivered.add(live.key)

    def _brought(self, live: _Live, task: asyncio.Task[None]) -> None:
        self._sending.pop(live.key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log(live.step.index).error("the masked input was not sent", exc_info=error)

    def _stop_sending(self, ended: Callable[[tuple[int, int]], bool]) -> None:
        for key, task in self._sending.items():
            if ended(key):
                task.cancel()

    def _log(self, index: int, code: str = "") -> Log:
        return about(log, self._run_id, index, code=f"secagg.{code}" if code else "")


def _context(data: bytes) -> RoundContext:
    return decode_context(RoundStart.decode(data).context)


def _limits(policy: Policy) -> Limits:
    """What the policy demands of an attempt, as the machine checks it."""
    secure = policy.secure
    return Limits(
        min_cohort=policy.smallest_sum,
        gamma_ppm=ppm(secure.colluders),
        profile=Profile.MALICIOUS if secure.profile == "malicious" else Profile.HBC,
        contributions_per_model=secure.contributions_per_model,
        contributions_per_data=secure.contributions_per_data,
    )


def _named(fault: Fault) -> AimassError:
    """The fault as it stands in the log, with what a person can do."""
    error = fault.error()
    cure = _CURES.get(fault.code, "")
    return type(error)(error.what, code=error.code, value=fault.value, limit=fault.limit, cure=cure)
