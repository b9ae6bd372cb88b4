"""Studies at the server: whose they are, how many runs they have, and that they have ended.

A study begins with its first run and is nothing beside its runs but its end. The end is kept, so that a partner that
was away hears of it when it comes again: with each connection it names the studies that it holds privacy reserved for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import Conflict, NotFound, Refused, WrongState
from aimass.proto.plan import Plan
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import StudyView
from aimass.server.engine import Engine
from aimass.server.live import Outbox
from aimass.server.store import RunRow, Store

__all__ = ["StudyDesk"]

log = logging.getLogger("aimass.server")
_MOST: Final = 1_000
"""Studies of which one partner asks at once."""


class StudyDesk:
    """Takes runs into their studies, and ends them. Whoever calls sees to it that two calls do not overlap."""

    def __init__(self, engine: Engine, store: Store, outbox: Outbox) -> None:
        self._engine, self._store, self._outbox = engine, store, outbox

    def _runs(self, study: str) -> list[RunRow]:
        """The runs of a study, oldest first."""
        rows = (live.row for live in self._engine.lives())
        return [row for row in rows if row.run.plan.study is not None and row.run.plan.study.id == study]

    async def check(self, plan: Plan, owner: str) -> None:
        """Raise what keeps a new run out of its study: another's, stated otherwise, full, or ended."""
        if plan.study is None:
            return
        runs = self._runs(plan.study.id)
        if runs and runs[0].owner != owner:
            raise Refused("this study belongs to somebody else", code="study.not_yours", value=plan.study.id[:8])
        if runs and runs[0].run.plan.study != plan.study:
            raise Conflict(
                "the study was begun with another section `study`",
                code="study.changed",
                value=plan.study.id[:8],
                cure="It is the same in all plans of a study, to the letter: draw another id for another one.",
            )
        if len(runs) >= plan.study.trials:
            raise Refused(
                "the study has all the runs that its plans name",
                code="study.trials",
                value=f"run {len(runs) + 1}",
                limit=plan.study.trials,
                cure="End it, and begin another of as many runs as are wanted.",
            )
        if await self._ended((plan.study.id,)):
            raise Refused(
                "this study has ended",
                code="study.ended",
                value=plan.study.id[:8],
                cure="Begin another: draw a new id.",
            )

    async def end(self, study: str, peer: Peer) -> StudyView:
        """End a study of the caller's; its partners free what its runs did not spend. Again it changes nothing.

        Raises `NotFound`, `Refused` for another's, `WrongState` while a run of it goes on.
        """
        runs = self._runs(study)
        if not runs:
            raise NotFound(
                "no run is of this study",
                code="study.unknown",
                value=study[:32],
                cure="Give its whole id: it stands in the plans of its runs, which aimass run show RUN --json has.",
            )
        if peer.role is not Role.OPERATOR and runs[0].owner != peer.name:
            raise Refused("this study belongs to somebody else", code="study.not_yours", value=study[:8])
        if going := [row.run_id[:8] for row in runs if not row.run.state.final]:
            raise WrongState(
                "runs of this study go on",
                code="study.running",
                value=", ".join(going[:5]) + (f" and {len(going) - 5} more" if len(going) > 5 else ""),
                cure="Wait for them, or stop them: aimass run stop RUN.",
            )
        await self._engine.on_disk(self._store.end_study, study, peer.name, self._engine.clock.now())
        log.info("study %s of %d runs was ended by %s", study[:8], len(runs), peer.name)
        for partner in sorted({name for row in runs for name in row.run.participants}):
            self._outbox.send(partner, _message(study))
        section = runs[0].run.plan.study
        return StudyView(id=study, runs=len(runs), trials=section.trials if section else 0, ended=True)

    async def tell(self, partner: str, studies: Sequence[str]) -> None:
        """Tell a partner which of the studies have ended that it holds privacy reserved for."""
        for study in await self._ended(tuple(studies[:_MOST])):
            self._outbox.send(partner, _message(study))

    async def _ended(self, studies: tuple[str, ...]) -> list[str]:
        return await self._engine.on_disk(self._store.ended_studies, studies) if studies else []


def _message(study: str) -> pb.ToPartner:
    return pb.ToPartner(study_ended=pb.StudyEnded(study=study))
