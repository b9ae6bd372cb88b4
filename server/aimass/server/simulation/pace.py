"""How long partners take in a simulation, and what happens next by that clock, which no real time moves.

So who is slow, and what a run gains by not waiting for it, is seen without waiting for it. All of it follows from the
plan's seed and the run as it stands.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, NamedTuple

import msgspec

from aimass.proto.names import Name
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Value
from aimass.proto.views import SlotState
from aimass.server import steps
from aimass.server.runs import Run

__all__ = ["Moment", "Pace", "begun_again", "next_moment"]

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_LABEL: Final = b"AIMass pace v1\0"


class Pace(Value, frozen=True):
    """Training takes a partner `seconds`, or so many times as long as `slower` says of it; what measures takes the
    share `measuring` of that. Each step's time differs from this by a share of `spread` at most, to either side."""

    seconds: Seconds = 1.0
    slower: dict[Name, Annotated[float, msgspec.Meta(gt=0, le=1e6)]] = {}
    measuring: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    spread: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def of(self, partner: str, step: Step, seed: int) -> float:
        """Seconds that `partner` takes for a step."""
        usual = self.seconds * self.slower.get(partner, 1.0)
        if step.kind is not StepKind.TRAIN:
            usual *= self.measuring
        about = _LABEL + seed.to_bytes(8, "big") + step.index.to_bytes(4, "big") + partner.encode()
        chance = int.from_bytes(hashlib.sha256(about).digest()[:6], "big") / 2**48
        return usual * (1 + self.spread * (2 * chance - 1))


class Moment(NamedTuple):
    """Something happens at `at`: the `partner` answers in a step, or, without one, its deadline passes."""

    at: float
    step: int
    partner: str


def next_moment(run: Run, pace: Pace) -> Moment:
    """The first thing that happens in open steps; of several at one time the earlier step's, then by name."""
    answers = (
        Moment(state.opened_at + pace.of(name, state.step, run.plan.seed), state.step.index, name)
        for state in run.open.values()
        for name in state.step.participants
        if state.slots[name].state is SlotState.ASKED
    )
    deadlines = (Moment(state.deadline_at, state.step.index, "") for state in run.open.values())
    return min([*answers, *deadlines], key=lambda moment: (moment.at, not moment.partner, moment[1:]))


def begun_again(run: Run) -> Run:
    """The run with its open steps as they were opened: what partners answered before it stopped they answer again."""
    fresh = {
        index: msgspec.structs.replace(
            state,
            slots={name: steps.Slot() for name in state.slots},
            deadline_at=state.opened_at + state.step.deadline_s,
            graced=False,
        )
        for index, state in run.open.items()
    }
    return msgspec.structs.replace(run, open=fresh)
