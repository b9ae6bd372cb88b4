"""A whole run as a pure machine around its driver: joining, steps, pausing, stopping, the end.

The state is one frozen value that is stored with each change; whatever happens to the process, the run goes on from
there. The driver's `receive` computes models and so runs in the shell, which returns its state as `Received`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aimass.proto.errors import NotFound, WrongState
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import steps
from aimass.server.drivers.base import Context, Done, Driver, Progress

__all__ = [
    "Change",
    "Commit",
    "Declined",
    "End",
    "Event",
    "InStep",
    "JoinTimeUp",
    "Joined",
    "Open",
    "Participant",
    "Received",
    "Reduce",
    "Removed",
    "Run",
    "TellClosed",
    "apply",
    "context",
    "driver_state",
    "progress",
]


class Participant(Value, frozen=True):
    """A partner in a run. `key` is its shard's and orders the sum."""

    state: ParticipantState = ParticipantState.INVITED
    key: str = ""
    device: str = ""
    confinement: str = ""
    reason: str = ""


class Run(Value, frozen=True):
    """Everything that decides how a run goes on. `driver` is the state of the stage's driver as JSON text.

    `model_before` is the model that `model` was made from, for the summary of the next step alone.
    """

    run_id: str
    plan: Plan
    participants: dict[str, Participant]
    model: str
    model_before: str = ""
    state: RunState = RunState.WAITING
    reason: str = ""
    stage: int = 0
    driver: str = ""
    open: dict[str, steps.StepState] = {}
    next_index: int = 0

    @property
    def joined(self) -> tuple[str, ...]:
        """Partners that take part, sorted by name."""
        return tuple(
            sorted(name for name, member in self.participants.items() if member.state is ParticipantState.JOINED)
        )


class Joined(Value, frozen=True):
    """A partner takes part."""

    partner: str
    key: str
    device: str
    confinement: str


class Declined(Value, frozen=True):
    """A partner does not take part, or not yet: then `pending` says that a person there has to decide."""

    partner: str
    reason: str
    pending: bool = False


class Removed(Value, frozen=True):
    """A partner was revoked or withdrew."""

    partner: str
    reason: str


class JoinTimeUp(Value, frozen=True):
    """The time to join has passed."""


class InStep(Value, frozen=True):
    """Something happened in a step."""

    index: int
    event: steps.StepEvent


class Received(Value, frozen=True):
    """The driver has taken a step's result."""

    index: int
    driver: str
    model: str


class Change(Value, frozen=True):
    """A person pauses, resumes or stops the run, or the shell gives it up."""

    change: str
    reason: str


Event = Joined | Declined | Removed | JoinTimeUp | InStep | Received | Change


class Open(Value, frozen=True):
    """Ask the participants of a new step."""

    step: Step


class Reduce(Value, frozen=True):
    """Reduce a step's contributions, let the driver receive them, and come back with `Received`."""

    index: int
    counted: tuple[str, ...]


class Commit(Value, frozen=True):
    """A step is complete: record it."""

    closed: steps.StepState
    model: str


class TellClosed(Value, frozen=True):
    """Tell a partner that its work in a step is not wanted any more."""

    partner: str
    index: int
    reason: str


class End(Value, frozen=True):
    """The run is over; tell everybody."""

    state: RunState
    reason: str


Action = Open | Reduce | Commit | TellClosed | End
Drivers = Mapping[str, Driver]


def context(run: Run) -> Context:
    """What the current stage's driver may know."""
    return Context(run.plan, run.plan.stages[run.stage], run.joined, run.next_index)


def driver_state(run: Run, driver: Driver) -> Any:
    """The decoded state of the current stage's driver."""
    return decode_json(driver.state_type, run.driver.encode(), f"the state of driver {driver.name}")


def progress(run: Run, drivers: Drivers) -> Progress:
    """Rounds done and planned by the current stage; none where the driver of a run that has ended is not installed."""
    if not run.driver:
        return Progress(0, 0)
    try:
        driver = drivers[run.plan.stages[run.stage].driver]
    except NotFound:
        return Progress(0, 0)
    return driver.progress(driver_state(run, driver), context(run))


def apply(run: Run, event: Event, drivers: Drivers, now: float) -> tuple[Run, tuple[Action, ...]]:
    """The next state and what is to be done. A run that has ended takes no more events.

    Raises `WrongState` for a change that a person asked for and that the state does not allow.
    """
    if run.state.final:
        if isinstance(event, Change):
            raise _wrong(run, event.change)
        return run, ()
    match event:
        case Joined() | Declined() | JoinTimeUp():
            return _joining(run, event, drivers, now)
        case Removed():
            return _removed(run, event, drivers, now)
        case InStep():
            return _in_step(run, event)
        case Received():
            return _received(run, event, drivers, now)
        case Change():
            return _changed(run, event, drivers, now)


def _wrong(run: Run, change: str) -> WrongState:
    return WrongState(f"a run that is {run.state} cannot {change}", code="run.state", value=run.state, limit=change)


def _with(run: Run, partner: str, member: Participant) -> Run:
    return msgspec.structs.replace(run, participants=run.participants | {partner: member})


def _joining(
    run: Run, event: Joined | Declined | JoinTimeUp, drivers: Drivers, now: float
) -> tuple[Run, tuple[Action, ...]]:
    if not isinstance(event, JoinTimeUp):
        member = run.participants.get(event.partner)
        if member is None or member.state is ParticipantState.REMOVED:
            return run, ()
        run = _answer(run, event)
    undecided = [m for m in run.participants.values() if m.state is ParticipantState.INVITED]
    if run.state is not RunState.WAITING or (undecided and not isinstance(event, JoinTimeUp)):
        return run, ()
    if len(run.joined) < run.plan.cohort.quorum:
        missing = "; ".join(
            f"{name}: {m.reason or m.state}"
            for name, m in sorted(run.participants.items())
            if m.state is not ParticipantState.JOINED
        )
        return _end(
            run, RunState.FAILED, f"{len(run.joined)} of {run.plan.cohort.quorum} partners needed joined ({missing})"
        )
    run = msgspec.structs.replace(run, state=RunState.RUNNING)
    return _advance(_start_stage(run, drivers), drivers, now)


def _answer(run: Run, event: Joined | Declined) -> Run:
    if isinstance(event, Declined):
        state = ParticipantState.INVITED if event.pending else ParticipantState.DECLINED
        return _with(run, event.partner, Participant(state=state, reason=event.reason))
    twin = next((name for name, m in run.participants.items() if m.key == event.key and name != event.partner), None)
    if twin is not None:
        reason = f"run.participant_key: {twin} takes part under the same participant key {event.key!r}"
        return _with(run, event.partner, Participant(state=ParticipantState.DECLINED, reason=reason))
    member = Participant(
        state=ParticipantState.JOINED, key=event.key, device=event.device, confinement=event.confinement
    )
    return _with(run, event.partner, member)


def _removed(run: Run, event: Removed, drivers: Drivers, now: float) -> tuple[Run, tuple[Action, ...]]:
    member = run.participants.get(event.partner)
    if member is None or member.state is ParticipantState.REMOVED:
        return run, ()
    gone = msgspec.structs.replace(member, state=ParticipantState.REMOVED, reason=event.reason)
    run = _with(run, event.partner, gone)
    actions: tuple[Action, ...] = ()
    for index in list(run.open):
        failed = steps.Failed(partner=event.partner, reason=event.reason)
        run, more = _in_step(run, InStep(index=int(index), event=failed))
        actions += more
        if run.state.final:
            return run, actions
    if run.state is RunState.WAITING and all(
        m.state is not ParticipantState.INVITED for m in run.participants.values()
    ):
        run, more = _joining(run, JoinTimeUp(), drivers, now)
        actions += more
    return run, actions


def _in_step(run: Run, event: InStep) -> tuple[Run, tuple[Action, ...]]:
    held = run.open.get(str(event.index))
    if held is None:
        return run, ()
    state, happened = steps.apply(held, event.event)
    run = msgspec.structs.replace(run, open=run.open | {str(event.index): state})
    actions: tuple[Action, ...] = ()
    for action in happened:
        match action:
            case steps.Close():
                actions += (Reduce(index=event.index, counted=action.counted),)
            case steps.Closed():
                actions += (TellClosed(partner=action.partner, index=event.index, reason=action.reason),)
            case steps.Fail():
                run, ended = _end(run, RunState.FAILED, action.reason)
                actions += ended
    return run, actions


def _received(run: Run, event: Received, drivers: Drivers, now: float) -> tuple[Run, tuple[Action, ...]]:
    closed = run.open.get(str(event.index))
    if closed is None or closed.counted is None:
        return run, ()
    left = {index: state for index, state in run.open.items() if index != str(event.index)}
    before = run.model if event.model != run.model else run.model_before
    run = msgspec.structs.replace(run, open=left, driver=event.driver, model=event.model, model_before=before)
    run, actions = _advance(run, drivers, now)
    return run, (Commit(closed=closed, model=event.model), *actions)


def _changed(run: Run, event: Change, drivers: Drivers, now: float) -> tuple[Run, tuple[Action, ...]]:
    match event.change, run.state:
        case "fail", _:
            return _end(run, RunState.FAILED, event.reason)
        case "stop", _:
            return _end(run, RunState.STOPPED, event.reason)
        case "pause", RunState.RUNNING:
            return msgspec.structs.replace(run, state=RunState.PAUSED, reason=event.reason), ()
        case "resume", RunState.PAUSED:
            return _advance(msgspec.structs.replace(run, state=RunState.RUNNING, reason=""), drivers, now)
        case _:
            raise _wrong(run, event.change)


def _start_stage(run: Run, drivers: Drivers) -> Run:
    driver = drivers[run.plan.stages[run.stage].driver]
    state = driver.start(context(run), run.model)
    return msgspec.structs.replace(run, driver=canonical_json(state).decode())


def _advance(run: Run, drivers: Drivers, now: float) -> tuple[Run, tuple[Action, ...]]:
    """Open what the driver proposes; a stage that is done hands its model to the next."""
    if run.state is not RunState.RUNNING or run.open:
        return run, ()
    if not run.joined:
        return _end(run, RunState.FAILED, "no partner is left")
    driver = drivers[run.plan.stages[run.stage].driver]
    proposed = driver.next(driver_state(run, driver), context(run))
    if isinstance(proposed, Done):
        run = msgspec.structs.replace(run, model=proposed.model)
        if run.stage + 1 == len(run.plan.stages):
            return _end(run, RunState.FINISHED, proposed.reason)
        run = msgspec.structs.replace(run, stage=run.stage + 1)
        return _advance(_start_stage(run, drivers), drivers, now)
    quorum = run.plan.cohort.quorum
    if len(run.joined) < quorum:
        # Partners admitted the plan for its quorum: with fewer left, nobody is asked for a smaller circle.
        return _end(run, RunState.FAILED, f"{len(run.joined)} of {quorum} partners needed are left")
    opened = {str(step.index): steps.StepState.of(step, now) for step in proposed}
    run = msgspec.structs.replace(run, open=run.open | opened, next_index=max(step.index for step in proposed) + 1)
    return run, tuple(Open(step=step) for step in proposed)


def _end(run: Run, state: RunState, reason: str) -> tuple[Run, tuple[Action, ...]]:
    told = tuple(
        TellClosed(partner=partner, index=int(index), reason=reason)
        for index, held in run.open.items()
        for partner, slot in held.slots.items()
        if slot.state is SlotState.ASKED
    )
    return msgspec.structs.replace(run, state=state, reason=reason, open={}), (*told, End(state=state, reason=reason))
