"""The shell around the run machine in a simulation: partners join at once, a crew works, and each step is stored.

What decides is the machine of the live server, fed with the same events: who is asked, who is counted, when a run
fails. Partners answer in the order of their names, so of more that are asked than are wanted the first by name count;
with a pace they answer by its clock.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from aimass.privacy.secagg.rounds import lanes_of, rotation_of
from aimass.proto.errors import AimassError, BadInput, OutOfSpace, Unauthenticated, Unavailable
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Blob
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import run_machine, runs, steps
from aimass.server.drivers.base import Driver
from aimass.server.reduction import ReducedStep, reduced_step
from aimass.server.simulation.crew import Crew
from aimass.server.simulation.folder import Committed, Saved
from aimass.server.simulation.pace import Moment, Pace, begun_again, next_moment
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.secret import Unmasked

__all__ = ["Hears", "Keeps", "Simulation", "first"]


class Keeps(Protocol):
    """Where a run stands and what its steps leave: a simulation's folder, or an object store."""

    @property
    def blobs(self) -> Blobs:
        """Its models."""
        ...

    @property
    def pace(self) -> Pace | None:
        """By whose clock partners take their time, if by any."""
        ...

    def load(self) -> Saved:
        """Where it stands."""
        ...

    def save(self, saved: Saved) -> None:
        """Where it stands from now on, with the steps that were told of since."""
        ...

    def tell(self, step: Committed) -> None:
        """Add a step; before it is saved, so none is ever missing."""
        ...

    def untell(self, run: runs.Run) -> None:
        """Take back steps that were told of and are done again."""
        ...

    def spool(self, index: int) -> Path:
        """Where the contributions of a step wait to be summed."""
        ...

    def fresh_spool(self, step: Step) -> None:
        """The spool of a step that begins, or begins again."""
        ...

    def clear(self) -> None:
        """Forget what waited to be summed."""
        ...

    def sweep(self, saved: Saved, fresh: Collection[str] = ()) -> None:
        """Delete models, contributions and local states that nothing needs any more; `fresh` states may come to."""
        ...


class Hears(Protocol):
    """Who is told how it goes."""

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        """So many partners of a step have answered."""
        ...

    def committed(self, step: Committed, run: runs.Run) -> None:
        """A step is stored."""
        ...


def first(run_id: str, plan: Plan, participants: Mapping[str, str]) -> runs.Run:
    """A run that all partners, by name with the keys of their shards, have joined; its first step is not open yet.

    Raises `BadInput` where two have one key: their random streams would be one.
    """
    if twice := [key for key, other in itertools.pairwise(sorted(participants.values())) if key == other]:
        raise BadInput("two partners take part under one key", code="run.participant_key", value=", ".join(twice[:5]))
    members = {
        name: runs.Participant(state=ParticipantState.JOINED, key=key) for name, key in sorted(participants.items())
    }
    return runs.Run(run_id=run_id, plan=plan, model=plan.model, participants=members)


class Simulation:
    """One; `run` goes on from where its folder stands."""

    def __init__(
        self,
        folder: Keeps,
        crew: Crew,
        drivers: Mapping[str, Driver],
        hears: Hears,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._crew, self._drivers, self._hears = folder, crew, drivers, hears
        self._saved, self._pace = folder.load(), folder.pace
        self._now = now if self._pace is None else lambda: self._saved.now
        self._made: dict[tuple[int, str], Made] = {}
        """What came of the orders of open steps, by step and partner."""
        self._started = 0.0

    @property
    def _run(self) -> runs.Run:
        return self._saved.run

    def run(self) -> runs.Run:
        """To the end; the run as it is then. Whatever stops it, the folder stands at the last step that was stored."""
        self._folder.untell(self._run)
        self._folder.clear()
        if self._pace is not None:
            self._saved = msgspec.structs.replace(self._saved, run=begun_again(self._run))
        if self._run.state is RunState.WAITING:
            self._apply(runs.JoinTimeUp())
            self._folder.save(self._saved)
        while not self._run.state.final:
            if self._pace is None:
                self._work(min(self._run.open.values(), key=lambda state: state.step.index))
            else:
                self._pass(next_moment(self._run, self._pace))
        return self._run

    def _work(self, state: steps.StepState) -> None:
        step, self._started = state.step, time.monotonic()
        asked = self._asked(state)
        with contextlib.closing(_closable(self._crew, asked)) as answers:
            for done, made in enumerate(answers, start=1):
                self._take(step.index, made)
                self._hears.working(step.index, step.round, done, step.wanted or len(asked))
                self._apply(runs.InStep(index=step.index, event=_event(made, secret=state.attempts is not None)))
                if str(step.index) not in self._run.open or self._run.state.final:
                    return

    def _pass(self, moment: Moment) -> None:
        """To the moment at which something happens, and do it."""
        self._saved = msgspec.structs.replace(self._saved, now=moment.at)
        event: steps.StepEvent = steps.TimeUp(at=moment.at)
        if moment.partner:
            if moment[1:] not in self._made:
                self._work_ahead()
            event = _event(self._made[moment[1:]], secret=self._run.plan.secure is not None)
        self._apply(runs.InStep(index=moment.step, event=event))

    def _work_ahead(self) -> None:
        """All that was asked for and is not done yet, whenever it will be answered."""
        self._started = time.monotonic()
        idle = [state for state in self._run.open.values() if not self._folder.spool(state.step.index).is_dir()]
        asked = [one for state in idle for one in self._asked(state)]
        with contextlib.closing(_closable(self._crew, asked)) as answers:
            for done, (one, made) in enumerate(zip(asked, answers, strict=True), start=1):
                self._take(one.step.index, made)
                self._hears.working(one.step.index, one.step.round, done, len(asked))

    def _asked(self, state: steps.StepState) -> list[Asked]:
        """The orders of a step that is begun, or begun again."""
        step, held = state.step, self._saved.states
        self._folder.fresh_spool(step)
        driver = self._run.plan.stages[self._run.stage].driver
        return [
            Asked(partner=name, step=step, driver=driver, state=held.get(name, ""))
            for name in step.participants
            if state.slots[name].state is SlotState.ASKED
        ]

    def _take(self, index: int, made: Made) -> None:
        if made.full:
            raise OutOfSpace("the disk is full", code="disk.full", value=made.fault, cure="Then --resume.")
        self._made[index, made.partner] = made

    def _apply(self, event: runs.Event) -> None:
        run, actions = run_machine.apply(self._run, event, self._drivers, self._now())
        self._saved = msgspec.structs.replace(self._saved, run=run)
        for action in actions:
            match action:
                case runs.Form():
                    digests = {name: self._made[action.index, name].digest for name in action.members}
                    summed = steps.Summed(number=action.number, digests=digests)
                    self._apply(runs.InStep(index=action.index, event=summed))
                case runs.Reduce():
                    self._reduce(action)
                case runs.End():
                    self._folder.save(self._saved)

    def _reduce(self, action: runs.Reduce) -> None:
        """Sum, let the driver receive, and store what came of it: first the line for people, then where it stands."""
        state = self._run.open[str(action.index)]
        driver = self._drivers[self._run.plan.stages[self._run.stage].driver]
        spool = self._folder.spool(action.index)
        made = {name: self._made[action.index, name] for name in action.counted}
        paths = {name: spool / one.file for name, one in made.items()}
        far = self._crew.reduced(action.index, [made[name] for name in self._ordered(made)])
        try:
            secret, blobs = self._secret(state, driver), self._folder.blobs
            reduced = reduced_step(self._run, state, paths, (), driver, blobs, self._now(), secret, far)
        except AimassError as error:
            if _passes(error):
                raise
            self._apply(runs.Change(change="fail", reason=f"{error.code}: {error.sentence()}"))
            return
        self._folder.tell(told := self._told(state, reduced))
        kept = {name: one.state for name, one in made.items() if one.state}
        self._saved = msgspec.structs.replace(self._saved, states=self._saved.states | kept)
        self._apply(reduced.received)
        self._folder.save(self._saved)
        self._made = {place: one for place, one in self._made.items() if str(place[0]) in self._run.open}
        self._folder.sweep(self._saved, [one.state for one in self._made.values()])
        self._hears.committed(told, self._run)

    def _ordered(self, names: Collection[str]) -> list[str]:
        """In the order in which sums are made."""
        return sorted(names, key=lambda name: self._run.participants[name].key.encode())

    def _secret(self, state: steps.StepState, driver: Driver) -> list[Unmasked] | None:
        if state.attempts is None:
            return None
        run, model = self._run, Blob(self._folder.blobs.open(state.step.inputs[0]))
        lanes = lanes_of(run.plan, state.step, driver.expects(state.step, model.layout, run.plan) or {})
        rotation = rotation_of(run.plan, run.run_id, state.step) if lanes.noise else b""
        return [
            Unmasked(circle.number, tuple(sorted(circle.digests)), lanes, rotation)
            for circle in state.attempts.circles
            if circle.digests
        ]

    def _told(self, state: steps.StepState, reduced: ReducedStep) -> Committed:
        view, counted = reduced.view, state.counted or ()
        figures: dict[str, dict[str, float]] = {}
        for name, metric in view.metrics.items():
            for partner, value in metric.by_partner.items():
                figures.setdefault(partner, {})[name] = value
        made = [one for (index, _), one in self._made.items() if index == view.index]
        return Committed(
            index=view.index,
            kind=state.step.kind,
            round=view.round,
            asked=len(state.step.participants),
            counted=len(counted),
            seconds=time.monotonic() - self._started,
            purpose=view.purpose,
            model=view.model,
            metrics={name: metric.mean for name, metric in view.metrics.items()},
            weights={name: metric.weight for name, metric in view.metrics.items()},
            figures=figures,
            failed={name: slot.reason for name, slot in state.slots.items() if name not in counted and slot.reason},
            statistics=view.statistics,
            at=self._saved.now,
            work_s=sum(one.seconds for one in made),
            bytes_read=sum(one.bytes_read for one in made),
            copies={copy: why for one in made for copy, why in one.copies.items()},
        )


def _passes(error: AimassError) -> bool:
    """Whether it is of a disk or a store, and says nothing of the run: that goes on once it is mended."""
    return isinstance(error, OutOfSpace | Unavailable | Unauthenticated) or error.code.startswith("storage.")


def _closable(crew: Crew, asked: list[Asked]) -> Generator[Made, None, None]:
    """The crew's answers as a generator: closing it ends what nobody waits for."""
    yield from crew.work(asked)


def _event(made: Made, *, secret: bool) -> steps.StepEvent:
    if made.fault:
        return steps.Failed(partner=made.partner, reason=made.fault)
    if secret:
        return steps.Ready(partner=made.partner, figures=made.figures)
    return steps.Stored(partner=made.partner, digest=made.digest)
