"""Federated statistics: standardising and imputing without pooled rows.

One step asks each partner for count, sum and sum of squares of z = (x - shift) / span by numeric column; the sums give
mean and standard deviation over all rows, which are written into the model as `preprocess.mean` and
`preprocess.scale`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan, Stage
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Layout
from aimass.proto.values import Value
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult

__all__ = ["Statistics", "StatisticsState", "driver"]

GROUP: Final = "statistics"
_TENSORS: Final = ("count", "sum", "sum_of_squares")
_SMALLEST_SCALE: Final = 1e-6


class StatisticsState(Value, frozen=True):
    """Before or after the one step."""

    model: str
    phase: Literal["ask", "done"] = "ask"


class Statistics:
    """The driver; it has no options."""

    name = "statistics"
    state_type = StatisticsState

    def check(self, plan: Plan, stage: Stage) -> None:
        """Refuse options: there are none."""
        if stage.options:
            raise BadInput(
                "the statistics driver takes no options", code="plan.options", value=", ".join(stage.options)
            )

    def start(self, context: Context, model: str) -> StatisticsState:
        """Nothing is known yet."""
        return StatisticsState(model=model)

    def next(self, state: StatisticsState, context: Context) -> tuple[Step, ...] | Done:
        """The one step, then done."""
        if state.phase == "done":
            return Done(state.model, "statistics are in the model")
        cohort = context.plan.cohort
        return (
            Step(
                index=context.next_index,
                kind=StepKind.ANALYSE,
                purpose=GROUP,
                round=0,
                participants=context.joined,
                inputs=(state.model,),
                quorum=min(cohort.quorum, len(context.joined)),
                deadline_s=cohort.step_deadline_s,
            ),
        )

    def expects(self, step: Step, layout: Layout) -> ExpectedGroups:
        """Three float64 vectors, an element for each numeric column."""
        shift = layout.by_name.get("preprocess.shift")
        if shift is None:
            raise BadInput(
                "the model has no preprocess.shift, so there is nothing to standardise",
                code="statistics.model",
                cure="Leave the statistics stage out of the plan.",
            )
        return {GROUP: dict.fromkeys(_TENSORS, ("F64", shift.shape))}

    def receive(self, state: StatisticsState, result: StepResult, models: Models, context: Context) -> StatisticsState:
        """Mean and standard deviation from the sums; a column that nobody measured, or that is constant, keeps 0, 1."""
        count, total, squares = (result.sums.total(GROUP, name) for name in _TENSORS)
        seen = np.maximum(count, 1.0)
        mean = np.where(count > 0, total / seen, 0.0)
        deviation = np.sqrt(np.maximum(squares / seen - mean * mean, 0.0))
        scale = np.where((count > 0) & (deviation > _SMALLEST_SCALE), deviation, 1.0)
        learnt = {"preprocess.mean": mean, "preprocess.scale": scale}

        def change(name: str, part: slice, _: Array) -> Array:
            values: Array = learnt[name][part]
            return values

        return msgspec.structs.replace(state, model=models.edit(state.model, learnt, change), phase="done")

    def model(self, state: StatisticsState) -> str:
        """The model so far."""
        return state.model

    def progress(self, state: StatisticsState, context: Context) -> Progress:
        """One exchange, which counts as no round."""
        return Progress(0, 0)


driver = Statistics()
