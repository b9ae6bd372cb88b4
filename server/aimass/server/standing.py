"""Who is asked no more after failing too often, and who comes back: a pure rule of the plan over a run's state."""

from __future__ import annotations

import msgspec

from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.views import ParticipantState, SlotState
from aimass.server.runs import Participant, Run, TellStanding
from aimass.server.steps import Slot, StepState

__all__ = ["after_step", "readmit", "returned"]

_FAILURES = (SlotState.FAILED, SlotState.REFUSED, SlotState.LATE)
_SPARED = ("step.enough:", "step.stage_over:", "secure.no_sum:", "secure.burnt:", "secure.void:")
"""Reasons of those who were ready, or would have been, and whose work was not wanted."""


def after_step(run: Run, closed: StepState) -> tuple[Run, tuple[TellStanding, ...]]:
    """Count who brought something to `closed` and who did not; exclude whoever has failed too often in a row.

    Whose late work is still to count has not failed, nor has who was told that enough others were faster, or that the
    secure sum failed without its fault. What is not required may be refused, but for sums of training and evaluation.
    As many partners as the quorum needs always stay.
    """
    if not closed.step.required and not _of_model(closed.step):
        return run, ()
    members = dict(run.participants)
    for name, slot in closed.slots.items():
        member = members[name]
        if member.state is not ParticipantState.JOINED:
            continue
        if slot.state is SlotState.COUNTED:
            members[name] = msgspec.structs.replace(member, failures=0)
        elif _failed(run, name, slot):
            members[name] = msgspec.structs.replace(member, failures=member.failures + 1)
    return _excluding(msgspec.structs.replace(run, participants=members), closed)


def _of_model(step: Step) -> bool:
    return step.kind in (StepKind.TRAIN, StepKind.EVALUATE) and step.reduce is Reduce.SUM


def _failed(run: Run, name: str, slot: Slot) -> bool:
    return slot.state in _FAILURES and name not in run.carried and not slot.reason.startswith(_SPARED)


def _excluding(run: Run, closed: StepState) -> tuple[Run, tuple[TellStanding, ...]]:
    limit = run.plan.cohort.exclude_after
    spare = len(run.joined) - run.plan.cohort.quorum
    told: list[TellStanding] = []
    if not limit:
        return run, ()
    for name in sorted(closed.slots):
        member = run.participants[name]
        if member.state is not ParticipantState.JOINED or member.failures < limit or len(told) >= spare:
            continue
        reason = f"run.excluded: nothing in {member.failures} steps in a row; the last: {closed.slots[name].reason}"
        told.append(TellStanding(partner=name, reason=reason))
        out = msgspec.structs.replace(
            member, state=ParticipantState.EXCLUDED, reason=reason, excluded_at=run.next_index
        )
        run = msgspec.structs.replace(run, participants=run.participants | {name: out})
    return run, tuple(told)


def returned(run: Run) -> tuple[Run, tuple[TellStanding, ...]]:
    """Let those come back whose time is over; one more failure excludes them again."""
    wait, told = run.plan.cohort.readmit_after, []
    for name in run.excluded if wait else ():
        member = run.participants[name]
        if run.next_index - member.excluded_at >= wait:
            run = _back(run, name, member, run.plan.cohort.exclude_after - 1)
            told.append(TellStanding(partner=name, reason=""))
    return run, tuple(told)


def readmit(run: Run, name: str) -> tuple[Run, tuple[TellStanding, ...]]:
    """A person lets `name`, who was excluded, take part again."""
    return _back(run, name, run.participants[name], 0), (TellStanding(partner=name, reason=""),)


def _back(run: Run, name: str, member: Participant, failures: int) -> Run:
    back = msgspec.structs.replace(member, state=ParticipantState.JOINED, reason="", failures=failures)
    return msgspec.structs.replace(run, participants=run.participants | {name: back})
