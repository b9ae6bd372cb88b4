"""A step that is not required: with its quorum it is like any other, and below it nothing of it is used."""

from __future__ import annotations

import pytest

from aimass.proto.plan import SecureSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.views import SlotState
from aimass.server import attempts, steps

NAMES = ("east", "north", "west")
FORBIDDEN = "release.analysis: the policy does not release this analysis"


def opened(*, required: bool, secure: bool = False) -> steps.StepState:
    step = Step(
        index=5, kind=StepKind.ANALYSE, purpose="histogram", round=0, participants=NAMES, inputs=("0" * 64,), quorum=3,
        deadline_s=10.0, required=required,
    )  # fmt: skip
    return steps.StepState.of(step, 100.0, attempts=attempts.of(SecureSettings()) if secure else None)


def answered(state: steps.StepState) -> tuple[steps.StepState, list[steps.StepAction]]:
    """Two bring something, and one may not."""
    done: list[steps.StepAction] = []
    events: list[steps.StepEvent] = [steps.Failed(partner="west", reason=FORBIDDEN)]
    for name in ("east", "north"):
        events += [steps.Stored(partner=name, digest="1" * 64) if state.attempts is None else steps.Ready(partner=name)]
    for event in events:
        state, actions = (steps if state.attempts is None else attempts).apply(state, event)
        done += actions
    return state, done


@pytest.mark.parametrize("secure", [False, True])
def test_below_its_quorum_a_required_step_fails_and_another_closes_with_nothing(secure: bool) -> None:
    _, failed = answered(opened(required=True, secure=secure))
    assert any(isinstance(action, steps.Fail) for action in failed)
    state, done = answered(opened(required=False, secure=secure))
    assert state.counted == ()
    assert steps.Close(counted=()) in done
    assert not any(isinstance(action, steps.Fail) for action in done)
    assert state.slots["west"] == steps.Slot(state=SlotState.FAILED, reason=FORBIDDEN)
    for name in ("east", "north"):  # their work is not used, and they are told
        assert state.slots[name].state in (SlotState.REFUSED, SlotState.LATE)
        assert state.slots[name].reason.startswith("step.too_few: 2 of 3")
        assert not state.slots[name].digest


def test_with_its_quorum_it_counts_like_any_other() -> None:
    state = opened(required=False)
    for name in NAMES:
        state, done = steps.apply(state, steps.Stored(partner=name, digest="1" * 64))
    assert done == (steps.Close(counted=NAMES),)
