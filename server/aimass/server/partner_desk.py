"""What partners say on their control streams, turned into events of their runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Final

from aimass.privacy.roster import Roster
from aimass.privacy.transcript import Chain, check_head, check_head_seen
from aimass.proto.errors import BadInput, Refused, Unauthenticated, printable
from aimass.proto.logs import about
from aimass.proto.names import Name
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import convert
from aimass.proto.views import ParticipantState, SlotState
from aimass.server import messages, runs, steps
from aimass.server.engine import Engine
from aimass.server.live import Live, Outbox
from aimass.server.secure_desk import SecureDesk
from aimass.server.store import News, Store
from aimass.server.studies import StudyDesk

__all__ = ["PartnerDesk"]

log = logging.getLogger("aimass.server")
_MOST_RUNS: Final = 1_000
_HEAD: Final = re.compile(r"[0-9a-f]{64}")


class PartnerDesk:
    """One method for each message; strangers, repeats and latecomers change nothing."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        roster: Callable[[], Roster],
        outbox: Outbox,
        secure: SecureDesk,
        studies: StudyDesk | None = None,
    ) -> None:
        self._engine, self._store, self._roster, self._outbox = engine, store, roster, outbox
        self._secure, self._studies = secure, studies

    def arrives(self, partner: str) -> None:
        """A partner can be spoken to from now on; its runs' news wait until it is brought up to date."""
        for live in self._engine.lives():
            if partner in live.row.run.participants:
                live.behind.add(partner)

    async def ledgers(self, partner: str) -> list[bytes]:
        """What a partner is given back of its privacy ledgers when it connects: before anything is asked of it."""
        return await self._engine.on_disk(self._store.ledgers, partner)

    async def connected(self, partner: str, marks: Sequence[pb.RunMark], studies: Sequence[str] = ()) -> None:
        """Bring a partner that has just connected to where its runs stand, and the `studies` that it reserves for."""
        self.arrives(partner)
        known = {mark.run_id: mark for mark in marks}
        for live in self._engine.lives():
            run = live.row.run
            mark = known.get(run.run_id)
            if partner not in run.participants or (run.state.final and mark is None):
                continue
            seen = mark.entries if mark else 0
            news = await self._engine.on_disk(self._store.news, run.run_id, partner, seen)
            fits = mark is None or await self._compare(live, partner, mark, news.head)
            async with live.lock:
                if seen + len(news.entries) != live.chain.entries:  # there is more of it meanwhile
                    news = await self._engine.on_disk(self._store.news, run.run_id, partner, seen)
                self._catch_up(live, partner, seen, news, fits=fits)
        for run_id in [run_id for run_id in known if self._engine.find(run_id) is None][:_MOST_RUNS]:
            about(log, partner=partner).warning("takes part in a run that is not known here: %s", ascii(run_id[:32]))
            self._outbox.send(partner, messages.unknown_run(run_id))
        if self._studies is not None:
            await self._studies.tell(partner, studies)

    async def _compare(self, live: Live, partner: str, mark: pb.RunMark, here: str | None) -> bool:
        """Whether what a partner holds of a run's history is part of what is held; `here` is the head after as many.

        It is, unless this server was restored. Then its own signature shows what it told later, and the run ends:
        written on, its history would fork. A mark without that proof ends nothing; such a partner is told the history,
        and leaves by itself.
        """
        run, seen = live.row.run, Chain(mark.entries, mark.head)
        if not seen.entries:
            return True
        fits = here == seen.head
        if not fits and not run.state.final:
            await self._behind(live, partner, seen, mark.signature)
        elif partner in run.unheard:
            await self._engine.apply(run.run_id, runs.Heard(partner=partner))
        return fits

    async def _behind(self, live: Live, partner: str, seen: Chain, signature: bytes) -> None:
        run_id = live.row.run_id
        try:
            check_head(run_id, seen, signature, self._engine.identity)
        except (Unauthenticated, ValueError):
            about(log, run_id, partner=partner).warning("claims another history, and shows no signature of this server")
            return
        about(log, run_id, partner=partner).error("holds a history that this server signed and does not have any more")
        reason = (
            f"run.restored_behind: this server was restored, and {partner} holds a newer history: {seen.entries} "
            f"entries to {seen.head[:16]}, and here {live.chain.entries} to {live.chain.head[:16]}"
        )
        await self._engine.apply(run_id, runs.Behind(reason=reason))

    def _catch_up(self, live: Live, partner: str, seen: int, news: News, *, fits: bool) -> None:
        run = live.row.run
        if run.state.final and not fits:
            live.behind.discard(partner)
            self._outbox.send(partner, messages.end_run(run))  # it holds the true history, and keeps it
            return
        live.behind.discard(partner)
        if not run.state.final:
            self._outbox.send(partner, messages.invite(live.row))
        self._engine.voice.history(live, [partner], seen, news.entries)
        for row in news.receipts:
            self._outbox.send(partner, messages.receipt(row))
        if run.state.final:
            self._outbox.send(partner, messages.end_run(run))
        member = run.participants[partner]
        if member.state is ParticipantState.EXCLUDED:
            self._outbox.send(partner, messages.standing(run.run_id, member.reason))
        for name, step, slot, deadline_at in run.places():
            if name == partner and slot.state is SlotState.ASKED:
                self._engine.voice.ask(live, step, deadline_at, [partner])
            elif name == partner and slot.state is SlotState.READY:
                self._secure.tell_again(run.run_id, step.index, partner)

    async def joined(self, partner: str, message: pb.Joined) -> None:
        """A partner takes part; it must have read the plan that was submitted."""
        live = self._engine.live(message.run_id)
        if message.plan_digest != live.row.plan_digest:
            raise BadInput("the partner read another plan", code="run.plan_digest", value=message.plan_digest)
        key = convert(Name, message.participant, "the participant key")
        member = live.row.run.participants.get(partner)
        if partner in live.row.run.unheard:
            await self._engine.apply(message.run_id, runs.Heard(partner=partner))
        if member is not None and member.state in (ParticipantState.JOINED, ParticipantState.EXCLUDED):
            if member.key != key:
                reason = f"run.participant_key: {partner} took part as {member.key} and now comes as {key}"
                await self._engine.apply(message.run_id, runs.Removed(partner=partner, reason=reason))
                raise BadInput(
                    "the participant key changed during the run",
                    code="run.participant_key",
                    value=key,
                    limit=member.key,
                )
            return
        event = runs.Joined(
            partner=partner, key=key, device=printable(message.device), confinement=printable(message.confinement)
        )
        await self._engine.apply(message.run_id, event)
        about(log, message.run_id, partner=partner).info("takes part as %s on %s", key, event.device)

    async def declined(self, partner: str, message: pb.Declined) -> None:
        """A partner does not take part, waits for a person, or leaves."""
        reason = messages.reason_of(message.fault)
        about(log, message.run_id, partner=partner, code=message.fault.code).info("declines: %s", reason)
        live = self._engine.live(message.run_id)
        if message.HasField("mark") and partner in live.row.run.participants:
            here = await self._engine.on_disk(self._store.head, message.run_id, message.mark.entries)
            await self._compare(live, partner, message.mark, here)
        member = live.row.run.participants.get(partner)
        if member is not None and member.state in (ParticipantState.JOINED, ParticipantState.EXCLUDED):
            await self._engine.apply(message.run_id, runs.Removed(partner=partner, reason=reason))
        else:
            pending = message.fault.code == "policy.approval_pending"
            await self._engine.apply(message.run_id, runs.Declined(partner=partner, reason=reason, pending=pending))
        if partner in live.row.run.unheard:
            await self._engine.apply(message.run_id, runs.Heard(partner=partner))

    async def step_failed(self, partner: str, message: pb.StepFailed) -> None:
        """A partner cannot do a step."""
        reason = messages.reason_of(message.fault)
        about(log, message.run_id, message.step, partner, message.fault.code).info("cannot do it: %s", reason)
        failed = steps.Failed(partner=partner, reason=reason)
        await self._engine.apply(message.run_id, runs.InStep(index=message.step, event=failed))

    async def ready(self, partner: str, message: pb.Ready) -> None:
        """A partner has encoded its input to a secure sum."""
        await self._secure.ready(partner, message)

    async def secagg(self, partner: str, message: pb.SecAgg) -> None:
        """A message of secure aggregation."""
        await self._secure.message(partner, message)

    async def head_seen(self, partner: str, message: pb.HeadSeen) -> None:
        """Keep a partner's signed word on the history, to be relayed to the others.

        It is stored with the next commit: what a crash loses comes again, because whoever connects is told the
        history, and answers.
        """
        live = self._engine.live(message.run_id)
        if partner not in live.row.run.participants:
            raise Refused("not a participant of this run", code="transcript.stranger", value=partner)
        if not _HEAD.fullmatch(message.head):
            raise BadInput("not a transcript head", code="transcript.head", value=ascii(message.head))
        chain = Chain(message.entries, message.head)
        if partner in live.heads and live.heads[partner][0] == chain:
            return
        member = self._roster().by_name.get(partner)
        if member is None:
            return
        check_head_seen(message.run_id, chain, message.signature, member.identity, partner)
        live.heads[partner] = chain, message.signature
        live.fresh_heads.add(partner)

    async def outside(self, members: frozenset[str], reason: str) -> None:
        """Take everybody who is not one of `members` out of every run, whenever they were removed."""
        for live in self._engine.lives():
            for name in sorted(set(live.row.run.participants) - members):
                if not live.row.run.state.final:
                    await self._engine.apply(live.row.run_id, runs.Removed(partner=name, reason=reason))
