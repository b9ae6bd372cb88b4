"""What a run needs to do a step here: the model, the training child, the gate, and the files that survive a crash."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from aimass.client.base_fetch import provide
from aimass.client.budget import Debit
from aimass.client.child import ChildDied, ChildFailed, Made, Worker
from aimass.client.child_group import start_children
from aimass.client.flower_source import AppSource, Seen, app_seed, app_source
from aimass.client.inputs import Inputs
from aimass.client.journal import JournalLine
from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.personal_models import PersonalModels
from aimass.client.policy import Policy
from aimass.client.preview import MOST_STEPS, Preview, first_step, preview_of, unnoised
from aimass.client.release import Facts, Released, check_allowed, release
from aimass.client.run_folder import RunFolder, lacking
from aimass.client.uplink import Uplink
from aimass.client.worker_protocol import Opened, Order, order_of
from aimass.privacy.dp.private_terms import sent_elements, trained_elements, units_of
from aimass.proto.asking import asked_in
from aimass.proto.bases import check_planned
from aimass.proto.clock import Clock, Stopwatch
from aimass.proto.contribution import Contribution, decode_contribution
from aimass.proto.errors import AimassError, DeadlinePassed, Refused, WrongState
from aimass.proto.hashing import file_digest
from aimass.proto.logs import about
from aimass.proto.manifest import ShardManifest
from aimass.proto.personal import PERSONAL
from aimass.proto.plan import Plan, Study, costliest_run
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import map_file
from aimass.proto.task import TaskSource, locate
from aimass.proto.tensors import Blob, Layout

if TYPE_CHECKING:
    from aimass.privacy.dp.ledger_state import Ledger

__all__ = ["Product", "StartWorker", "Workbench", "start_worker"]

log = logging.getLogger("aimass.client")
_MAX_BLOB: Final = 8 << 30
_TRIES: Final = 2
StartWorker = Callable[[TaskSource | AppSource, ShardManifest, Partner], Awaitable[Worker]]


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """What a step's work came to: what the gate lets leave, the local state to keep if it counts, and, where a privacy
    ledger accounts for it, the debit and how many private steps were done."""

    released: Released
    state: bytes | memoryview
    debit: Debit | None = None
    steps: int = 0


async def start_worker(source: TaskSource | AppSource, manifest: ShardManifest, partner: Partner) -> Worker:
    """The real child, or several that train together."""
    base = source.base if isinstance(source, TaskSource) else None
    return await start_children(
        source,
        manifest,
        partner.folder / "data",
        partner.secret_file,
        partner.folder / "state" / "scratch",
        partner.settings.child,
        None if base is None else partner.bases.path(base),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """The rows that answer a plan, by what policy and manifest said at one moment: one step has one answer."""

    policy: Policy
    data_set: str
    manifest: ShardManifest


def _summed(plan: Plan, study: Study, layout: Layout) -> int:
    return sent_elements(costliest_run(plan, study), layout)


class Workbench:
    """One run's. Its child is warm from the decision to take part until the run is left, or until policy or manifest
    name other rows: what a child has read is what a step's ledger is debited for."""

    def __init__(
        self,
        run_id: str,
        partner: Partner,
        folder: RunFolder,
        meters: DaemonMeters,
        uplink: Uplink,
        clock: Clock,
        start: StartWorker,
    ) -> None:
        self._run_id, self._partner, self._folder = run_id, partner, folder
        self._uplink, self._clock, self._start = uplink, clock, start
        self._inputs = Inputs(run_id, partner, uplink, meters)
        self._meters = meters
        self._worker: Worker | None = None
        self._read: tuple[str, ShardManifest] | None = None
        """The data set that the child has read, and how it was split."""
        self._starting = asyncio.Lock()
        self._left = False

    def manifest(self, plan: Plan) -> ShardManifest:
        """The data set that the policy maps the plan's schema to; one with a budget is split row by row."""
        return self._rows(plan).manifest

    def _rows(self, plan: Plan) -> _Rows:
        policy = self._partner.policy
        if (data_set := policy.schemas.get(plan.data_schema)) is None:
            raise Refused(
                "the policy maps the plan's schema to no data set", code="policy.schema", value=plan.data_schema
            )
        manifest = self._partner.manifest(data_set)
        if (plan.task.kind == "app") != (manifest.format == "files"):
            raise Refused(
                "an app reads files, and a task reads rows: the data set is for the other",
                code="policy.data_format",
                value=manifest.format,
                cure="Map the plan's schema to another data set: aimass client data add --format.",
            )
        if policy.budgeted(data_set):
            manifest = msgspec.structs.replace(manifest, split="independent")
        return _Rows(policy, data_set, manifest)

    async def worker(self, plan: Plan, rows: _Rows | None = None) -> Worker:
        """The child of this run on `rows`, those of now without; a new one where there is none, or where the last one
        died or has read others.

        Raises `WrongState` where the run was left meanwhile: then there is none.
        """
        async with self._starting:
            wanted = rows or self._rows(plan)
            read = wanted.data_set, wanted.manifest
            if self._worker is None or not self._worker.alive or self._read != read:
                await self.close()
                source = self._source(plan)
                if plan.base is not None:
                    await provide(plan.base, self._partner, self._run_id, self._uplink, self._clock)
                self._meters.child_starts.add()
                self._worker, self._read = await self._start(source, wanted.manifest, self._partner), read
            worker = self._worker
            if self._left:
                await self.close()
                raise WrongState("the run was left while its child was started", code="session.left")
            return worker

    def _source(self, plan: Plan) -> TaskSource | AppSource:
        if plan.task.kind == "app":
            return app_source(self._partner.folder, self._partner.settings.name, self._run_id, plan)
        source = locate(plan.task.name)
        if source.digest != plan.task.digest:
            raise Refused(
                "the installed task is not the plan's",
                code="task.digest",
                value=source.digest,
                limit=plan.task.digest,
                cure="Install the same version of the task's package on both sides.",
            )
        check_planned(plan.base, source.base)
        return source

    async def compute(self, plan: Plan, step: Step, *, kept: bool = False) -> Product:
        """Fetch, work, pass the gate. `kept` says that there should be a local state, where the plan has one.

        Raises `Unavailable` for a broken link, `OutOfSpace` for a disk that is nearly full; nothing has left then.
        """
        check_allowed(plan, step, self._partner.policy)  # before anything is debited for what would not leave
        self._partner.check_room()
        watch = Stopwatch(self._meters.part_seconds)
        digests = step.inputs_of(self._partner.settings.name)
        inputs = await self._inputs.brought(digests)
        watch.lap("fetched")
        rows = self._rows(plan)
        layout = Blob(map_file(inputs[0])).layout
        lost = await asyncio.to_thread(self._state_lost, plan, step, kept=kept)
        order = await asyncio.to_thread(self._order, plan, step, rows.manifest, digests)
        debit = await self._debited(plan, step, layout, rows)
        opened = (await self.worker(plan, rows)).opened
        # What an app does nobody here knows: it ends when nobody waits for it. A task's work may count in a later step.
        within_s = step.deadline_s + step.grace_s if plan.task.kind == "app" else None
        made = await self._made(plan, order, inputs, rows, 1 if debit is not None else _TRIES, within_s)
        watch.lap("worked")
        released = await asyncio.to_thread(self._released, made, plan, step, layout, rows, opened, state_lost=lost)
        watch.lap("checked")
        step_log = about(log, self._run_id, step.index)
        step_log.info("%s", watch)
        if released.lost:
            step_log.warning("beyond the lanes that the plan has: %s", "; ".join(released.lost))
        if step.kind is StepKind.EVALUATE and step.purpose:
            await asyncio.to_thread(self._keep_personal, plan, step, made, layout)
        keeps = step.kind is StepKind.TRAIN or plan.task.kind == "app"
        state = made.state if keeps else b""
        return Product(released, state, debit, made.private_steps)

    async def preview(self, plan: Plan) -> Preview:
        """What the first step of an explanation would take of the rows here; its code runs in the child, for that.

        Later steps are rehearsed on this partner's own sums in place of the federation's, as far as these carry.
        Raises `Refused` for a run that explains nothing, and as `compute` does.
        """
        plain, step = unnoised(plan), first_step(plan, self._partner.settings.name)
        inputs, rows = await self._inputs.brought(step.inputs), self._rows(plan)
        order = order_of(plain, step, rows.manifest.participant, self._run_id)
        opened = (await self.worker(plan, rows)).opened
        asked, parts = asked_in(plan), list[Contribution]()
        for number in range(min(asked.steps, MOST_STEPS)):
            one = msgspec.structs.replace(order, number=number, rehearsal=True)
            try:
                made = await self._made(plan, one, inputs, rows, 1, None)
            except ChildFailed:  # of its own sums alone no analysis has to make a next step
                if not parts:
                    raise
                break
            part = decode_contribution(Blob(made.contribution))
            if not part.groups:
                break
            parts.append(part)
        count = opened.held_out_rows if asked.rows == "held_out" else opened.training_rows
        return preview_of(plan, parts[0], count, self._partner.policy, parts[1:])

    def _order(self, plan: Plan, step: Step, manifest: ShardManifest, digests: Sequence[str]) -> Order:
        coarseness = self._partner.policy.coarseness
        order = order_of(plan, step, manifest.participant, self._run_id, coarseness)
        if plan.task.kind == "task":
            return order
        state = file_digest(self._folder.local_state)
        seen = Seen(
            run_id=self._run_id,
            plan=plan,
            manifest=manifest,
            index=step.index,
            seed=order.seed,
            inputs=tuple(digests),
            state=state,
        )
        return msgspec.structs.replace(order, seed=app_seed(seen))

    def _state_lost(self, plan: Plan, step: Step, *, kept: bool) -> bool:
        """Whether training begins without what should be kept here; what a person should know of it is said."""
        for sentence in lacking(self._folder, plan, step, kept=kept, run_id=self._run_id):
            about(log, self._run_id, step.index, code="session.local_state").warning("%s", sentence)
        wanted = kept and plan.keeps_state and step.kind is StepKind.TRAIN
        return wanted and not self._folder.local_state.stat().st_size

    def _keep_personal(self, plan: Plan, step: Step, made: Made, layout: Layout) -> None:
        """What a personal stage measures and makes stays in this partner's folder, whatever of it may leave."""
        models = PersonalModels(self._partner.folder, self._partner.durability)
        metrics = decode_contribution(Blob(made.contribution)).metrics
        models.measured(self._run_id, plan, step, metrics, self._clock.now())
        if step.purpose == PERSONAL:
            models.keep(self._run_id, made.state, layout)

    def _released(
        self, made: Made, plan: Plan, step: Step, layout: Layout, rows: _Rows, opened: Opened, *, state_lost: bool
    ) -> Released:
        policy = self._partner.policy
        accounted = policy.protected(rows.data_set)
        if accounted and not rows.policy.protected(rows.data_set):
            raise Refused(
                "this data set was given a privacy budget while the step was at work: nothing was debited for it",
                code="release.budget",
            )
        return release(
            made.contribution,
            plan,
            step,
            layout,
            policy,
            private_steps=made.private_steps,
            facts=Facts(
                self._run_id,
                accounted=accounted,
                state_lost=state_lost,
                rows=opened.training_rows,
                held_out_rows=opened.held_out_rows,
            ),
            room=self._folder.room,
        )

    async def check_budget(self, plan: Plan, begun: Mapping[str, int]) -> AimassError | None:
        """Raise `Refused` for a plan that does not fit what is left of the data set's privacy budget, but for the steps
        that were `begun`, by kind and purpose; and for one whose persons the data set does not know. What a person has
        to approve of its study first, if anything, is given back."""
        rows = self._rows(plan)
        units = await self._units(plan, rows)
        await self._check_rows(rows)
        budgets, run_id = self._partner.budgets, self._run_id
        summed = await self._summed(plan, await self._ledger(rows) if plan.study is not None else None)
        return await asyncio.to_thread(budgets.check, rows.policy, rows.data_set, plan, units, begun, run_id, summed)

    async def study(self, plan: Plan) -> tuple[Ledger | None, int, int | None]:
        """The ledger that a plan's study would reserve of, as it stands, how many rows or persons there are, and the
        elements of a sum of its costliest run, by which noise inside sums is priced: None where that needs none."""
        rows = self._rows(plan)
        units, ledger = await self._units(plan, rows), await self._ledger(rows)
        return ledger, units, await self._summed(plan, ledger)

    async def _ledger(self, rows: _Rows) -> Ledger | None:
        held = await asyncio.to_thread(self._partner.budgets.ledger, rows.policy, rows.data_set)
        return None if held is None else held.state

    async def _summed(self, plan: Plan, ledger: Ledger | None) -> int | None:
        """The elements of a sum of a study's costliest run, by the plan's first model, which is fetched for that.

        None where nothing depends on them: no ledger, a study that has begun (its runs work on later models, and what
        it reserved is known), or no noise inside its sums; and where the server, an older one, does not give the model
        out before the first step: then what costs most is shown.
        """
        if ledger is None or plan.study is None or ledger.study_named(plan.study.id) is not None:
            return None
        if plan.secure is None or plan.secure.noise is None:
            return None
        try:
            (path,) = await self._inputs.brought((plan.model,))
        except Refused as error:
            about(log, self._run_id, code=error.code).warning("the study is priced by its dearest model: %s", error)
            return None
        return _summed(plan, plan.study, Blob(map_file(path)).layout)

    async def _check_rows(self, rows: _Rows) -> None:
        """Raise `Refused` where the rows of a data set with a budget have another ledger."""
        if rows.policy.budgeted(rows.data_set):
            await self._partner.rows.check(rows.data_set)

    async def _units(self, plan: Plan, rows: _Rows) -> int:
        """How many training rows or persons there are, whichever the plan protects."""
        opened = (await self.worker(plan, rows)).opened
        return units_of(plan.privacy, opened.training_rows, opened.persons)

    async def _debited(self, plan: Plan, step: Step, layout: Layout, rows: _Rows) -> Debit | None:
        """The debit of a step, on the disk before the child gets its order; None where none is kept."""
        units, elements = await self._units(plan, rows), trained_elements(layout)
        sent = sent_elements(plan, layout) if step.kind is StepKind.TRAIN else None
        summed = None
        if plan.study is not None and plan.secure is not None and plan.secure.noise is not None:
            summed = _summed(plan, plan.study, layout)
        await self._check_rows(rows)
        debit, run_id = self._partner.budgets.debit, self._run_id
        return await asyncio.to_thread(
            debit, rows.policy, rows.data_set, plan, run_id, step, elements, units, sent, summed
        )

    async def settle(self, product: Product, digest: str) -> None:
        """What was really spent, and what came of it, before that leaves. Raises `Refused` where it may not."""
        if product.debit is not None:
            await asyncio.to_thread(product.debit.settle, product.steps, digest)

    async def _made(
        self, plan: Plan, order: Order, inputs: Sequence[Path], rows: _Rows, tries: int, within_s: float | None
    ) -> Made:
        """The child's work; one that dies is replaced while there are tries, and one that takes longer is ended.

        Whether it dies may depend on a row, so what was debited for one work is not used for another.
        """
        for left in reversed(range(tries)):
            worker = await self.worker(plan, rows)
            try:
                async with asyncio.timeout(within_s):
                    return await worker.work(order, inputs, self._folder.local_state, _MAX_BLOB)
            except TimeoutError:
                raise DeadlinePassed(
                    "the app did not reply before the step's deadline", code="child.deadline", limit=f"{within_s:g} s"
                ) from None
            except ChildDied as error:
                self._meters.child_deaths.add()
                if not left:
                    raise
                about(log, self._run_id).warning("%s; a new one is started", error)
        raise WrongState("the work was never tried", code="session.no_try")

    def save(self, step: Step, product: Product) -> str:
        """Keep the contribution, and the local state beside it; the contribution's digest. It blocks."""
        if product.state:
            self._folder.save_new_state(step.index, product.state)
        if product.released.beside is not None:
            self._folder.save_beside(step.index, product.released.beside)
        return self._folder.save_contribution(
            step.index, product.released.parts, synced=not product.released.repeatable
        )

    def journal(self, step: Step, product: Product, digest: str) -> None:
        """Say that a contribution may leave, before it does."""
        self._partner.journal.record(
            JournalLine(
                at=self._clock.now(),
                server=self._partner.settings.server,
                run_id=self._run_id,
                step=step.index,
                kind=f"{step.kind}:{step.purpose}".rstrip(":"),
                digest=digest,
                bytes=sum(len(part) for part in product.released.parts),
                tensors=product.released.tensors,
                metrics=product.released.metrics,
                figures=product.released.figures,
                mechanisms=product.released.mechanisms,
                previous=self._partner.journal.head,
            )
        )

    async def leave(self) -> None:
        """The run is over: end the child, also one that is being started, and forget the model."""
        self._left = True
        await self.close()
        self._partner.cache.release(self._run_id)

    async def close(self) -> None:
        """End the child, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()
