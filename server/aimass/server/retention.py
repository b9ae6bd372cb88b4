"""Which models a server keeps: the first, the newest, the best, and what is in use. A pure rule, and who applies it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from aimass.proto.errors import OutOfSpace, WrongState
from aimass.proto.logs import about
from aimass.proto.plan import Plan
from aimass.proto.storage import Blobs
from aimass.proto.views import ModelView
from aimass.server.engine import Engine
from aimass.server.runs import Run
from aimass.server.shelf import Shelf
from aimass.server.store import Store

__all__ = ["Housekeeping", "handed_out", "in_use", "kept", "room_for_work", "unreferenced"]

log = logging.getLogger("aimass.server")
_ALL: Final = 1_000_000


def kept(plan: Plan, models: Sequence[ModelView], last: int) -> frozenset[str]:
    """Digests that a run keeps: its base, and of its `models`, newest first, the plan's, the last `last` (0: all), and
    the best.

    The best is by the plan's early-stopping metric, where it has one.
    """
    chosen = {plan.model, *(model.digest for model in (models[:last] if last else models))}
    if plan.base is not None:
        chosen.add(plan.base.digest)
    if last == 0:
        return frozenset(chosen)
    rule = plan.early_stop
    measured = [model for model in models if rule is not None and rule.metric in model.metrics]
    if rule is not None and measured:
        sign = 1.0 if rule.mode == "max" else -1.0
        chosen.add(max(measured, key=lambda model: sign * model.metrics[rule.metric].mean).digest)
    return frozenset(chosen)


def in_use(run: Run) -> frozenset[str]:
    """Models that a run works with now, or compares the next one with, and what its driver keeps beside them; of one
    that has ended, its first and last."""
    if run.state.final:
        return frozenset({run.plan.model, run.model})
    return frozenset({run.plan.model, run.model, run.model_before}) | handed_out(run) | run.named


def handed_out(run: Run) -> frozenset[str]:
    """What partners of a run work on now, and may ask for: the inputs of steps that are open, or carried."""
    worked_on = [(state.origin(partner), partner) for state in run.open.values() for partner in state.slots]
    worked_on += [(late.step, partner) for partner, late in run.carried.items()]
    return frozenset(digest for step, partner in worked_on for digest in step.inputs_of(partner))


def unreferenced(blobs: Iterable[str], referenced: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Blobs that no run keeps, sorted."""
    wanted = frozenset[str]().union(*referenced)
    return tuple(sorted(digest for digest in blobs if digest not in wanted))


def room_for_work(free_bytes: int, floor_bytes: int) -> None:
    """Raise `OutOfSpace` where so little is free that new work would only fill the rest."""
    if free_bytes < floor_bytes:
        raise OutOfSpace(
            "the server takes no new work: its disk is nearly full",
            code="server.low_space",
            value=f"{free_bytes} bytes free",
            limit=f"from {floor_bytes}",
            cure="Free space there, `aimass run prune` old runs, or lower limits.min_free_bytes.",
        )


class Housekeeping:
    """Applies the rule: after a commit by itself, and where a person asks for more.

    Shelves are changed in the engine's disk thread alone.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        blobs: Blobs,
        last: int,
        deleting: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
    ) -> None:
        """`deleting` stands around each deletion: whether it may be now, or is left to the next commit."""
        self._engine, self._store, self._blobs, self._last = engine, store, blobs, last
        self._shelves: dict[str, Shelf] = {}
        self._beside: dict[str, set[str]] = {}
        self.kept_back: Callable[[str], bool] = lambda _: False
        """Whether a blob has just come that no run names yet; asked at the last moment before it is deleted."""
        self.deleting = deleting
        self.differences: Callable[[Callable[[], frozenset[str]]], None] = lambda _: None
        """Told after each commit how to find which blobs partners may ask for now: no difference leads to another."""
        self.deletions = 0
        """Models deleted in this process: while it stays, what was on the disk still is."""

    async def after_commit(self, run_id: str) -> None:
        """Delete what the run's newest model has made superfluous; it costs what the commit changed."""
        self.differences(lambda: frozenset().union(*(handed_out(live.row.run) for live in self._engine.lives())))
        await self._let_go(run_id)
        if self._last:
            await self._delete(run_id, self._last)

    async def prune(self, run_id: str) -> int:
        """Keep of a run that has ended its first, its last and its best model; bytes that this freed.

        Raises `NotFound`, or `WrongState` while the run goes on.
        """
        live = self._engine.live(run_id)
        if not live.row.run.state.final:
            raise WrongState(
                f"a run that is {live.row.run.state} cannot be pruned",
                code="run.state",
                value=live.row.run.state,
                cure="Wait for its end, or stop it.",
            )
        await self._let_go(run_id)
        return await self._delete(run_id, 1)

    async def _let_go(self, run_id: str) -> None:
        """Delete what the driver kept beside its models and does not name any more; all of it where the run has ended.

        What a restart comes between is left to `aimass server gc`.
        """
        live = self._engine.live(run_id)
        run = live.row.run
        named = run.named - {run.plan.model, run.model}
        beside = self._beside.setdefault(run_id, set())
        beside |= named | (live.let_go - {run.plan.model, run.model})
        live.let_go.clear()
        for digest in sorted(beside if run.state.final else beside - named):
            a_model = await self._engine.on_disk(self._store.models, run_id, digest, 1)
            if not a_model:
                if await self._wanted(run_id, digest):
                    continue
                if not await self._engine.on_disk(self._delete_now, digest):
                    continue
            beside.discard(digest)

    async def _delete(self, run_id: str, last: int) -> int:
        shelf = await self._shelf(run_id)
        keep, freed = shelf.keep(last), 0
        for step, model in list(shelf.here.items()):
            if (
                model.digest in keep
                or await self._wanted_elsewhere(run_id, model.digest)
                or self.kept_back(model.digest)
            ):
                continue
            freed += await self._engine.on_disk(self._take_off, shelf, step)
        if freed:
            about(log, run_id).info("%d bytes of models that are not kept were deleted", freed)
        return freed

    def _take_off(self, shelf: Shelf, step: int) -> int:
        """Bytes that this frees: none where another has done it meanwhile, or where nothing may be deleted now."""
        model = shelf.here.pop(step, None)
        if model is None or not self._blobs.has(model.digest):
            return 0
        if not self._delete_now(model.digest):
            shelf.here[step] = model
            return 0
        self.deletions += 1
        return model.bytes

    def _delete_now(self, digest: str) -> bool:
        """Whether it could be deleted."""
        with self.deleting() as may:
            if may:
                self._blobs.delete(digest)
            return may

    async def _shelf(self, run_id: str) -> Shelf:
        """What there is to know of a run's models now."""
        run = self._engine.live(run_id).row.run
        return await self._engine.on_disk(self._brought_up, run)

    def _brought_up(self, run: Run) -> Shelf:
        """Steps before the first that is open do not change any more; the store may be ahead of `run`."""
        shelf = self._shelves.get(run.run_id) or Shelf(run.plan, self._last)
        measured = run.plan.early_stop is not None
        models = self._store.models(run.run_id, limit=_ALL, first_step=shelf.settled)
        steps = self._store.steps(run.run_id, first=shelf.settled) if measured else []
        settled = min((state.step.index for state in run.open.values()), default=run.next_index)
        shelf.take(models, steps, settled)
        if run.run_id not in self._shelves:
            shelf.here = {step: row for step, row in shelf.here.items() if self._blobs.listed(row.digest)}
            self._shelves[run.run_id] = shelf
        return shelf

    async def _wanted(self, run_id: str, digest: str) -> bool:
        """By another run, or by one that is yet to say so."""
        return await self._wanted_elsewhere(run_id, digest) or self.kept_back(digest)

    async def _wanted_elsewhere(self, run_id: str, digest: str) -> bool:
        """Equal plans make equal models: another run may keep the same bytes, and any run may work with them.

        One that began with the same model and is summing a step may have made these bytes a moment ago, and is yet to
        say so: that is asked last.
        """
        held = await self._engine.on_disk(self._store.models, "", digest, _ALL)
        for other in {model.run_id for model in held} - {run_id}:
            if not self._last or digest in (await self._shelf(other)).keep(self._last):
                return True
        first = self._engine.live(run_id).row.run.plan.model
        return any(
            digest in in_use(live.row.run) or (live.reducing.locked() and live.row.run.plan.model == first)
            for live in self._engine.lives()
        )
