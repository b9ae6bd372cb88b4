"""A step that is summed in secret, as a pure machine: who is ready, when an attempt is formed, and what comes of it.

Partners say that their input is encoded; when all have answered, or at the deadline, those that are ready make an
attempt. What happens in it is the protocol's own affair (`aimass.privacy.secagg.server`): here it ends with a sum or
without one, and then the next is formed of those that are still there. A round in which somebody may have signed is
burnt: nobody takes part in another attempt of it, so the step ends without a result.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from aimass.proto.views import SlotState
from aimass.server.steps import (
    Ask,
    AttemptEnded,
    Attempts,
    Close,
    Closed,
    Fail,
    Failed,
    Form,
    Gone,
    Left,
    Prolong,
    Ready,
    Refused,
    Slot,
    StepAction,
    StepEvent,
    StepState,
    Summed,
    TimeUp,
    Void,
    answered,
)

__all__ = ["apply"]

_OPEN: Final = (SlotState.ASKED, SlotState.READY)
Outcome = tuple[StepState, tuple[StepAction, ...]]


def apply(state: StepState, event: StepEvent) -> Outcome:
    """The next state and what is to be done. A step that is closing takes no more events; nor do repeats change any.

    A masked input is stored in its attempt and is lost with it, so `Stored` and `Lost` mean nothing here.
    """
    if state.counted is not None:
        return state, ()
    match event:
        case Ready():
            return _ready(state, event)
        case Failed() | Refused() | Left():
            return _out(state, event)
        case TimeUp():
            return _time_up(state, state.deadline_at if event.at is None else event.at)
        case AttemptEnded():
            return _ended(state, event)
        case Summed():
            return _summed(state, event)
        case _:
            return state, ()


def _attempts(state: StepState) -> Attempts:
    assert state.attempts is not None  # noqa: S101  (the run machine asks of such steps alone)
    return state.attempts


def _those(state: StepState, kind: SlotState) -> tuple[str, ...]:
    return tuple(sorted(name for name, slot in state.slots.items() if slot.state is kind))


def _with(state: StepState, slots: dict[str, Slot]) -> StepState:
    return msgspec.structs.replace(state, slots=state.slots | slots)


def _ready(state: StepState, event: Ready) -> Outcome:
    slot = state.slots.get(event.partner)
    if slot is None or slot.state is not SlotState.ASKED:
        return state, ()
    return _settled(_with(state, {event.partner: Slot(state=SlotState.READY, figures=event.figures)}))


def _out(state: StepState, event: Failed | Refused | Left) -> Outcome:
    """A partner cannot go on: the attempt under way hears it too, and goes on without it where it can."""
    slot, held = state.slots.get(event.partner), _attempts(state)
    if slot is None or slot.state not in _OPEN:
        return state, ()
    gone: tuple[StepAction, ...] = ()
    if event.partner in held.members:
        gone = (Gone(number=held.begun, partner=event.partner, left=isinstance(event, Left)),)
    state, actions = _settled(_with(state, {event.partner: answered(event)}))
    return state, (*gone, *actions)


def _settled(state: StepState) -> Outcome:
    """Form the first attempt as soon as everybody has answered, or so many are ready as are wanted; a later one as
    soon as a quorum is ready."""
    if _attempts(state).members:
        return state, ()
    ready, asked = _those(state, SlotState.READY), _those(state, SlotState.ASKED)
    wanted = state.step.wanted or len(state.step.participants)
    if not asked or len(ready) >= (state.step.quorum if state.graced else wanted):
        return _form(state)
    return state, ()


def _form(state: StepState) -> Outcome:
    """An attempt of all that are ready. Who is still at work may be ready for the next, should there be one."""
    ready, held = _those(state, SlotState.READY), _attempts(state)
    if len(ready) < state.step.quorum:
        return _failed(state, f"{len(ready)} of {state.step.quorum} partners needed are ready for a secure sum")
    held = msgspec.structs.replace(held, begun=held.begun + 1, members=ready)
    return msgspec.structs.replace(state, attempts=held), (Form(number=held.begun, members=ready),)


def _time_up(state: StepState, now: float) -> Outcome:
    """Form with those that are ready, or wait once more for the quorum where the step has grace."""
    if _attempts(state).members:
        return state, ()  # its phases have deadlines of their own
    if state.graced or not state.step.grace_s or len(_those(state, SlotState.READY)) >= state.step.quorum:
        return _form(state)
    return _waiting(state, now + state.step.grace_s)


def _waiting(state: StepState, until: float) -> Outcome:
    return msgspec.structs.replace(state, graced=True, deadline_at=until), (Prolong(deadline_at=until),)


def _ended(state: StepState, event: AttemptEnded) -> Outcome:
    """Try again with those that are still ready, and with whoever was missing, should it come back in time."""
    held = _attempts(state)
    if event.number != held.begun or not held.members:
        return state, ()
    missing = [name for name in event.absent if state.slots[name].state is SlotState.READY]
    out = Slot(state=SlotState.FAILED, reason=f"secure.withheld: {event.reason}")
    state = _with(state, {name: out if name in event.withheld else Slot() for name in missing})
    state = msgspec.structs.replace(state, attempts=msgspec.structs.replace(held, members=(), last=event.reason))
    if event.burnt:
        return _voided(
            state, f"secure.burnt: {event.reason}; somebody may have signed, so the round is not tried again"
        )
    if held.begun >= held.most:
        return _failed(state, f"{held.begun} attempts at a secure sum failed")
    again = tuple(name for name in missing if name not in event.withheld)
    asked: tuple[StepAction, ...] = (Ask(partners=again),) if again else ()
    if len(_those(state, SlotState.READY)) >= state.step.quorum:
        state, actions = _form(state)
    elif _those(state, SlotState.ASKED):
        state, actions = _waiting(state, event.at + held.wait_s)
    else:
        state, actions = _failed(state, "too few partners are left for a secure sum")
    return state, (*asked, *actions)


def _summed(state: StepState, event: Summed) -> Outcome:
    held, counted = _attempts(state), tuple(sorted(event.digests))
    if event.number != held.begun or not held.members:
        return state, ()
    reason = "step.not_in_sum: the secure sum was made without this partner"
    state, told = _closed(state, reason, keep=counted)
    slots = {
        name: Slot(state=SlotState.COUNTED, digest=digest, figures=state.slots[name].figures)
        for name, digest in event.digests.items()
    }
    state = msgspec.structs.replace(_with(state, slots), counted=counted)
    return state, (*told, Close(counted=counted))


def _closed(state: StepState, reason: str, keep: Collection[str] = ()) -> Outcome:
    """Whoever is still in the step, but for `keep`, hears that it is over and why."""
    waiting = sorted(name for name, slot in state.slots.items() if slot.state in _OPEN and name not in keep)
    state = _with(state, dict.fromkeys(waiting, Slot(state=SlotState.LATE, reason=reason)))
    return state, tuple(Closed(partner=name, reason=reason) for name in waiting)


def _voided(state: StepState, reason: str) -> Outcome:
    state, told = _closed(state, reason)
    return msgspec.structs.replace(state, counted=()), (*told, Void(reason=reason))


def _failed(state: StepState, why: str) -> Outcome:
    last = _attempts(state).last
    why = f"{why}; the last attempt: {last}" if last else why
    missing = "; ".join(
        f"{name}: {slot.reason or slot.state}"
        for name, slot in sorted(state.slots.items())
        if slot.state is not SlotState.READY
    )
    state, told = _closed(state, f"step.secure: {why}")
    reason = f"step {state.step.index}: {why}{f' ({missing})' if missing else ''}"
    return msgspec.structs.replace(state, counted=()), (*told, Fail(reason=reason))
