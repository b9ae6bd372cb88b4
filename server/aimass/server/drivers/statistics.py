"""Federated statistics: standardising and imputing without pooled rows.

One step asks each partner for count, sum and sum of squares of z = (x - shift) / span by numeric column; the sums give
mean and standard deviation over all rows, which are written into the model as `preprocess.mean` and
`preprocess.scale`. The sums may hold noise: what comes of them is kept to what z in [-1, 1] makes possible.
"""

from __future__ import annotations

import math
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
        return (context.step_of_all(StepKind.ANALYSE, GROUP, (state.model,)),)

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
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
        """Mean and standard deviation from the sums; a column that nobody measured, or that is constant, keeps 0, 1.

        Of noised sums a column counts as measured in more rows than their noise is large, and a variance below what the
        noise can make of none is raised to that: a scale of almost nothing would blow the column up.
        """
        count, total, squares = (result.sums.total(GROUP, name) for name in _TENSORS)
        noise = _noise(context.plan, len(count), len(result.counted))
        seen, measured = np.maximum(count, 1.0), count > noise
        mean = np.where(measured, np.clip(total / seen, -1.0, 1.0), 0.0)
        variance = np.clip(squares / seen - mean * mean, np.minimum(noise / seen, 1.0), 1.0)
        deviation = np.sqrt(variance)
        scale = np.where(measured & (deviation > _SMALLEST_SCALE), deviation, 1.0)
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


def _noise(plan: Plan, columns: int, members: int) -> float:
    """Standard deviation of each sum's noise, by the plan: each member's L2 bound is sqrt(3 columns)."""
    if plan.privacy is None or plan.privacy.analyses is None:
        return 0.0
    return plan.privacy.analyses.noise_multiplier * math.sqrt(3 * columns * members)


driver = Statistics()
