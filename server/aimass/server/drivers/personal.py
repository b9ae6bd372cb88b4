"""Personal models: each partner fine-tunes the final model on its own rows and keeps the result, which never leaves.

Two evaluations, of which only measures come: of the model as it is, and of what each partner made of it. The run's
model stays what it was.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.personal import BEFORE, PERSONAL, tuning
from aimass.proto.plan import Plan, Stage
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Layout
from aimass.proto.values import Value
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult

__all__ = ["Personal", "PersonalState", "driver"]


class PersonalState(Value, frozen=True):
    """What is measured next."""

    model: str
    phase: Literal["before", "personal", "done"] = "before"


class Personal:
    """The driver; its options are what differs from the plan's training."""

    name = PERSONAL
    state_type = PersonalState

    def check(self, plan: Plan, stage: Stage) -> None:
        """Options in range; a plan has looked at the rest."""
        tuning(stage, plan.train)
        if plan.task.kind == "app":
            raise BadInput("an app has no personal stage", code="plan.personal", value=plan.task.name)

    def start(self, context: Context, model: str) -> PersonalState:
        """Nothing is measured."""
        return PersonalState(model=model)

    def next(self, state: PersonalState, context: Context) -> tuple[Step, ...] | Done:
        """Measure, tune and measure again, done."""
        if state.phase == "done":
            return Done(state.model, "personal models are made")
        purpose = BEFORE if state.phase == "before" else PERSONAL
        return (context.step_of_all(StepKind.EVALUATE, purpose, (state.model,)),)

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """Measures alone."""
        return {}

    def receive(self, state: PersonalState, result: StepResult, models: Models, context: Context) -> PersonalState:
        """The next evaluation, or none."""
        return msgspec.structs.replace(state, phase="personal" if state.phase == "before" else "done")

    def model(self, state: PersonalState) -> str:
        """The run's own."""
        return state.model

    def progress(self, state: PersonalState, context: Context) -> Progress:
        """No round."""
        return Progress(0, 0)


driver = Personal()
