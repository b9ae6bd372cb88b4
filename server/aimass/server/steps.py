"""One step as a pure machine: who was asked, who answered, when it closes and with whom.

No clock, no socket: `apply` takes a state and an event and gives the next state and what is to be done. Events may
come late, twice or from strangers; those change nothing.
"""

from __future__ import annotations

import msgspec

from aimass.proto.errors import AimassError, DeadlinePassed
from aimass.proto.step import Step
from aimass.proto.values import Value
from aimass.proto.views import SlotState

__all__ = [
    "Close",
    "Closed",
    "Fail",
    "Failed",
    "Refused",
    "Slot",
    "StepEvent",
    "StepState",
    "Stored",
    "TimeUp",
    "apply",
]


class Slot(Value, frozen=True):
    """One participant's place in a step. `digest` is of the contribution that was stored."""

    state: SlotState = SlotState.ASKED
    digest: str = ""
    reason: str = ""


class StepState(Value, frozen=True):
    """A step that is open, or closing: then `counted` is fixed, and only the commit is left to do."""

    step: Step
    opened_at: float
    deadline_at: float
    slots: dict[str, Slot]
    counted: tuple[str, ...] | None = None

    @staticmethod
    def of(step: Step, now: float) -> StepState:
        """A fresh step in which everybody has been asked."""
        return StepState(
            step=step,
            opened_at=now,
            deadline_at=now + step.deadline_s,
            slots={name: Slot() for name in step.participants},
        )


class Stored(Value, frozen=True):
    """A contribution was checked and is on the disk."""

    partner: str
    digest: str


class Refused(Value, frozen=True):
    """A contribution did not pass the checks."""

    partner: str
    reason: str


class Failed(Value, frozen=True):
    """A partner cannot do this step, or left."""

    partner: str
    reason: str


class TimeUp(Value, frozen=True):
    """The step's deadline has passed."""


StepEvent = Stored | Refused | Failed | TimeUp


class Close(Value, frozen=True):
    """Reduce these contributions, in this order of names, and commit."""

    counted: tuple[str, ...]


class Fail(Value, frozen=True):
    """Too few contributions: the run cannot go on."""

    reason: str


class Closed(Value, frozen=True):
    """Tell a partner that its work is not wanted any more."""

    partner: str
    reason: str


StepAction = Close | Fail | Closed


def apply(state: StepState, event: StepEvent) -> tuple[StepState, tuple[StepAction, ...]]:
    """The next state and what is to be done. A step that is closing takes no more events."""
    if state.counted is not None:
        return state, ()
    if isinstance(event, TimeUp):
        return _close(state, _late(state))
    slot = state.slots.get(event.partner)
    if slot is None or slot.state is not SlotState.ASKED:
        return state, ()
    if isinstance(event, Stored):
        slot = Slot(state=SlotState.STORED, digest=event.digest)
    else:
        kind = SlotState.REFUSED if isinstance(event, Refused) else SlotState.FAILED
        slot = Slot(state=kind, reason=event.reason)
    state = msgspec.structs.replace(state, slots=state.slots | {event.partner: slot})
    if state.step.wanted and _count(state, SlotState.STORED) >= state.step.wanted:
        return _close(state, _enough(state))
    if _count(state, SlotState.ASKED):
        return state, ()
    return _close(state, "")


def _count(state: StepState, kind: SlotState) -> int:
    return sum(slot.state is kind for slot in state.slots.values())


def _close(state: StepState, reason: str) -> tuple[StepState, tuple[StepAction, ...]]:
    """Close with what is stored; `reason` is what those hear that are still at work."""
    counted = tuple(sorted(name for name, slot in state.slots.items() if slot.state is SlotState.STORED))
    waiting = sorted(name for name, slot in state.slots.items() if slot.state is SlotState.ASKED)
    slots = state.slots | {name: Slot(state=SlotState.LATE, reason=reason) for name in waiting}
    told = tuple(Closed(partner=name, reason=reason) for name in waiting)
    if len(counted) < state.step.quorum:
        missing = "; ".join(
            f"{name}: {slot.reason or slot.state}" for name, slot in sorted(slots.items()) if not slot.digest
        )
        why = f"step {state.step.index} has {len(counted)} of {state.step.quorum} contributions needed ({missing})"
        return msgspec.structs.replace(state, slots=slots, counted=()), (*told, Fail(reason=why))
    slots |= {name: msgspec.structs.replace(slots[name], state=SlotState.COUNTED) for name in counted}
    return msgspec.structs.replace(state, slots=slots, counted=counted), (*told, Close(counted=counted))


def _late(state: StepState) -> str:
    error: AimassError = DeadlinePassed(
        "the step closed before this contribution came", code="step.late", limit=f"{state.step.deadline_s:g} s"
    )
    return f"{error.code}: {error.what}"


def _enough(state: StepState) -> str:
    return f"step.enough: {state.step.wanted} contributions came earlier, and no more are wanted"
