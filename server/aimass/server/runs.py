"""What a run is at one moment, what can happen to it, and what follows: frozen values, stored with each change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aimass.proto.origin import Origin
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.values import Value
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import steps

__all__ = [
    "Action",
    "Ask",
    "Behind",
    "Carried",
    "Change",
    "Commit",
    "Declined",
    "DriverDied",
    "End",
    "Event",
    "Form",
    "Gone",
    "Heard",
    "InStep",
    "Job",
    "JoinTimeUp",
    "Joined",
    "Offline",
    "Open",
    "Participant",
    "Prolong",
    "Readmitted",
    "Received",
    "Reduce",
    "Removed",
    "Reported",
    "ReportedEnd",
    "Run",
    "Said",
    "TellCarried",
    "TellClosed",
    "TellStanding",
    "Void",
]


_DIGEST: Final = re.compile(r'"([0-9a-f]{64})"')


class Participant(Value, frozen=True):
    """A partner in a run. `key` is its shard's and orders the sum.

    `failures` counts the last steps in a row to which it brought nothing; `excluded_at` is the number of steps that the
    run had had when it was excluded.
    """

    state: ParticipantState = ParticipantState.INVITED
    key: str = ""
    device: str = ""
    confinement: str = ""
    reason: str = ""
    failures: int = 0
    excluded_at: int = 0


class Carried(Value, frozen=True):
    """Late work that is to count in the next training step: the step that it is for, and its place."""

    step: Step
    slot: steps.Slot = steps.Slot()


class Job(Value, frozen=True):
    """An offline run whose driver this server starts and watches: the stores that hold its data set, and the store
    `out` that holds its state. Its driver died `deaths` times since it last came to the end of a step."""

    stores: tuple[str, ...]
    out: str
    deaths: int = 0


class Offline(Value, frozen=True):
    """What there is to know of a run that computes elsewhere: where, its last round that was reported, and the last
    model, whether its bytes came or not. With a `job` it is this server that sees to it."""

    origin: Origin
    round: int = 0
    model: str = ""
    job: Job | None = None


class Run(Value, frozen=True):
    """Everything that decides how a run goes on. `driver` is the state of the stage's driver as JSON text.

    `model_before` is the model that `model` was made from, for the summary of the next step alone. `carried` is late
    work by partner while no training step is open that counts it. `unheard` are, after a restore, the partners that are
    yet to say how much of the run's history they hold: until then it is not written on. With `offline` it is the record
    of a run that computes elsewhere and reports what it comes to.
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
    carried: dict[str, Carried] = {}
    unheard: tuple[str, ...] = ()
    offline: Offline | None = None

    @property
    def joined(self) -> tuple[str, ...]:
        """Partners that take part, sorted by name."""
        return tuple(
            sorted(name for name, member in self.participants.items() if member.state is ParticipantState.JOINED)
        )

    @property
    def named(self) -> frozenset[str]:
        """Digests in the driver's state: its model, and blobs that it needs beside it to go on."""
        return frozenset(_DIGEST.findall(self.driver))

    @property
    def excluded(self) -> dict[str, str]:
        """Partners that are not asked any more after too many failures, with the reason."""
        return {
            name: member.reason
            for name, member in sorted(self.participants.items())
            if member.state is ParticipantState.EXCLUDED
        }

    def places(self) -> Iterator[tuple[str, Step, steps.Slot, float]]:
        """Partner, the step that it works on, its place, until when: of all steps that still take contributions."""
        for partner, late in self.carried.items():
            yield partner, late.step, late.slot, 0.0
        for state in self.open.values():
            if state.counted is None:
                for partner, slot in state.slots.items():
                    yield partner, state.origin(partner), slot, state.deadline_at

    def place(self, partner: str, index: int) -> tuple[Step, steps.Slot] | None:
        """The step of this index as `partner` works on it, and its place there, while contributions are taken."""
        return next((p[1:3] for p in self.places() if p[0] == partner and p[1].index == index), None)

    def contributions(self) -> frozenset[tuple[int, str]]:
        """Index and partner of everything that was sent, or may be, and is not summed yet: what the spool keeps.

        What is being summed in secret stays, whatever became of its partner's place: masks do not come off without it.
        """
        wanted = (SlotState.ASKED, SlotState.READY, SlotState.STORED, SlotState.COUNTED)
        closing = {
            (state.origin(partner).index, partner)
            for state in self.open.values()
            for partner, slot in state.slots.items()
            if slot.state in wanted
        }
        in_secret = {
            (state.step.index, partner)
            for state in self.open.values()
            if state.attempts is not None
            for circle in state.attempts.circles
            for partner in (*circle.members, *circle.digests)
        }
        late = {(late.step.index, partner) for partner, late in self.carried.items()}
        return frozenset(closing | in_secret | late)

    def acknowledged(self) -> dict[tuple[int, str], str]:
        """Index, partner and digest of what was acknowledged and is not summed yet."""
        held = {
            (state.origin(partner).index, partner): slot.digest
            for state in self.open.values()
            for partner, slot in state.slots.items()
            if slot.digest
        }
        return held | {
            (late.step.index, name): late.slot.digest for name, late in self.carried.items() if late.slot.digest
        }


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
    """A partner was revoked or withdrew: what it sent and is not being summed counts no more."""

    partner: str
    reason: str


class Readmitted(Value, frozen=True):
    """A person lets a partner that was excluded take part again."""

    partner: str


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


class Said(Value, frozen=True):
    """A program that a driver listens to has said something. The driver alone knows what the words mean."""

    words: str


class Change(Value, frozen=True):
    """A person pauses, resumes or stops the run, or the shell gives it up."""

    change: str
    reason: str


class Heard(Value, frozen=True):
    """After a restore: what this partner holds of the history is part of the server's."""

    partner: str


class Behind(Value, frozen=True):
    """The server was restored, and a partner holds what it signed later: writing on would fork the history."""

    reason: str


class Reported(Value, frozen=True):
    """An offline run has come to the end of a step; `model` is what it made, empty where it made none. Only one whose
    bytes are `here` becomes the run's."""

    index: int
    round: int
    model: str = ""
    here: bool = True


class DriverDied(Value, frozen=True):
    """The driver of an offline run that this server sees to has died."""

    reason: str


class ReportedEnd(Value, frozen=True):
    """An offline run has ended."""

    state: RunState
    reason: str


Event = (
    Joined
    | Declined
    | Removed
    | Readmitted
    | JoinTimeUp
    | InStep
    | Received
    | Said
    | Change
    | Heard
    | Behind
    | Reported
    | ReportedEnd
    | DriverDied
)


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


class TellCarried(Value, frozen=True):
    """Tell a partner that it is late, and that its work counts in the next training step."""

    partner: str
    index: int


class TellStanding(Value, frozen=True):
    """Tell a partner that it is not asked any more, and why, or, without a reason, that it is asked again."""

    partner: str
    reason: str


class Prolong(Value, frozen=True):
    """A step waits longer for its quorum."""

    index: int
    deadline_at: float


class Form(Value, frozen=True):
    """Begin an attempt at a step's secure sum."""

    index: int
    number: int
    members: tuple[str, ...]


class Ask(Value, frozen=True):
    """Ask some of a step's participants again."""

    index: int
    partners: tuple[str, ...]


class Gone(Value, frozen=True):
    """A partner is out of the attempt at a step's secure sum, and with `left` out of the run."""

    index: int
    number: int
    partner: str
    left: bool


class Void(Value, frozen=True):
    """A step ended without a result; the run goes on from where it was."""

    closed: steps.StepState
    reason: str


class End(Value, frozen=True):
    """The run is over; tell everybody. It is `recorded` unless a partner may hold other entries after the last here.

    `named` are the blobs that its driver's state named until then.
    """

    state: RunState
    reason: str
    recorded: bool = True
    named: tuple[str, ...] = ()


Action = Open | Reduce | Commit | TellClosed | TellCarried | TellStanding | Prolong | Form | Ask | Gone | Void | End
