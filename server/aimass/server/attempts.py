"""A step that is summed in secret, as a pure machine: who is ready, when attempts are formed, and what comes of them.

Partners say that their input is encoded. When all have answered, or at the deadline, those that are ready are dealt
into circles, one or several, each with an attempt of its own. What happens in an attempt is the protocol's own affair
(`aimass.privacy.secagg.server`): here it ends with a sum or without one, and then the circle tries again with those
that are still there. A circle in which somebody may have signed is burnt: none of its partners takes part in another
attempt of this step. Where too few circles come to a sum the step ends without a result, if somebody signed, and
otherwise the run fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from aimass.proto.plan import SecureSettings
from aimass.proto.robust import least
from aimass.proto.views import SlotState
from aimass.server.steps import (
    Ask,
    AttemptEnded,
    Attempts,
    Circle,
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

__all__ = ["apply", "deal", "of"]

_OPEN: Final = (SlotState.ASKED, SlotState.READY)
_DEAL: Final = b"AIMass circles v1\0"
_BURNT: Final = "secure.burnt"
Outcome = tuple[StepState, tuple[StepAction, ...]]


def of(secure: SecureSettings) -> Attempts:
    """What a plan says of its secure sums. A robust rule needs as many as it can withstand the liars among."""
    return Attempts(
        most=secure.attempts,
        wait_s=secure.phase_s,
        least=secure.min_cohort,
        wanted=secure.groups,
        enough=least(secure.rule, secure.tolerated) if secure.tolerated else secure.groups,
    )


def deal(names: Collection[str], circles: int, about: str) -> tuple[tuple[str, ...], ...]:
    """`names` in so many circles whose sizes differ by one at most, each sorted; in the order of a hash with `about`.

    `about` must be something that no partner could foresee when it took its name.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(_DEAL + about.encode() + b"\0" + name.encode()).digest()

    ordered = sorted(names, key=place)
    return tuple(tuple(sorted(ordered[start::circles])) for start in range(circles))


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


# ---------------------------------------------------------------- looking


def _attempts(state: StepState) -> Attempts:
    assert state.attempts is not None  # noqa: S101  (the run machine asks of such steps alone)
    return state.attempts


def _those(state: StepState, kind: SlotState, among: Collection[str] | None = None) -> tuple[str, ...]:
    return tuple(
        sorted(name for name, slot in state.slots.items() if slot.state is kind and (among is None or name in among))
    )


def _circle_of(state: StepState, number: int) -> int | None:
    """Which circle has the attempt of this number under way."""
    circles = _attempts(state).circles
    return next((place for place, one in enumerate(circles) if one.members and one.number == number), None)


# ---------------------------------------------------------------- changing


def _with(state: StepState, slots: dict[str, Slot]) -> StepState:
    return msgspec.structs.replace(state, slots=state.slots | slots)


def _with_circle(state: StepState, place: int, circle: Circle) -> StepState:
    held = _attempts(state)
    circles = (*held.circles[:place], circle, *held.circles[place + 1 :])
    return msgspec.structs.replace(state, attempts=msgspec.structs.replace(held, circles=circles))


def _ready(state: StepState, event: Ready) -> Outcome:
    slot = state.slots.get(event.partner)
    if slot is None or slot.state is not SlotState.ASKED:
        return state, ()
    ready = Slot(state=SlotState.READY, figures=event.figures, ledger=event.ledger)
    return _settled(_with(state, {event.partner: ready}))


def _out(state: StepState, event: Failed | Refused | Left) -> Outcome:
    """A partner cannot go on: the attempt under way hears it too, and goes on without it where it can."""
    slot = state.slots.get(event.partner)
    if slot is None or slot.state not in _OPEN:
        return state, ()
    gone: tuple[StepAction, ...] = tuple(
        Gone(number=circle.number, partner=event.partner, left=isinstance(event, Left))
        for circle in _attempts(state).circles
        if event.partner in circle.members
    )
    state, actions = _settled(_with(state, {event.partner: answered(event)}))
    return state, (*gone, *actions)


def _settled(state: StepState) -> Outcome:
    """Deal as soon as everybody has answered, or so many are ready as are wanted; form again what waits and can be."""
    held = _attempts(state)
    if not held.circles:
        ready, asked = _those(state, SlotState.READY), _those(state, SlotState.ASKED)
        wanted = state.step.wanted or len(state.step.participants)
        if asked and len(ready) < (state.step.quorum if state.graced else wanted):
            return state, ()
        return _dealt(state)
    return _formed(state, [place for place in _waiting_places(state) if _worth_forming(state, held.circles[place])])


def _worth_forming(state: StepState, circle: Circle) -> bool:
    """Whether enough of a circle are ready, or nobody of it may still come."""
    enough = len(_those(state, SlotState.READY, circle.partners)) >= _attempts(state).least
    return enough or not _those(state, SlotState.ASKED, circle.partners)


def _waiting_places(state: StepState) -> list[int]:
    """Which circles have no attempt under way and may have one."""
    return [place for place, one in enumerate(_attempts(state).circles) if not one.members and not one.over]


def _formed(state: StepState, places: Sequence[int]) -> Outcome:
    """An attempt of each of these circles, and what follows where none of them can have one."""
    actions: tuple[StepAction, ...] = ()
    for place in places:
        state, more = _form(state, place)
        actions += more
    state, closing = _closing(state)
    return state, (*actions, *closing)


def _dealt(state: StepState) -> Outcome:
    """The first attempts, of all that are ready. Who is still at work is in no circle, and in no sum of this step."""
    held, ready = _attempts(state), _those(state, SlotState.READY)
    if len(ready) < state.step.quorum:
        return _failed(state, f"{len(ready)} of {state.step.quorum} partners needed are ready for a secure sum")
    # Of what nobody can choose beforehand. A round that is asked for again is dealt as it was: sums over other circles
    # of one model would differ by few partners.
    circles = deal(ready, held.wanted, f"{state.step.kind} {state.step.round} {state.step.inputs[0]}")
    held = msgspec.structs.replace(held, circles=tuple(Circle(partners=partners) for partners in circles))
    state = msgspec.structs.replace(state, attempts=held)
    late = "step.late: the partners of this step's secure sum were dealt before this one was ready"
    state, actions = _closed(state, late, keep=ready)
    for place in range(len(circles)):
        state, more = _form(state, place)
        actions += more
    return state, actions


def _form(state: StepState, place: int) -> Outcome:
    """An attempt of those of a circle that are ready; without enough of them the circle is out."""
    held, circle = _attempts(state), _attempts(state).circles[place]
    ready = _those(state, SlotState.READY, circle.partners)
    if len(ready) < held.least:
        return _circle_out(state, place, f"{len(ready)} of {held.least} partners needed are ready; {circle.last}")
    number = held.begun + 1
    circle = msgspec.structs.replace(circle, members=ready, number=number, tries=circle.tries + 1)
    state = msgspec.structs.replace(state, attempts=msgspec.structs.replace(held, begun=number))
    return _with_circle(state, place, circle), (Form(number=number, members=ready),)


def _circle_out(state: StepState, place: int, reason: str) -> Outcome:
    circle = msgspec.structs.replace(_attempts(state).circles[place], members=(), out=True, last=reason)
    state = _with_circle(state, place, circle)
    others = [name for name in state.slots if name not in circle.partners]
    missing = _those(state, SlotState.ASKED, circle.partners)
    absent = f"secure.absent: {reason}"
    state = _with(state, dict.fromkeys(missing, Slot(state=SlotState.FAILED, reason=absent)))
    told: tuple[StepAction, ...] = tuple(Closed(partner=name, reason=absent) for name in missing)
    state, more = _closed(state, reason if reason.startswith(_BURNT) else f"secure.no_sum: {reason}", keep=others)
    return state, (*told, *more)


def _time_up(state: StepState, now: float) -> Outcome:
    """Deal those that are ready, or wait once more for the quorum; of circles that wait, give up who has not come."""
    held = _attempts(state)
    if not held.circles:
        if state.graced or not state.step.grace_s or len(_those(state, SlotState.READY)) >= state.step.quorum:
            return _dealt(state)
        return _waiting(state, now + state.step.grace_s)
    return _formed(state, _waiting_places(state))


def _waiting(state: StepState, until: float) -> Outcome:
    return msgspec.structs.replace(state, graced=True, deadline_at=until), (Prolong(deadline_at=until),)


def _ended(state: StepState, event: AttemptEnded) -> Outcome:
    """Try again with those that are still ready, and with whoever was missing, should it come back in time."""
    place, held = _circle_of(state, event.number), _attempts(state)
    if place is None:
        return state, ()
    circle = msgspec.structs.replace(held.circles[place], members=(), last=event.reason)
    lost = sorted({*event.absent, *event.withheld})
    missing = [name for name in lost if state.slots[name].state is SlotState.READY]
    out = Slot(state=SlotState.FAILED, reason=f"secure.withheld: {event.reason}")
    state = _with(state, {name: out if name in event.withheld else Slot() for name in missing})
    state = _with_circle(state, place, circle)
    failed = (*held.failed, f"attempt {event.number}: {event.reason}")
    state = msgspec.structs.replace(state, attempts=msgspec.structs.replace(_attempts(state), failed=failed))
    actions: tuple[StepAction, ...] = ()
    if event.burnt:
        why = f"{_BURNT}: {event.reason}; somebody may have signed, so it is not tried again"
        state, actions = _circle_out(state, place, why)
    elif circle.tries >= held.most:
        state, actions = _circle_out(state, place, f"{circle.tries} attempts failed, the last: {event.reason}")
    else:
        again = tuple(name for name in missing if name not in event.withheld)
        actions = (Ask(partners=again),) if again else ()
        few = len(_those(state, SlotState.READY, circle.partners)) < held.least
        if few and _those(state, SlotState.ASKED, circle.partners):
            state, more = _waiting(state, event.at + held.wait_s)
        else:
            state, more = _form(state, place)
        actions += more
    state, closing = _closing(state)
    return state, (*actions, *closing)


def _summed(state: StepState, event: Summed) -> Outcome:
    place = _circle_of(state, event.number)
    if place is None:
        return state, ()
    circle = msgspec.structs.replace(_attempts(state).circles[place], members=(), digests=event.digests)
    return _closing(_with_circle(state, place, circle))


def _closing(state: StepState) -> Outcome:
    """Once nothing more comes of any circle: count what was summed, or end without a result."""
    held = _attempts(state)
    if state.counted is not None or not held.circles or not all(circle.over for circle in held.circles):
        return state, ()
    if sum(bool(circle.digests) for circle in held.circles) < held.enough:
        return _no_result(state)
    digests = {name: digest for circle in held.circles for name, digest in circle.digests.items()}
    counted = tuple(sorted(digests))
    state, told = _closed(state, "step.not_in_sum: the secure sum was made without this partner", keep=counted)
    slots = {
        name: msgspec.structs.replace(state.slots[name], state=SlotState.COUNTED, digest=digest)
        for name, digest in digests.items()
    }
    return msgspec.structs.replace(_with(state, slots), counted=counted), (*told, Close(counted=counted))


def _no_result(state: StepState) -> Outcome:
    """Where somebody may have signed, or a circle has a sum that is not used, the run goes on; else it cannot."""
    circles = _attempts(state).circles
    why = next(circle.last for circle in circles if circle.out)
    if not any(circle.digests or circle.last.startswith(_BURNT) for circle in circles):
        return _failed(state, why)
    state, told = _closed(state, f"secure.void: {why}")
    return msgspec.structs.replace(state, counted=()), (*told, Void(reason=why))


def _closed(state: StepState, reason: str, keep: Collection[str] = ()) -> Outcome:
    """Whoever is still in the step, but for `keep`, hears that it is over and why."""
    waiting = sorted(name for name, slot in state.slots.items() if slot.state in _OPEN and name not in keep)
    state = _with(state, dict.fromkeys(waiting, Slot(state=SlotState.LATE, reason=reason)))
    return state, tuple(Closed(partner=name, reason=reason) for name in waiting)


def _failed(state: StepState, why: str) -> Outcome:
    if not state.step.required:
        state, told = _closed(state, f"step.too_few: {why}")
        return msgspec.structs.replace(state, counted=()), (*told, Close(counted=()))
    missing = "; ".join(
        f"{name}: {slot.reason or slot.state}"
        for name, slot in sorted(state.slots.items())
        if slot.state is not SlotState.READY
    )
    state, told = _closed(state, f"step.secure: {why}")
    reason = f"step {state.step.index}: {why}{f' ({missing})' if missing else ''}"
    return msgspec.structs.replace(state, counted=()), (*told, Fail(reason=reason))
