"""A whole run as a pure machine around its driver: joining, steps, pausing, stopping, the end.

The state is one frozen value that is stored with each change; whatever happens to the process, the run goes on from
there. The driver's `receive` computes models and so runs in the shell, which returns its state as `Received`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from aimass.proto.errors import AimassError, NotFound, WrongState
from aimass.proto.step import Reduce as Reduction
from aimass.proto.step import Step, StepKind
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import attempts, overlap, reported, standing, steps
from aimass.server.cohort import candidates
from aimass.server.drivers.base import Context, Done, Driver, Listener, Progress
from aimass.server.runs import (
    Action,
    Ask,
    Behind,
    Carried,
    Change,
    Commit,
    Declined,
    DriverDied,
    End,
    Event,
    Form,
    Gone,
    Heard,
    InStep,
    Joined,
    JoinTimeUp,
    Open,
    Participant,
    Prolong,
    Readmitted,
    Received,
    Reduce,
    Removed,
    Reported,
    ReportedEnd,
    Run,
    Said,
    TellCarried,
    TellClosed,
    Void,
)

__all__ = ["Drivers", "apply", "context", "driver_state", "progress"]

Drivers = Mapping[str, Driver]


def context(run: Run) -> Context:
    """What the current stage's driver may know."""
    opened = tuple(state.step for state in run.open.values())
    return Context(run.plan, run.plan.stages[run.stage], run.joined, run.next_index, opened)


def driver_state(run: Run, driver: Driver) -> Any:
    """The decoded state of the current stage's driver."""
    return decode_json(driver.state_type, run.driver.encode(), f"the state of driver {driver.name}")


def progress(run: Run, drivers: Drivers) -> Progress:
    """Rounds done and planned by the current stage; none where the driver of a run that has ended is not installed."""
    if run.offline is not None:
        return reported.progress(run.offline)
    if not run.driver:
        return Progress(0, 0)
    try:
        driver = drivers[run.plan.stages[run.stage].driver]
    except NotFound:
        return Progress(0, 0)
    return driver.progress(driver_state(run, driver), context(run))


@dataclasses.dataclass(frozen=True, slots=True)
class _World:
    """What a decision may look at beside the run: the drivers, the time, and who is connected (None: everybody)."""

    drivers: Drivers
    now: float
    here: Collection[str] | None


def apply(
    run: Run, event: Event, drivers: Drivers, now: float, here: Collection[str] | None = None
) -> tuple[Run, tuple[Action, ...]]:
    """The next state and what is to be done. A run that has ended takes no more events.

    `here` are the partners that are connected, for plans that ask those alone. Raises `WrongState` for what a person
    asked for and the state does not allow.
    """
    if run.state.final:
        if isinstance(event, Change | Readmitted):
            raise _wrong(run, event.change if isinstance(event, Change) else "readmit a partner")
        return run, ()
    if run.offline is not None:
        return reported.apply(run, run.offline, event)
    run, actions = _happened(run, event, _World(drivers, now, here))
    return (_ended(run, drivers) if run.state.final else run), actions


def _happened(run: Run, event: Event, world: _World) -> tuple[Run, tuple[Action, ...]]:
    match event:
        case Joined() | Declined() | JoinTimeUp():
            return _joining(run, event, world)
        case Removed():
            return _removed(run, event, world)
        case Readmitted():
            return _readmitted(run, event, world)
        case InStep():
            return _in_step(run, event, world)
        case Received():
            return _received(run, event, world)
        case Said():
            return _said(run, event, world)
        case Change():
            return _changed(run, event, world)
        case Heard():
            return _heard(run, event.partner, world)
        case Behind():
            return _end(run, RunState.FAILED, event.reason, recorded=False)
        case Reported() | ReportedEnd() | DriverDied():
            return run, ()  # of an offline run alone


def _ended(run: Run, drivers: Drivers) -> Run:
    """A run that is over, without what its driver needed to go on. It ends all the same where a driver cannot say."""
    if not run.driver:
        return run
    try:
        driver = drivers[run.plan.stages[run.stage].driver]
        return _with_state(run, driver.ended(driver_state(run, driver))) if isinstance(driver, Listener) else run
    except AimassError:
        return run


def _wrong(run: Run, change: str) -> WrongState:
    return WrongState(f"a run that is {run.state} cannot {change}", code="run.state", value=run.state, limit=change)


def _with(run: Run, partner: str, member: Participant) -> Run:
    return msgspec.structs.replace(run, participants=run.participants | {partner: member})


def _joining(run: Run, event: Joined | Declined | JoinTimeUp, world: _World) -> tuple[Run, tuple[Action, ...]]:
    if not isinstance(event, JoinTimeUp):
        member = run.participants.get(event.partner)
        if member is None or member.state in (ParticipantState.REMOVED, ParticipantState.EXCLUDED):
            return run, ()
        run = _answer(run, event)
    undecided = [m for m in run.participants.values() if m.state is ParticipantState.INVITED]
    if run.state is not RunState.WAITING:
        return _advance(run, world)
    if undecided and not isinstance(event, JoinTimeUp):
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
    return _advance(_start_stage(run, world.drivers), world)


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


def _removed(run: Run, event: Removed, world: _World) -> tuple[Run, tuple[Action, ...]]:
    member = run.participants.get(event.partner)
    if member is None or member.state is ParticipantState.REMOVED:
        return run, ()
    gone = msgspec.structs.replace(member, state=ParticipantState.REMOVED, reason=event.reason)
    run, actions = _heard(_with(run, event.partner, gone), event.partner, world)
    for index in [step.index for partner, step, _, _ in run.places() if partner == event.partner]:
        left = steps.Left(partner=event.partner, reason=event.reason)
        run, more = _in_step(run, InStep(index=index, event=left), world)
        actions += more
        if run.state.final:
            return run, actions
    if run.state is RunState.WAITING and all(
        m.state is not ParticipantState.INVITED for m in run.participants.values()
    ):
        run, more = _joining(run, JoinTimeUp(), world)
        actions += more
    run, more = _advance(run, world)  # while a driver listens, or has steps open, nobody else looks who is left
    return run, actions + more


def _heard(run: Run, partner: str, world: _World) -> tuple[Run, tuple[Action, ...]]:
    """After a restore; with the last word, steps that closed meanwhile are reduced, or the driver goes on."""
    if partner not in run.unheard:
        return run, ()
    run = msgspec.structs.replace(run, unheard=tuple(name for name in run.unheard if name != partner))
    if run.unheard:
        return run, ()
    closing = [state for state in run.open.values() if state.counted is not None]
    reduced = tuple(Reduce(index=state.step.index, counted=state.counted or ()) for state in closing)
    run, actions = _advance(run, world)
    return run, (*reduced, *actions)


def _readmitted(run: Run, event: Readmitted, world: _World) -> tuple[Run, tuple[Action, ...]]:
    member = run.participants.get(event.partner)
    if member is None or member.state is not ParticipantState.EXCLUDED:
        raise WrongState(
            "this partner is not excluded from the run",
            code="run.not_excluded",
            value=f"{event.partner}: {member.state if member else 'no participant'}",
            limit=", ".join(run.excluded) or "nobody is",
        )
    run, told = standing.readmit(run, event.partner)
    run, actions = _advance(run, world)
    return run, (*told, *actions)


def _in_step(run: Run, event: InStep, world: _World) -> tuple[Run, tuple[Action, ...]]:
    """Where the event belongs: to late work, by the index of the step that it is for, or to the open step itself."""
    happened = event.event
    partner = None if isinstance(happened, steps.TimeUp | steps.AttemptEnded | steps.Summed) else happened.partner
    late = run.carried.get(partner) if partner else None
    if partner and late is not None and late.step.index == event.index:
        return _in_late_work(run, partner, late, event.event), ()
    for held in run.open.values():
        index = held.origin(partner).index if partner else held.step.index
        if index == event.index:
            return _in_open_step(run, held, event.event, world)
    return run, ()


def _in_late_work(run: Run, partner: str, late: Carried, event: steps.StepEvent) -> Run:
    """What comes of late work while no step is open that counts it; a failure too is written down in the next one."""
    left = {name: held for name, held in run.carried.items() if name != partner}
    if isinstance(event, steps.Lost):
        left[partner] = msgspec.structs.replace(late, slot=steps.Slot())
    elif isinstance(event, steps.Stored | steps.Refused | steps.Failed):
        if late.slot.state is not SlotState.ASKED:
            return run
        left[partner] = msgspec.structs.replace(late, slot=steps.answered(event))
    return msgspec.structs.replace(run, carried=left)


def _in_open_step(
    run: Run, held: steps.StepState, event: steps.StepEvent, world: _World
) -> tuple[Run, tuple[Action, ...]]:
    index = held.step.index
    state, happened = steps.apply(held, event) if held.attempts is None else attempts.apply(held, event)
    run = msgspec.structs.replace(run, open=run.open | {str(index): state})
    going_on = not any(isinstance(action, steps.Fail) for action in happened)
    actions: tuple[Action, ...] = ()
    for action in happened:
        match action:
            case steps.Close():
                actions += () if run.unheard else (Reduce(index=index, counted=action.counted),)
            case steps.Closed():
                run, told = _late(run, held, action, going_on=going_on)
                actions += told
            case steps.Prolong():
                actions += (Prolong(index=index, deadline_at=action.deadline_at),)
            case steps.Fail():
                run, ended = _end(run, RunState.FAILED, action.reason)
                actions += ended
            case steps.Form():
                actions += (Form(index=index, number=action.number, members=action.members),)
            case steps.Ask():
                actions += (Ask(index=index, partners=action.partners),)
            case steps.Gone():
                actions += (Gone(index=index, number=action.number, partner=action.partner, left=action.left),)
            case steps.Void():
                run, more = _void(run, state, action.reason, world)
                actions += more
    return run, actions


def _void(run: Run, closed: steps.StepState, reason: str, world: _World) -> tuple[Run, tuple[Action, ...]]:
    """The driver's state is as it was, so it proposes the same again, as another step. Who was absent has failed."""
    left = {index: state for index, state in run.open.items() if index != str(closed.step.index)}
    run, told = standing.after_step(msgspec.structs.replace(run, open=left), closed)
    run, actions = _advance(run, world)
    return run, (Void(closed=closed, reason=reason), *told, *actions)


def _late(run: Run, held: steps.StepState, late: steps.Closed, *, going_on: bool) -> tuple[Run, tuple[Action, ...]]:
    """A step closed without this partner: its work is carried into the next training step, or refused."""
    step, cohort = held.origin(late.partner), run.plan.cohort
    if (
        going_on
        and cohort.late == "next"
        and held.step.kind is StepKind.TRAIN
        and held.step.reduce is Reduction.SUM
        and held.step.round - step.round < cohort.late_rounds
    ):
        run = msgspec.structs.replace(run, carried=run.carried | {late.partner: Carried(step=step)})
        first = step.index == held.step.index
        return run, (TellCarried(partner=late.partner, index=step.index),) if first else ()
    return run, (TellClosed(partner=late.partner, index=step.index, reason=late.reason),)


def _received(run: Run, event: Received, world: _World) -> tuple[Run, tuple[Action, ...]]:
    closed = run.open.get(str(event.index))
    if closed is None or closed.counted is None:
        return run, ()
    left = {index: state for index, state in run.open.items() if index != str(event.index)}
    before = run.model if event.model != run.model else run.model_before
    run = msgspec.structs.replace(run, open=left, driver=event.driver, model=event.model, model_before=before)
    run, told = standing.after_step(run, closed)
    driver = world.drivers[run.plan.stages[run.stage].driver]
    run, given_up = overlap.without_outdated(run, driver, driver_state(run, driver), context(run))
    run, actions = _advance(run, world)
    return run, (Commit(closed=closed, model=event.model), *told, *given_up, *actions)


def _said(run: Run, event: Said, world: _World) -> tuple[Run, tuple[Action, ...]]:
    """What a driver hears it does at once, or, while a step is open, the run is paused or partners are yet to be heard
    after a restore, afterwards."""
    driver = world.drivers[run.plan.stages[run.stage].driver]
    if run.state is RunState.WAITING or not isinstance(driver, Listener):
        return run, ()
    after = driver.hear(driver_state(run, driver), event.words, context(run))
    return _advance(_with_state(run, after), world)


def _changed(run: Run, event: Change, world: _World) -> tuple[Run, tuple[Action, ...]]:
    match event.change, run.state:
        case "fail", _:
            return _end(run, RunState.FAILED, event.reason)
        case "stop", _:
            return _end(run, RunState.STOPPED, event.reason)
        case "pause", RunState.RUNNING:
            return msgspec.structs.replace(run, state=RunState.PAUSED, reason=event.reason), ()
        case "resume", RunState.PAUSED:
            return _advance(msgspec.structs.replace(run, state=RunState.RUNNING, reason=""), world)
        case _:
            raise _wrong(run, event.change)


def _start_stage(run: Run, drivers: Drivers) -> Run:
    driver = drivers[run.plan.stages[run.stage].driver]
    return _with_state(run, driver.start(context(run), run.model))


def _with_state(run: Run, state: Any) -> Run:
    return msgspec.structs.replace(run, driver=canonical_json(state).decode())


def _advance(run: Run, world: _World) -> tuple[Run, tuple[Action, ...]]:
    """Open what the driver proposes, also while steps are open where they overlap; a stage that is done hands its model
    to the next.

    After a restore, nothing begins and nothing ends before all were heard: its record could not be written.
    """
    if run.state is not RunState.RUNNING or run.unheard:
        return run, ()
    driver = world.drivers[run.plan.stages[run.stage].driver]
    if not overlap.may_open(run, driver):
        return run, ()
    run, back = standing.returned(run)
    told: tuple[Action, ...] = back
    if not run.joined:
        run, ended = _end(run, RunState.FAILED, "no partner is left")
        return run, (*told, *ended)
    free = [name for name in run.joined if name not in run.carried]
    if len(free) < run.plan.cohort.quorum:
        # Nobody is asked for a smaller circle than the plan's: who is late gives up its old work and is asked again.
        run, given_up = _without_late_work(run, "step.late: too few partners are left beside those that are late")
        free, told = list(run.joined), (*told, *given_up)
    chosen = candidates(run.plan.cohort, free, world.here)
    known = dataclasses.replace(context(run), joined=chosen)
    if isinstance(driver, Listener):
        run = _with_state(run, driver.settle(driver_state(run, driver), known))
    try:
        proposed = driver.next(driver_state(run, driver), known)
    except AimassError as error:  # a driver that cannot go on says so by name
        run, ended = _end(run, RunState.FAILED, f"{error.code}: {error.sentence()}")
        return run, (*told, *ended)
    if isinstance(proposed, Done):
        run, done = _stage_done(run, proposed, world)
        return run, (*told, *done)
    quorum = run.plan.cohort.quorum
    if len(run.joined) < quorum:
        # Partners admitted the plan for its quorum: with fewer left, nobody is asked for a smaller circle.
        run, ended = _end(run, RunState.FAILED, f"{len(run.joined)} of {quorum} partners needed are left")
        return run, (*told, *ended)
    run, opened = _open(run, proposed, chosen, world.now) if proposed else (run, ())
    return run, (*told, *opened)


def _stage_done(run: Run, done: Done, world: _World) -> tuple[Run, tuple[Action, ...]]:
    over = {int(index): "step.stage_over: the stage needs no more contributions" for index in run.open}
    run, given_up = overlap.without(msgspec.structs.replace(run, model=done.model), over)
    if run.stage + 1 == len(run.plan.stages):
        run, ended = _end(run, RunState.FINISHED, done.reason)
        return run, (*given_up, *ended)
    run, told = _without_late_work(run, "step.late: the stage is over")
    run = msgspec.structs.replace(run, stage=run.stage + 1)
    run, actions = _advance(_start_stage(run, world.drivers), world)
    return run, (*given_up, *told, *actions)


def _open(run: Run, proposed: Collection[Step], chosen: tuple[str, ...], now: float) -> tuple[Run, tuple[Action, ...]]:
    """Open steps as the plan has them; the first that trains takes the late work. Nobody is asked who is in another.

    Of several that are opened together the first says among whom all of them were chosen.
    """
    opened: dict[str, steps.StepState] = {}
    busy = overlap.busy(run)
    chosen = tuple(name for name in chosen if name not in busy)
    away, secure = _away(run, chosen), run.plan.secure
    for step in proposed:
        if twice := busy.intersection(step.participants):
            reason = f"driver.busy: step {step.index} asks {', '.join(sorted(twice))}, who are in another that is open"
            return _end(run, RunState.FAILED, reason)
        busy |= set(step.participants)
        if secure is not None and (step.reduce is not Reduction.SUM or step.addressed):
            reason = f"secure.step: step {step.index} is not one sum over one model, and the plan allows no other"
            return _end(run, RunState.FAILED, reason)
        late: dict[str, Carried] = {}
        if step.kind is StepKind.TRAIN and step.reduce is Reduction.SUM:
            late, run = run.carried, msgspec.structs.replace(run, carried={})
        carried = {name: held.step.index for name, held in late.items()}
        opened[str(step.index)] = steps.StepState.of(
            msgspec.structs.replace(step, grace_s=run.plan.cohort.grace_s, carried=carried),
            now,
            {name: (held.step, held.slot) for name, held in late.items()},
            chosen if not opened and chosen != step.participants else (),
            run.excluded,
            {name: why for name, why in away.items() if name not in late},
            attempts.of(secure) if secure is not None else None,
        )
    run = msgspec.structs.replace(run, open=run.open | opened, next_index=max(step.index for step in proposed) + 1)
    return run, tuple(Open(step=state.step) for state in opened.values())


def _away(run: Run, chosen: Collection[str]) -> dict[str, str]:
    """Where everybody is that is neither a candidate nor excluded, nor in another open step: nobody is left out of a
    step without a word."""
    elsewhere = {*chosen, *overlap.busy(run)}

    def where(name: str, member: Participant) -> str:
        if name in run.carried:
            return "late"
        return "not connected" if member.state is ParticipantState.JOINED else str(member.state)

    return {
        name: where(name, member)
        for name, member in sorted(run.participants.items())
        if name not in elsewhere and member.state is not ParticipantState.EXCLUDED
    }


def _without_late_work(run: Run, reason: str) -> tuple[Run, tuple[Action, ...]]:
    told = tuple(
        TellClosed(partner=partner, index=late.step.index, reason=reason)
        for partner, late in sorted(run.carried.items())
    )
    return msgspec.structs.replace(run, carried={}), told


def _end(run: Run, state: RunState, reason: str, *, recorded: bool = True) -> tuple[Run, tuple[Action, ...]]:
    told = tuple(
        TellClosed(partner=partner, index=step.index, reason=reason)
        for partner, step, slot, _ in run.places()
        if slot.state is SlotState.ASKED
    )
    named = tuple(sorted(run.named))
    end = End(state=state, reason=reason, recorded=recorded and not run.unheard, named=named)
    return msgspec.structs.replace(run, state=state, reason=reason, open={}, carried={}, unheard=()), (*told, end)
