"""Surveys: counts, histograms, moments and quantiles of the training rows, one driver each, through the sum.

A survey is a step, or two for refined quantiles, and leaves the model as it is. What it found stands with its step.
Where it is not required and too few partners may take part, the stage ends without a result, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan, Stage
from aimass.proto.statistics import Statistics
from aimass.proto.step import Step, StepKind
from aimass.proto.surveys import MOST_CELLS, Survey, options_of, survey_of
from aimass.proto.tensors import Array, Layout
from aimass.proto.values import Value
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult
from aimass.server.drivers.tables import Place, found, places, refined

__all__ = ["SurveyState", "Surveyor", "counts", "histogram", "moments", "quantiles"]


class SurveyState(Value, frozen=True):
    """`found` is what the last step came to; `places` and the blob `chosen` are for the second step of quantiles."""

    model: str
    found: Statistics | None = None
    places: tuple[tuple[Place | None, ...], ...] = ()
    chosen: str = ""
    done: bool = False


class Surveyor:
    """The driver of the survey of its name."""

    state_type = SurveyState

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, plan: Plan, stage: Stage) -> None:
        """Options in range, one set of them for all stages of this name, and no more numbers than a result holds."""
        options_of(stage)
        if any(other.options != stage.options for other in plan.stages if other.driver == self.name):
            raise BadInput(
                f"two stages `{self.name}` have different options: partners know a step by its survey's name",
                code="plan.options",
                value=self.name,
                cure="Give both the same options, or leave one out.",
            )
        for survey in (survey_of(plan, self.name), survey_of(plan, self.name, refined=True)):
            if not 0 < survey.cells <= MOST_CELLS:
                raise BadInput(
                    f"`{self.name}` asks for nothing, or for more numbers than a result holds",
                    code="plan.survey",
                    value=survey.cells,
                    limit=f"1 to {MOST_CELLS}",
                    cure="Ask for fewer bins or quantiles, or for a survey that suits the schema.",
                )

    def start(self, context: Context, model: str) -> SurveyState:
        """Nothing is known yet."""
        return SurveyState(model=model)

    def next(self, state: SurveyState, context: Context) -> tuple[Step, ...] | Done:
        """The one step, or the second of quantiles; then done."""
        if state.done:
            reason = state.found.reason if state.found is not None else ""
            return Done(state.model, f"{self.name}: {reason or 'found'}")
        inputs, required = (state.model,), options_of(context.stage).required
        if not state.chosen:
            return (context.step_of_all(StepKind.ANALYSE, self.name, inputs, required=required),)
        second = context.step_of_all(StepKind.ANALYSE, self.name, (*inputs, state.chosen), number=1, required=required)
        return (second,)

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """The survey's tensors; the model does not matter."""
        return {self.name: survey_of(plan, self.name, refined=_is_second(step)).shapes}

    def receive(self, state: SurveyState, result: StepResult, models: Models, context: Context) -> SurveyState:
        """What the sums say; of quantiles that are to be refined, the bins for the second step too."""
        survey = survey_of(context.plan, self.name, refined=_is_second(result.step))
        told = Statistics(
            survey=self.name,
            partners=len(result.counted),
            noise=_noise(context.plan, survey, len(result.counted)),
            reason="" if result.counted else _too_few(result),
        )
        if not result.counted:
            return msgspec.structs.replace(state, found=told, done=True)
        sums = {name: np.asarray(result.sums.total(self.name, name)) for name in survey.tables}
        if survey.refined:
            finer = refined(survey, state.places, sums)
            return msgspec.structs.replace(state, found=msgspec.structs.replace(told, found=finer), done=True)
        told = msgspec.structs.replace(told, found=found(survey, sums, told.noise))
        if self.name != "quantiles" or not survey.options.refine:
            return msgspec.structs.replace(state, found=told, done=True)
        at = places(survey, sums)
        return msgspec.structs.replace(state, found=told, places=at, chosen=_chosen(at, models))

    def statistics(self, state: SurveyState) -> Statistics | None:
        """What the last step came to."""
        return state.found

    def model(self, state: SurveyState) -> str:
        """The model, as it was."""
        return state.model

    def progress(self, state: SurveyState, context: Context) -> Progress:
        """Surveys count as no round."""
        return Progress(0, 0)


def _is_second(step: Step) -> bool:
    return len(step.inputs) == 2


def _chosen(at: tuple[tuple[Place | None, ...], ...], models: Models) -> str:
    """The bins to divide as a blob, by number and share; the first where there is nothing to divide."""
    bins = np.array([[0 if place is None else place.bin for place in row] for row in at], np.float64)

    def change(_: str, part: slice) -> Array:
        return bins.reshape(-1)[part]

    return models.make({"bins": ("F64", bins.shape)}, change)


def _noise(plan: Plan, survey: Survey, members: int) -> float:
    """Standard deviation of each number's noise, by the plan."""
    if plan.privacy is None or plan.privacy.analyses is None:
        return 0.0
    return plan.privacy.analyses.noise_multiplier * survey.row_norm * math.sqrt(members)


def _too_few(result: StepResult) -> str:
    """Why there is no result: what partners said that brought nothing."""
    told: Mapping[str, str] = {name: why for name, why in result.failures.items() if not why.startswith("step.too_few")}
    reasons = "; ".join(f"{name}: {why or 'no answer'}" for name, why in told.items())
    return f"fewer than the {result.step.quorum} partners needed released it ({reasons})"


counts, histogram, moments, quantiles = (Surveyor(name) for name in ("counts", "histogram", "moments", "quantiles"))
