"""Takes the reports of offline runs, step after step, so that their models stand beside those of federated ones.

What is reported is the reporter's word, and its record says so; the bytes of models are checked as all others are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import Callable
from typing import Final

from aimass.privacy.roster import Roster
from aimass.privacy.transcript import Chain
from aimass.proto.errors import BadInput, Conflict, NotFound, WrongState
from aimass.proto.logs import about
from aimass.proto.origin import Origin
from aimass.proto.plan import decode_plan, plan_digest
from aimass.proto.reports import ReportedRun, StepReport
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState, StepSummary, StepView
from aimass.server import runs
from aimass.server.aggregation.summary import compared
from aimass.server.commits import created_entry, reported_commit
from aimass.server.engine import Engine
from aimass.server.live import Live
from aimass.server.run_views import reported_view
from aimass.server.store import Commit, ModelRow, RunRow, Store
from aimass.server.store_threads import StoreThreads
from aimass.server.submission import check_model, check_promote, check_same

__all__ = ["Reports"]

log = logging.getLogger("aimass.server")
_ALL: Final = 1_000_000
_AT_ONCE: Final = 4
"""Models that are looked at together: where their store hangs, those that report wait for each other alone."""
_ENDS: Final = (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)


class Reports:
    """One for a server. Whoever reports again after a broken link, or a kill, is told where the record stands."""

    def __init__(
        self, engine: Engine, store: Store, blobs: Blobs, roster: Callable[[], Roster], room: Callable[[], None]
    ) -> None:
        """`room` raises `OutOfSpace` where there is none for new work."""
        self._engine, self._store, self._blobs, self._roster, self._room = engine, store, blobs, roster, room
        self.promotes = False
        """As in `Submission`."""
        self._one_at_a_time = asyncio.Lock()
        self._threads = StoreThreads(_AT_ONCE, "reports")

    async def begin(
        self,
        plan_bytes: bytes,
        key: str,
        origin: Origin,
        owner: str,
        job: Callable[[str], runs.Job] | None = None,
        admit: Callable[[], None] = lambda: None,
    ) -> ReportedRun:
        """Record a new offline run; the same key gives the same run, with the step that it is to report next.

        With a `job`, made of the run's id, it is this server that sees to its driver. `admit` raises what stands in the
        way of a new one.

        Raises `Conflict` for a key of another plan, origin or driver, `NotFound` where the first model was not sent
        before.
        """
        run_id = secrets.token_hex(16)
        offline = runs.Offline(origin=origin, job=None if job is None else job(run_id))
        return await self._engine.whole(self._begin(run_id, plan_bytes, key, owner, offline, admit))

    async def _begin(
        self,
        run_id: str,
        plan_bytes: bytes,
        key: str,
        owner: str,
        offline: runs.Offline,
        admit: Callable[[], None],
    ) -> ReportedRun:
        async with self._one_at_a_time:
            if (held := await self._engine.on_disk(self._store.run_of_key, key)) is not None:
                return self._same(self._engine.live(held).row, plan_bytes, offline)
            admit()
            self._room()
            row = await self._threads.run(self._row, run_id, plan_bytes, owner, offline)
            entry = created_entry(row)
            await self._engine.on_disk(self._store.create, row, key, entry)
            data_set = offline.origin.data_set
            about(log, row.run_id).info("%s, offline over %s, of %s", row.run.plan.name, data_set, owner)
            self._engine.meters.runs_submitted.add()
            self._engine.record(Live(row, entry.chain))
            return _standing(row.run)

    def open_of(self, owner: str) -> int:
        """Runs of a person that this server sees to and that have not ended."""
        rows = (live.row for live in self._engine.lives() if live.row.owner == owner)
        return sum(_sees_to(row.run) and not row.run.state.final for row in rows)

    def _row(self, run_id: str, plan_bytes: bytes, owner: str, offline: runs.Offline) -> RunRow:
        plan = decode_plan(plan_bytes)
        if plan.task.kind == "app":
            raise BadInput("a Flower app does not run offline", code="report.app", value=plan.task.name)
        check_promote(plan, promotes=self.promotes)
        check_model(self._blobs, plan)
        run = runs.Run(
            run_id=run_id,
            plan=plan,
            participants={},
            model=plan.model,
            state=RunState.RUNNING,
            offline=offline,
        )
        now = self._engine.clock.now()
        return RunRow(run.run_id, owner, now, None, plan_bytes, plan_digest(plan_bytes), self._roster().digest, run)

    def _same(self, row: RunRow, plan_bytes: bytes, offline: runs.Offline) -> ReportedRun:
        check_same(row, plan_bytes)
        held, origin = _offline(row.run).origin, offline.origin
        if (held.data_set, held.manifest, held.shards) != (origin.data_set, origin.manifest, origin.shards):
            raise Conflict(
                "the run under this key is over other data",
                code="report.data",
                value=f"{origin.data_set} {origin.manifest[:16]}",
                limit=f"{held.data_set} {held.manifest[:16]}",
                cure="Give this run a key of its own.",
            )
        if (driven := _driven(_offline(row.run))) != (asked := _driven(offline)):
            raise Conflict(
                "the run under this key has another driver",
                code="report.driver",
                value=asked,
                limit=driven,
                cure="Give this run a key of its own.",
            )
        return _standing(row.run)

    async def step(self, run_id: str, report: StepReport) -> ReportedRun:
        """Record a step. One that is recorded already changes nothing, and has to be the same.

        Raises `Conflict` where it is not, `WrongState` for one that is not the next, `NotFound` where its model was not
        sent before, `BadInput` for a model with a number that is not finite.
        """
        return await self._engine.whole(self._step(run_id, report))

    async def _step(self, run_id: str, report: StepReport) -> ReportedRun:
        """Held as a step that is summed: no equal run's pruning deletes the model before it is on record."""
        async with self._engine.live(run_id).reducing:
            return await self._stepped(run_id, report)

    async def _stepped(self, run_id: str, report: StepReport) -> ReportedRun:
        run = self._engine.live(run_id).row.run
        _offline(run)
        if report.index < run.next_index:
            await self._engine.on_disk(self._check_told, run_id, report)
            return _standing(run)
        if run.state.final:
            raise WrongState(
                f"the record of this run is {run.state}: {run.reason}", code="report.ended", value=run.state,
                cure="Its operator ended it; begin a run of its own.",
            )  # fmt: skip
        self._room()
        new = report.model not in ("", _offline(run).model or run.model)
        here = report.sent and (not new or await self._engine.on_disk(self._may_have, run, report.model))
        size, summary = await self._threads.run(self._looked_at, run, report.model) if new and here else (0, None)
        now = self._engine.clock.now()
        view = reported_view(report, now, report.model if new else "", summary)
        made = (ModelRow(run_id, report.index, report.model, report.round, size, now),) if new and here else ()
        commit = functools.partial(_commit, run_id, view, made[0].digest if made else run.model, made)
        event = runs.Reported(index=report.index, round=report.round, model=view.model, here=here)
        return _standing(await self._engine.reported(run_id, event, commit))

    def _may_have(self, run: runs.Run, model: str) -> bool:
        """Whether a run may be given the bytes of a model by its digest: not where runs of others alone have them.

        Who sends what is here already sends nothing, so a digest would be all that it takes to read another's model. Of
        an equal run of somebody else the record has the figures alone.
        """
        if _offline(run).job is not None:  # this server computed it
            return True
        mine = self._engine.live(run.run_id).row.owner
        owners = {self._engine.live(row.run_id).row.owner for row in self._store.models("", model, _ALL)}
        first = {live.row.owner for live in self._engine.lives() if live.row.run.plan.model == model}
        return mine in owners or not (owners | first) - {mine}

    def _check_told(self, run_id: str, report: StepReport) -> None:
        (told,) = self._store.steps(run_id, [report.index])
        before = told.kind, told.round, told.purpose, {name: one.mean for name, one in told.metrics.items()}
        again = report.kind, report.round, report.purpose, {name: one.mean for name, one in report.metrics.items()}
        if before != again or (told.model and told.model != report.model):
            raise Conflict(
                "this step was reported otherwise before: two runs report under one key, or one is not reproducible",
                code="report.other",
                value=f"step {report.index}: {report.model[:16] or report.kind}",
                limit=told.model[:16] or told.kind,
                cure="aimass offline compare shows where two runs part.",
            )

    def _looked_at(self, run: runs.Run, model: str) -> tuple[int, StepSummary | None]:
        """Bytes of a model that was sent before, and how it differs from the one before it. It blocks."""
        if not self._blobs.has(model):
            raise NotFound(
                "the model of this step is not here", code="report.model", value=model, cure="Send it, then report."
            )
        made, first = self._blobs.open(model), Blob(self._blobs.open(run.plan.model))
        if not self._blobs.has(run.model) or _offline(run).model not in ("", run.model):
            return len(made), None  # pruned meanwhile, or not the one before: that one never came
        before = run.model_before
        earlier = Blob(self._blobs.open(before)) if before and self._blobs.has(before) else None
        return len(made), compared(first, earlier, Blob(self._blobs.open(run.model)), Blob(made))

    async def end(self, run_id: str, state: str, reason: str) -> ReportedRun:
        """Record how it ended; said again of a run that has ended so, it changes nothing."""
        run = self._engine.live(run_id).row.run
        _offline(run)
        if state not in _ENDS:
            raise BadInput("no run ends in this state", code="report.state", value=state, limit=", ".join(_ENDS))
        if run.state.final and run.state != state:
            raise WrongState("the record of this run has ended", code="report.ended", value=run.state, limit=state)
        return _standing(await self._engine.apply(run_id, runs.ReportedEnd(state=RunState(state), reason=reason[:500])))


def _commit(run_id: str, view: StepView, model: str, made: tuple[ModelRow, ...], chain: Chain) -> Commit:
    return reported_commit(run_id, chain, view, model, made)


def _offline(run: runs.Run) -> runs.Offline:
    if run.offline is None:
        raise WrongState(
            "this run computes at partners, and is not reported",
            code="report.federated",
            value=run.run_id,
            cure="Report under a key of its own.",
        )
    return run.offline


def _sees_to(run: runs.Run) -> bool:
    return run.offline is not None and run.offline.job is not None


def _driven(offline: runs.Offline) -> str:
    """Who sees to a run's driver, in words."""
    return "somebody else, who reports it" if offline.job is None else "this server"


def _standing(run: runs.Run) -> ReportedRun:
    return ReportedRun(run_id=run.run_id, state=run.state, next_step=run.next_index)
