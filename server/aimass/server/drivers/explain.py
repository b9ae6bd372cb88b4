"""Federated explanations: the phases of an analysis, one step each, through the sum. The model stays as it is.

What a phase came to stands with its step, for the analyst's side to read; the analysis itself is asked here only for
what partners need next.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import msgspec
import numpy as np

from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.analysis import Analysis, Summed, check_sums
from aimass.proto.asking import approved, ask_of, asked_in, phase_in
from aimass.proto.asks import EXPLAIN, Phase, phase_at
from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan, Stage, decode_plan, encode_plan
from aimass.proto.statistics import PhaseSums, Statistics, Sum
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Blob, Layout, encode_numpy
from aimass.proto.values import Value
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult

__all__ = ["ExplainState", "Explainer", "driver"]


class ExplainState(Value, frozen=True):
    """`sums` are blobs of what each phase came to, over whom `counted` says; `inputs` is the next one's, if any."""

    model: str
    inputs: str = ""
    sums: tuple[str, ...] = ()
    counted: tuple[tuple[str, ...], ...] = ()
    found: Statistics | None = None
    done: bool = False


class Explainer:
    """The driver of `explain`."""

    name = EXPLAIN
    state_type = ExplainState

    def check(self, plan: Plan, stage: Stage) -> None:
        """The plan's analysis must be the one that is installed here."""
        _analysis(plan)

    def start(self, context: Context, model: str) -> ExplainState:
        """Nothing is known yet."""
        return ExplainState(model=model)

    def next(self, state: ExplainState, context: Context) -> tuple[Step, ...] | Done:
        """The next phase; done when the analysis wants no other."""
        number = len(state.sums)
        if state.done:
            return Done(state.model, f"{number} phases")
        inputs = (state.model, state.inputs) if number else (state.model,)
        return (context.step_of_all(StepKind.ANALYSE, EXPLAIN, inputs, number=number),)

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """The phase's tensors; the model does not matter."""
        return {EXPLAIN: _phase(plan, step).shapes}

    def check_sums(self, plan: Plan, step: Step, model: Blob, tensors: Mapping[str, Array]) -> None:
        """Counts are of rows, and nothing is summed where there are none; with noise neither holds."""
        if not _multiplier(plan):
            check_sums(_phase(plan, step), tensors)

    def receive(self, state: ExplainState, result: StepResult, models: Models, context: Context) -> ExplainState:
        """With what the phase came to, and what the next one works with."""
        plan, phase = context.plan, _phase(context.plan, result.step)
        sums = {cells.name: np.asarray(result.sums.total(EXPLAIN, cells.name)) for cells in phase.cells}
        self.check_sums(plan, result.step, models.blob(state.model), sums)
        stored, counted = (*state.sums, models.put(encode_numpy(sums))), (*state.counted, result.counted)
        ask, analysis = ask_of(plan), _analysis(plan)
        pairs = zip(stored, counted, strict=True)
        inputs = analysis.next(ask, [Summed(models.tensors(digest), partners) for digest, partners in pairs])
        if inputs is not None:
            phase_at(asked_in(plan).phases, len(stored))  # raises where there is none
        return msgspec.structs.replace(
            state,
            inputs="" if inputs is None else models.put(encode_numpy(dict(inputs))),
            sums=stored,
            counted=counted,
            found=_statistics(plan, result, phase, sums),
            done=inputs is None,
        )

    def statistics(self, state: ExplainState) -> Statistics | None:
        """What the last step came to."""
        return state.found

    def model(self, state: ExplainState) -> str:
        """The model, as it was."""
        return state.model

    def progress(self, state: ExplainState, context: Context) -> Progress:
        """Phases count as no rounds."""
        return Progress(0, 0)


driver = Explainer()


def _analysis(plan: Plan) -> Analysis:
    return _approved(encode_plan(plan))


@functools.lru_cache(maxsize=8)
def _approved(plan: bytes) -> Analysis:
    """Looked at once: to hash its files again before every phase would tell nothing of what is imported."""
    decoded = decode_plan(plan)
    return approved(asked_in(decoded), ask_of(decoded))


def _phase(plan: Plan, step: Step) -> Phase:
    phase = phase_in(plan, step)
    if phase is None:
        raise BadInput("the step explains nothing", code="explain.step", value=step.purpose)
    return phase


def _multiplier(plan: Plan) -> float:
    noise = plan.privacy.analyses if plan.privacy is not None else None
    return 0.0 if noise is None else noise.noise_multiplier


def _statistics(plan: Plan, result: StepResult, phase: Phase, sums: Mapping[str, Array]) -> Statistics:
    """As it is stored with the step."""
    members, asked = len(result.counted), asked_in(plan)
    noises = [phase.deviation(cells, _multiplier(plan)) * math.sqrt(members) for cells in phase.cells]
    told = tuple(
        Sum(name=cells.name, shape=cells.shape, values=tuple(sums[cells.name].reshape(-1).tolist()), noise=noise)
        for cells, noise in zip(phase.cells, noises, strict=True)
    )
    found = PhaseSums(
        analysis=asked.name,
        number=result.step.round,
        counted=tuple(sorted(result.counted)),
        sums=told,
        quantum=_quantum(plan, result.step, phase, members),
    )
    return Statistics(survey=EXPLAIN, partners=members, noise=max(noises), found=found)


def _quantum(plan: Plan, step: Step, phase: Phase, members: int) -> float:
    """The most that rounding to lanes changed a sum of so many members; see `LaneSums`."""
    if plan.secure is None:
        return 0.0
    return members / (2 * lanes_of(plan, step, {EXPLAIN: phase.shapes}).quantisation.real_scale)
