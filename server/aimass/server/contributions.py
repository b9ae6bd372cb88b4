"""Contributions as they arrive: who may send which bytes now, what they must hold, and when they are acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from aimass.proto.clock import Stopwatch
from aimass.proto.compression import Codec
from aimass.proto.contribution import Limits, decode_contribution, most_bytes
from aimass.proto.errors import AimassError, Conflict, LimitExceeded, NotFound, Refused, WrongState
from aimass.proto.logs import about
from aimass.proto.pages import PartReader
from aimass.proto.sent import Sent, check_sent, codec_of
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.storage import Blobs, Spool, map_file
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader
from aimass.proto.views import ParticipantState, SlotState
from aimass.server import runs, steps
from aimass.server.commits import ledger_commit
from aimass.server.drivers.base import Checking, ExpectedGroups, Listener
from aimass.server.engine import Engine, spool_key
from aimass.server.resumption import needed_models
from aimass.server.secure_desk import SecureDesk

__all__ = ["Contributions"]

log = logging.getLogger("aimass.server")


class Contributions:
    """The way of a contribution from the wire into its slot, and of a step's inputs out to its participants."""

    def __init__(self, engine: Engine, blobs: Blobs, spool: Spool, limits: Limits, secure: SecureDesk) -> None:
        self._engine, self._blobs, self._spool, self._limits = engine, blobs, spool, limits
        self._secure = secure
        self._accepting: dict[str, asyncio.Task[None]] = {}

    def key(self, partner: str, header: SubmitHeader) -> str:
        """Where a contribution's bytes go, if this partner may send it now.

        Raises `NotFound`, `Refused`, or `WrongState` for a step that is not open or was answered.
        """
        run = self._engine.live(header.run_id).row.run
        if partner not in run.participants:
            raise Refused("not a participant of this run", code="submit.stranger", value=partner)
        if (run.plan.secure is not None) != bool(header.masked):
            wanted = "masked inputs" if run.plan.secure is not None else "plain contributions"
            raise Refused(f"the plan's sums are made of {wanted}", code="submit.masked", value=header.step)
        if header.masked:
            return self._secure.key(partner, header)
        place = run.place(partner, header.step)
        if place is None:
            raise WrongState(
                "the step is not open",
                code="submit.step_closed",
                value=header.step,
                limit=", ".join(run.open) or "none",
            )
        _, slot = place
        if slot.state is SlotState.STORED and slot.digest != header.digest:
            raise Conflict("another contribution is stored for this step", code="submit.twice", value=header.digest)
        if slot.state not in (SlotState.ASKED, SlotState.STORED):
            raise WrongState(
                f"this step's contribution is {slot.state}: {slot.reason}", code="submit.resolved", value=header.step
            )
        return spool_key(header.run_id, header.step, partner)

    async def check_size(self, partner: str, header: SubmitHeader) -> None:
        """Refuse more bytes than a contribution to this step can have, before the first of them is taken."""
        run = self._engine.live(header.run_id).row.run
        place = run.place(partner, header.step)
        if place is None or header.masked:  # a masked input has the one size of its attempt, which its key has checked
            return
        expected, _ = await self._expected(partner, header, run, place[0])
        most = None if expected is None else most_bytes(expected, self._limits)  # as much as the link takes
        if most is not None and header.size > most:
            error = LimitExceeded(
                "more than a contribution to this step can have", code="submit.size", value=header.size, limit=most
            )
            await self._refuse(partner, header, error)
            raise error

    async def _refuse(self, partner: str, header: SubmitHeader, error: AimassError) -> None:
        about(log, header.run_id, header.step, partner).warning("contribution refused: %s", error)
        self._engine.meters.contributions.add("refused", error.code)
        refused = steps.Refused(partner=partner, reason=f"{error.code}: {error.sentence()}")
        await self._engine.apply(header.run_id, runs.InStep(index=header.step, event=refused))

    def stored(self, partner: str, header: SubmitHeader) -> bool:
        """Whether exactly this contribution was acknowledged before, also in a step that has closed since."""
        live = self._engine.find(header.run_id)
        return live is not None and (
            _holds(live.row.run, partner, header) or (bool(header.masked) and self._secure.stored(partner, header))
        )

    async def accept(self, partner: str, header: SubmitHeader, path: Path) -> None:
        """Check a spooled contribution and record it, to the end even where the stream that brought it is cut; then it
        may be acknowledged.

        Raises the named reason for which it was refused; the refusal is recorded and the step goes on.
        """
        key = self.key(partner, header)
        work = self._accepting[key] = asyncio.ensure_future(
            self._engine.whole(self._accept(key, partner, header, path))
        )
        work.add_done_callback(lambda _: self._accepting.pop(key, None))
        await asyncio.shield(work)

    async def settled(self, key: str) -> None:
        """What is being accepted under `key` is recorded or refused: until then nothing may be written over it."""
        if (work := self._accepting.get(key)) is not None:
            await asyncio.wait({work})

    async def _accept(self, key: str, partner: str, header: SubmitHeader, path: Path) -> None:
        if header.masked:
            await self._secure.accept(partner, header, path)
            return
        run = self._engine.live(header.run_id).row.run
        place = run.place(partner, header.step)
        if place is None:
            raise WrongState("the step is not open", code="submit.step_closed", value=header.step)
        step, _ = place
        # Stays readable where the step closes, and its files go, while the model is opened.
        data = map_file(path, keep_file=True)
        expected, codec = await self._expected(partner, header, run, step)
        watch, step_log = Stopwatch(), about(log, run.run_id, step.index, partner)
        try:
            await asyncio.to_thread(self._check, run, step, expected, codec, data)
        except AimassError as error:
            await self._refuse(partner, header, error)
            await self._engine.on_disk(self._spool.discard, key)
            raise
        del data  # around its header the kernel has mapped more, and many may wait for the same transaction
        stored = steps.Stored(partner=partner, digest=header.digest, ledger=header.ledger)
        event = runs.InStep(index=header.step, event=stored)
        after = await self._engine.apply(header.run_id, event, ledger_commit(partner, header.ledger))
        if not _holds(after, partner, header):
            # The step closed while the last bytes were checked: an acknowledgement would be a lie.
            self._engine.meters.contributions.add("late", "submit.late")
            await self._engine.on_disk(self._spool.discard, key)
            raise WrongState(
                "the step closed before this contribution was checked", code="submit.late", value=step.index
            )
        watch.lap("checked and stored")
        self._engine.meters.contributions.add("stored", "")
        step_log.info("contribution %s, %d bytes", watch, header.size)

    async def _expected(
        self, partner: str, header: SubmitHeader, run: runs.Run, step: Step
    ) -> tuple[ExpectedGroups | None, Codec | None]:
        """What the step's contributions hold, and how its updates are compressed. Where this server cannot say it, the
        run ends, and no partner is blamed.

        Raises `WrongState` then: the contribution is not wanted any more.
        """

        def expected() -> tuple[ExpectedGroups | None, Codec | None]:
            driver = self._engine.drivers[run.plan.stages[run.stage].driver]
            layout = Blob(self._blobs.open(step.inputs[0])).layout
            return driver.expects(step, layout, run.plan), codec_of(run.plan, step, layout)

        try:
            return await asyncio.to_thread(expected)
        except AimassError as error:
            self.key(partner, header)  # a step that is over needs its model no more
            about(log, run.run_id, step.index).error("the run cannot go on: the step's input: %s", error)
            reason = f"server.input: the server cannot use the model of step {step.index}: {error.sentence()}"
            with contextlib.suppress(WrongState):  # another contribution found it first
                await self._engine.apply(run.run_id, runs.Change(change="fail", reason=reason))
            raise WrongState("the run ended by a fault of the server", code="server.input", value=step.index) from error

    async def input_gone(self, run_id: str, digest: str) -> None:
        """A partner asks for a model that is not on this disk: where its run cannot go on without it, the run ends.

        The partner would be blamed for a step that it cannot do.
        """
        live = self._engine.live(run_id)
        if digest in needed_models(live.row.run):
            error = NotFound(
                "the model of an open step is gone from the server", code="server.input", value=digest[:16]
            )
            await self._engine.give_up(live, error)

    def _check(
        self, run: runs.Run, step: Step, expected: ExpectedGroups | None, codec: Codec | None, data: memoryview
    ) -> None:
        contribution = decode_contribution(Blob(data))
        # The norm's limit is for updates. Sums over rows are as large as a partner has rows, and a reply is what it is.
        an_update = step.kind is StepKind.TRAIN and step.reduce is Reduce.SUM
        limits = self._limits if an_update else replace(self._limits, norm=self._limits.metric)
        check_sent(Sent(contribution, codec), expected, limits, PartReader())
        driver = self._engine.drivers[run.plan.stages[run.stage].driver]
        if step.reduce is Reduce.COLLECT and isinstance(driver, Listener):
            driver.check_reply(contribution)
        if isinstance(driver, Checking):
            model = Blob(self._blobs.open(step.inputs[0]))
            for group in contribution.groups.values():
                driver.check_sums(run.plan, step, model, group.tensors)

    def may_fetch(self, partner: str, run_id: str, digest: str) -> bool:
        """Whether who takes part may read a blob: the inputs of the steps that it works on, or could look at.

        Whoever is invited may read the base of the plan, and the model that a plan explains or that its study is priced
        by: what that takes of the own rows, or of the own budget, is shown before anybody approves it.
        """
        live = self._engine.find(run_id)
        if live is None:
            return False
        run = live.row.run
        based = run.plan.base is not None and digest == run.plan.base.digest
        noised = run.plan.secure is not None and run.plan.secure.noise is not None
        shown = run.plan.explain is not None or (run.plan.study is not None and noised)
        if based or (shown and digest == run.plan.model):
            member = run.participants.get(partner)  # it is needed before one can join
            return not run.state.final and member is not None and member.state is not ParticipantState.REMOVED
        if partner not in run.joined:
            return False
        worked_on = {step.index: step for name, step, _, _ in run.places() if name == partner}
        opened = {state.step.index: state.step for state in run.open.values()}
        return any(digest in step.inputs_of(partner) for step in (worked_on | opened).values())


def _holds(run: runs.Run, partner: str, header: SubmitHeader) -> bool:
    """Whether exactly this contribution has its place, also in a step that is closing."""
    closing = (
        state.slots[partner]
        for state in run.open.values()
        if partner in state.slots and state.origin(partner).index == header.step
    )
    late = (held.slot for name, held in run.carried.items() if name == partner and held.step.index == header.step)
    return any(slot.digest == header.digest for slot in (*late, *closing))
