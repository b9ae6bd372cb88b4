"""How a run begins: the plan is checked against drivers, model and roster, recorded, and its partners are invited."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aimass.privacy.pki import Peer
from aimass.privacy.roster import Roster
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.parameters import corrupted, quorum
from aimass.privacy.secagg.rounds import lanes_of, ppm
from aimass.proto.elements import FLOATS
from aimass.proto.errors import BadInput, Conflict, NotFound, Refused
from aimass.proto.logs import about
from aimass.proto.own_layers import check_keep_local
from aimass.proto.plan import Plan, SecureSettings, decode_plan, plan_digest
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Blob, Layout
from aimass.proto.views import ParticipantState, StudyView
from aimass.server import run_machine, runs
from aimass.server.commits import created_entry
from aimass.server.drivers.base import ExpectedGroups
from aimass.server.engine import Engine
from aimass.server.live import Live
from aimass.server.store import RunRow, Store
from aimass.server.store_threads import StoreThreads
from aimass.server.studies import StudyDesk

__all__ = ["Submission", "check_model", "check_promote", "check_same", "check_stages", "cohort"]

log = logging.getLogger("aimass.server")
_AT_ONCE: Final = 4
"""First models that are looked at together: where their store hangs, those that submit wait for each other alone."""


class Submission:
    """Takes plans. One at a time, so that an idempotency key that comes twice at once gives one run; apps are tried
    before that, so that one that is slow keeps nobody waiting."""

    def __init__(
        self, engine: Engine, store: Store, blobs: Blobs, roster: Callable[[], Roster], room: Callable[[], None]
    ) -> None:
        """`room` raises `OutOfSpace` where there is none for new work."""
        self._engine, self._store, self._blobs, self._roster, self._room = engine, store, blobs, roster, room
        self.probe: Callable[[Plan, Sequence[str]], Awaitable[None]] | None = None
        """Tries the app of a plan before it is taken; raises what stands in the way."""
        self.promotes = False
        """Whether this server publishes models where a plan asks for it."""
        self.studies: StudyDesk | None = None
        """Takes a run into its study, or says why not."""
        self._one_at_a_time = asyncio.Lock()
        self._threads = StoreThreads(_AT_ONCE, "plans")

    async def submit(self, plan_bytes: bytes, key: str, owner: str) -> str:
        """Check and record a new run and invite its partners; its id. The same key gives the same run.

        Raises `Conflict` for a key under which another plan was submitted, `BadInput` for a plan or model that does not
        fit, `NotFound` for a driver or a model that is not here.
        """
        return await self._engine.whole(self._submit(plan_bytes, key, owner))

    async def _submit(self, plan_bytes: bytes, key: str, owner: str) -> str:
        if (known := await self._held(key, plan_bytes)) is not None:
            return known
        await self._try(plan_bytes)
        async with self._one_at_a_time:
            if (known := await self._held(key, plan_bytes)) is not None:
                return known
            self._room()
            row = await self._row(plan_bytes, owner)
            if self.studies is not None:
                await self.studies.check(row.run.plan, owner)
            entry = created_entry(row)
            await self._engine.on_disk(self._store.create, row, key, entry)
            plan, names = row.run.plan, sorted(row.run.participants)
            about(log, row.run_id).info("%s, submitted by %s: %d partners invited", plan.name, owner, len(names))
            self._engine.meters.runs_submitted.add()
            await self._engine.begin(Live(row, entry.chain))
            return row.run_id

    async def end_study(self, study: str, peer: Peer) -> StudyView:
        """End a study between two submissions; raises as `StudyDesk.end` does."""
        if self.studies is None:
            raise NotFound("no run is of this study", code="study.unknown", value=study[:32])
        async with self._one_at_a_time:
            return await self.studies.end(study, peer)

    async def _held(self, key: str, plan_bytes: bytes) -> str | None:
        held: str | None = await self._engine.on_disk(self._store.run_of_key, key)
        if held is not None:
            check_same(self._engine.live(held).row, plan_bytes)
        return held

    async def _try(self, plan_bytes: bytes) -> None:
        """Probe the app of a plan that is good for the rest."""
        if decode_plan(plan_bytes).task.kind == "app" and self.probe is not None:
            self._room()
            run = (await self._row(plan_bytes, "")).run
            await self.probe(run.plan, sorted(run.participants))

    async def _row(self, plan_bytes: bytes, owner: str) -> RunRow:
        plan = decode_plan(plan_bytes)
        check_promote(plan, promotes=self.promotes)
        layout = await self._threads.run(self._layout, plan)
        roster = self._roster()
        names = cohort(plan, roster.partners)
        check_stages(plan, self._engine.drivers, layout, names)
        run = runs.Run(
            run_id=secrets.token_hex(16),
            plan=plan,
            model=plan.model,
            participants={name: runs.Participant() for name in names},
        )
        now = self._engine.clock.now()
        return RunRow(run.run_id, owner, now, None, plan_bytes, plan_digest(plan_bytes), roster.digest, run)

    def _layout(self, plan: Plan) -> Layout:
        check_model(self._blobs, plan)
        return Blob(self._blobs.open(plan.model)).layout


def check_same(row: RunRow, plan_bytes: bytes) -> None:
    """Raise `Conflict` where a run that stands under a key is of another plan."""
    if row.plan_digest != plan_digest(plan_bytes):
        raise Conflict(
            f"another plan was submitted under this key, as run {row.run_id[:8]}",
            code="run.key_reused",
            value=plan_digest(plan_bytes)[:16],
            limit=row.plan_digest[:16],
            cure="Give this plan a key of its own, or none.",
        )


def check_model(blobs: Blobs, plan: Plan) -> None:
    """Raise `NotFound` where a plan's first model is not here. It blocks."""
    if not blobs.has(plan.model):
        raise NotFound(
            "the plan's first model is not here",
            code="plan.model",
            value=plan.model,
            cure="Upload it first; `aimass run submit` does.",
        )


def check_promote(plan: Plan, *, promotes: bool) -> None:
    """Raise `Refused` where a plan asks for a registry that this server does not have."""
    if plan.promote is not None and not promotes:
        raise Refused(
            "the plan asks for its model to be published, and this server has no registry",
            code="run.no_registry",
            value=plan.promote.model,
            cure="Its operator names one in [registry] of server.toml; or leave [promote] out of the plan.",
        )


def cohort(plan: Plan, partners: Sequence[str]) -> tuple[str, ...]:
    """Who is invited, sorted: whom the plan names, or all of `partners`.

    Raises `BadInput` where these lack some, or where weights are given to others.
    """
    unknown = sorted(set(plan.cohort.partners) - set(partners))
    names = plan.cohort.partners or partners
    if unknown or not names or plan.cohort.quorum > len(names):
        raise BadInput(
            "the plan's cohort does not fit the roster",
            code="plan.cohort",
            value=", ".join(unknown) or plan.cohort.quorum,
            limit=", ".join(partners) or "no partners",
            cure="Name enrolled partners and a quorum they can reach.",
        )
    if misnamed := sorted(set(plan.cohort.weights) - set(names)):
        raise BadInput(
            "the plan's weights name partners that are not invited",
            code="plan.weights",
            value=", ".join(misnamed),
            limit=", ".join(names),
            cure="Correct the names under `weights`.",
        )
    return tuple(sorted(names))


def check_stages(plan: Plan, drivers: run_machine.Drivers, layout: Layout, names: Sequence[str]) -> None:
    """Every driver accepts its stage, and the model has what the first steps of each expect, in secret if need be.

    What partners keep to themselves is there too, and leaves something to share.
    """
    check_keep_local(layout, plan.train.keep_local)
    for index, stage in enumerate(plan.stages):
        driver = drivers[stage.driver]
        driver.check(plan, stage)
        probe = runs.Run(
            run_id="0" * 32,
            plan=plan,
            model=plan.model,
            stage=index,
            participants={name: runs.Participant(state=ParticipantState.JOINED, key=name) for name in names},
        )
        context = run_machine.context(probe)
        proposed = driver.next(driver.start(context, plan.model), context)
        for step in proposed if isinstance(proposed, tuple) else ():
            groups = driver.expects(step, layout, plan)
            if plan.secure is not None:
                _check_lanes(plan, plan.secure, step, groups or {})


def _check_lanes(plan: Plan, secure: SecureSettings, step: Step, groups: ExpectedGroups) -> None:
    try:
        lanes_of(plan, step, groups)
    except FaultError as error:
        raise BadInput(
            f"the plan's secure sums cannot be made: {error.fault.what}",
            code="plan.secure",
            value=error.fault.value,
            limit=error.fault.limit,
            cure=_cure(error.fault.code, secure, step, groups),
        ) from error


def _cure(code: Code, secure: SecureSettings, step: Step, groups: ExpectedGroups) -> str:
    """What makes the sums possible; of noise, the first of its conditions that does not hold."""
    noise = secure.noise
    if noise is None or step.kind is not StepKind.TRAIN:
        return "Change the numbers of [secure]."
    if len(step.participants) > noise.members:
        return f"Set secure.noise.members to {len(step.participants)} or more, or a smaller cohort.sample."
    least = quorum(noise.members, corrupted(noise.members, ppm(secure.colluders)))
    if secure.min_cohort < least:
        return f"Set secure.min_cohort, and cohort.quorum, to {least} or more: or plan for fewer members or colluders."
    if any(dtype not in FLOATS for tensors in groups.values() for dtype, _ in tensors.values()):
        return "Use a model without counters: other layers in the place of batch norm, as aimass task check names them."
    if noise.adaptive is not None and noise.multiplier >= noise.members / 10:
        return "Leave secure.noise.adaptive out: votes of so few partners cost more than the whole noise leaves."
    if code is Code.POLICY:
        return "Set secure.bits higher, or secure.noise.multiplier, or take Skellam noise."
    return "Set secure.bits lower, or take discrete Gaussian noise; and look at the numbers of [secure.noise]."
