"""One step as a pure machine: who was asked, who answered, when it closes and with whom.

No clock, no socket: `apply` takes a state and an event and gives the next state and what is to be done. Events may
come late, twice or from strangers; those change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from aimass.proto.errors import AimassError, DeadlinePassed
from aimass.proto.sealed import SealedHead
from aimass.proto.step import Step
from aimass.proto.values import Value
from aimass.proto.views import SlotState

__all__ = [
    "Ask",
    "AttemptEnded",
    "Attempts",
    "Circle",
    "Close",
    "Closed",
    "Fail",
    "Failed",
    "Form",
    "Gone",
    "Left",
    "Lost",
    "Prolong",
    "Ready",
    "Refused",
    "Slot",
    "StepAction",
    "StepEvent",
    "StepState",
    "Stored",
    "Summed",
    "TimeUp",
    "Void",
    "answered",
    "apply",
    "given_up",
]


_ASKED: Final = (SlotState.ASKED,)


class Slot(Value, frozen=True):
    """One participant's place in a step. `digest` is of the contribution that was stored.

    `figures` are those of this partner alone that its policy releases beside a secure sum; `ledger` is how far its
    privacy ledger goes, for its receipt.
    """

    state: SlotState = SlotState.ASKED
    digest: str = ""
    reason: str = ""
    figures: dict[str, float] = {}
    ledger: SealedHead | None = None


class Circle(Value, frozen=True):
    """Partners that are summed together, in secret. `members` take part in the attempt that is under way, the step's
    `number`th; `tries` is how many this circle has begun, `last` why its last one ended.

    It is over with the `digests` of the inputs that were summed, or, `out`, without a sum.
    """

    partners: tuple[str, ...]
    members: tuple[str, ...] = ()
    number: int = 0
    tries: int = 0
    last: str = ""
    digests: dict[str, str] = {}
    out: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.out or bool(self.digests)


class Attempts(Value, frozen=True):
    """Of a step that is summed in secret: in how many circles, and what came of each once they are formed.

    A circle has `least` partners at least, and is tried `most` times; for who is missing after an attempt the next
    waits `wait_s`. `enough` circles must come to a sum. `begun` counts the attempts of all, `failed` are the reasons of
    those that ended without one.
    """

    most: int
    wait_s: float
    least: int
    wanted: int = 1
    enough: int = 1
    begun: int = 0
    circles: tuple[Circle, ...] = ()
    failed: tuple[str, ...] = ()


class StepState(Value, frozen=True):
    """A step that is open, or closing: then `counted` is fixed, and only the commit is left to do.

    `carried` holds, by partner, the earlier step whose late work counts here. `candidates` are the partners among whom
    this step's were chosen, where not all of them were, `excluded` those that were not asked, with the reason, and
    `away` all others that the run knows, with where they were. With `attempts` it is summed in secret: then
    `aimass.server.attempts` says how it goes on.
    """

    step: Step
    opened_at: float
    deadline_at: float
    slots: dict[str, Slot]
    counted: tuple[str, ...] | None = None
    carried: dict[str, Step] = {}
    candidates: tuple[str, ...] = ()
    excluded: dict[str, str] = {}
    away: dict[str, str] = {}
    graced: bool = False
    attempts: Attempts | None = None

    @staticmethod
    def of(
        step: Step,
        now: float,
        carried: Mapping[str, tuple[Step, Slot]] | None = None,
        candidates: tuple[str, ...] = (),
        excluded: Mapping[str, str] | None = None,
        away: Mapping[str, str] | None = None,
        attempts: Attempts | None = None,
    ) -> StepState:
        """A fresh step in which everybody has been asked; late work keeps the places that it has."""
        late = carried or {}
        return StepState(
            step=step,
            opened_at=now,
            deadline_at=now + step.deadline_s,
            slots={name: Slot() for name in step.participants} | {name: slot for name, (_, slot) in late.items()},
            carried={name: origin for name, (origin, _) in late.items()},
            candidates=candidates,
            excluded=dict(excluded or {}),
            away=dict(away or {}),
            attempts=attempts,
        )

    @property
    def patience_s(self) -> float:
        """Seconds that the present deadline gave when it was set."""
        return self.step.grace_s if self.graced else self.step.deadline_s

    def origin(self, partner: str) -> Step:
        """The step that `partner` works on: this one, or the earlier one that its late work belongs to."""
        return self.carried.get(partner, self.step)


class Stored(Value, frozen=True):
    """A contribution was checked and is on the disk."""

    partner: str
    digest: str
    ledger: SealedHead | None = None


class Refused(Value, frozen=True):
    """A contribution did not pass the checks."""

    partner: str
    reason: str


class Failed(Value, frozen=True):
    """A partner cannot do this step."""

    partner: str
    reason: str


class Left(Value, frozen=True):
    """A partner is out of the run: what it sent counts no more, unless it is being summed."""

    partner: str
    reason: str


class Lost(Value, frozen=True):
    """What a partner sent is not on the disk any more: it is asked again."""

    partner: str


class TimeUp(Value, frozen=True):
    """The step's deadline has passed. `at` is what the clock says then: it may have been set since the step opened."""

    at: float | None = None


class Ready(Value, frozen=True):
    """A partner's input to a secure sum is encoded and durable there."""

    partner: str
    figures: dict[str, float] = {}
    ledger: SealedHead | None = None


class AttemptEnded(Value, frozen=True):
    """An attempt at a secure sum, the `number`th, has ended without one at the time `at`.

    `absent` were waited for in vain; those in `withheld` kept back what the others had to have. With `burnt`
    somebody may have signed: no other attempt of this step is taken part in.
    """

    number: int
    reason: str
    at: float
    absent: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    burnt: bool = False


class Summed(Value, frozen=True):
    """An attempt has come to a sum of these partners' inputs, given by the digests of what they sent."""

    number: int
    digests: dict[str, str]


StepEvent = Stored | Refused | Failed | Left | Lost | TimeUp | Ready | AttemptEnded | Summed


class Close(Value, frozen=True):
    """Reduce these contributions, in this order of names, and commit; none of a step that is not required and has no
    quorum."""

    counted: tuple[str, ...]


class Fail(Value, frozen=True):
    """Too few contributions: the run cannot go on."""

    reason: str


class Closed(Value, frozen=True):
    """Tell a partner that its work is not wanted any more."""

    partner: str
    reason: str


class Prolong(Value, frozen=True):
    """The quorum is not there: wait until this time before the step closes."""

    deadline_at: float


class Form(Value, frozen=True):
    """Begin an attempt at a secure sum with these partners."""

    number: int
    members: tuple[str, ...]


class Ask(Value, frozen=True):
    """Ask these partners once more what they have for the step."""

    partners: tuple[str, ...]


class Gone(Value, frozen=True):
    """Nobody waits any more in this attempt for a partner that cannot go on, or (`left`) that is out of the run."""

    number: int
    partner: str
    left: bool


class Void(Value, frozen=True):
    """The step ends without a result and is not tried again: the run goes on from where it was."""

    reason: str


StepAction = Close | Fail | Closed | Prolong | Form | Ask | Gone | Void


def apply(state: StepState, event: StepEvent) -> tuple[StepState, tuple[StepAction, ...]]:
    """The next state and what is to be done. A step that is closing takes no more events."""
    if isinstance(event, Lost):
        return _asked_again(state, event.partner), ()
    if state.counted is not None:
        return state, ()
    if isinstance(event, TimeUp):
        return _time_up(state, state.deadline_at if event.at is None else event.at)
    if isinstance(event, Ready | AttemptEnded | Summed):
        return state, ()  # of steps that are summed in secret alone
    slot = state.slots.get(event.partner)
    if slot is None or slot.state not in ((SlotState.ASKED, SlotState.STORED) if isinstance(event, Left) else _ASKED):
        return state, ()
    state = msgspec.structs.replace(state, slots=state.slots | {event.partner: answered(event)})
    if state.step.wanted and _answers(state) >= state.step.wanted:
        return _close(state, _enough(state))
    if not any(state.slots[name].state is SlotState.ASKED for name in state.step.participants):
        return _close(state, _late(state))  # late work of earlier steps is not waited for
    if state.graced and _count(state, SlotState.STORED) >= state.step.quorum:
        return _close(state, _late(state))
    return state, ()


def answered(event: Stored | Refused | Failed | Left) -> Slot:
    """The place of a partner after what it brought, or did not."""
    if isinstance(event, Stored):
        return Slot(state=SlotState.STORED, digest=event.digest, ledger=event.ledger)
    return Slot(state=SlotState.REFUSED if isinstance(event, Refused) else SlotState.FAILED, reason=event.reason)


def given_up(state: StepState, reason: str) -> tuple[StepState, tuple[Closed, ...]]:
    """A step of which nothing is of use any more, whatever has come of it. Everybody whose work is lost hears why."""
    lost = (SlotState.ASKED, SlotState.READY, SlotState.STORED, SlotState.COUNTED)
    names = sorted(name for name, slot in state.slots.items() if slot.state in lost)
    slots = state.slots | dict.fromkeys(names, Slot(state=SlotState.LATE, reason=reason))
    told = tuple(Closed(partner=name, reason=reason) for name in names)
    return msgspec.structs.replace(state, slots=slots, counted=()), told


def _answers(state: StepState) -> int:
    """Contributions to this very step: if late work of earlier ones counted as well, it would make this step's late."""
    return sum(state.slots[name].state is SlotState.STORED for name in state.step.participants)


def _asked_again(state: StepState, partner: str) -> StepState:
    """Also of a step that is closing: nothing was committed, so nobody was told yet who is counted."""
    slot = state.slots.get(partner)
    if slot is None or not slot.digest:
        return state
    slots = {
        name: msgspec.structs.replace(held, state=SlotState.STORED) if held.state is SlotState.COUNTED else held
        for name, held in state.slots.items()
    }
    return msgspec.structs.replace(state, slots=slots | {partner: Slot()}, counted=None)


def _time_up(state: StepState, now: float) -> tuple[StepState, tuple[StepAction, ...]]:
    """Close, or wait once more for the quorum where the step has grace."""
    if state.graced or not state.step.grace_s or _count(state, SlotState.STORED) >= state.step.quorum:
        return _close(state, _late(state))
    until = now + state.step.grace_s
    return msgspec.structs.replace(state, graced=True, deadline_at=until), (Prolong(deadline_at=until),)


def _count(state: StepState, kind: SlotState) -> int:
    return sum(slot.state is kind for slot in state.slots.values())


def _close(state: StepState, reason: str) -> tuple[StepState, tuple[StepAction, ...]]:
    """Close with what is stored; `reason` is what those hear that are still at work."""
    counted = tuple(sorted(name for name, slot in state.slots.items() if slot.state is SlotState.STORED))
    waiting = sorted(name for name, slot in state.slots.items() if slot.state is SlotState.ASKED)
    slots = state.slots | {name: Slot(state=SlotState.LATE, reason=reason) for name in waiting}
    told = tuple(Closed(partner=name, reason=reason) for name in waiting)
    if len(counted) < state.step.quorum and not state.step.required:
        few = f"step.too_few: {len(counted)} of {state.step.quorum} contributions needed came, and none is used"
        unused = {"state": SlotState.REFUSED, "reason": few, "digest": ""}
        slots |= {name: msgspec.structs.replace(slots[name], **unused) for name in counted}
        return msgspec.structs.replace(state, slots=slots, counted=()), (*told, Close(counted=()))
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
