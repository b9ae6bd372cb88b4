"""What a private step promises, in an accountant's numbers, for the daemon: without torch, and without a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from aimass.privacy.dp.events import (
    MOST_TIMES,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonGaussian,
    TruncatedPoissonGaussian,
    Unit,
)
from aimass.privacy.dp.gaussian import GridNoise
from aimass.privacy.dp.noise_plan import distributed_event
from aimass.privacy.dp.unknown_model import MANY
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.rounds import adaptive_of, noise_of
from aimass.proto.asks import EXPLAIN, Phase
from aimass.proto.boosting import MOST_SUMS, SUMS, Boosting, noise_of_trees
from aimass.proto.elements import FLOATS
from aimass.proto.errors import Refused
from aimass.proto.plan import (
    AnalysisNoise,
    MetricNoise,
    Plan,
    PlanDraft,
    PrivacySettings,
    SecureSettings,
    analyses_of,
    costliest_run,
    planned_steps,
    whole_option,
)
from aimass.proto.plan_settings import TREE_DEPTH, TREES
from aimass.proto.sent import trained_groups
from aimass.proto.step import StepKind
from aimass.proto.surveys import MOST_CELLS, SURVEYS, Survey
from aimass.proto.tensors import Layout

__all__ = [
    "ANALYSES",
    "MOST_COLUMNS",
    "ROUNDING",
    "STATISTICS",
    "analysis_events",
    "analysis_noise",
    "contribution_events",
    "explanation_noise",
    "grid_noise",
    "metric_noise",
    "planned_events",
    "round_events",
    "sent_elements",
    "step_events",
    "study_events",
    "survey_noise",
    "trained_elements",
    "training_event",
    "tree_noise",
    "units_of",
]

ROUNDING: Final = 1e-3
"""Part of the clip by which sums of neighbours may differ beyond it. Norms and sums are float64, but one row more moves
others to other places in a batch, where kernels of float32 may round their gradients otherwise. No proof, but far above
the 1e-5 that the tests allow; it costs a thousandth of the noise."""

TREE_ROUNDING: Final = 1e-5
"""Part of the norm by which a row of trees may add more: each number is rounded to 2^-20, of two for each column."""
STATISTICS: Final = "statistics"
"""The analysis that is no survey."""
ANALYSES: Final = (STATISTICS, *SURVEYS)
"""The analyses that there are, each by the name of its driver: no other can be asked for, or cost anything."""
MOST_COLUMNS: Final = 1 << 16
"""Numeric columns that an analysis is priced for, so that its price is known before its model is; the least price is a
millionth below it. Surveys have fewer numbers (`MOST_CELLS`), and cost the same."""


def grid_noise(privacy: PrivacySettings, elements: int) -> GridNoise:
    """The noise of one optimiser's step on so many trained elements."""
    return GridNoise(privacy.noise_multiplier, privacy.clip, elements, ROUNDING)


def units_of(privacy: PrivacySettings | None, rows: int, persons: int) -> int:
    """How many there are at a partner of what a plan protects: of training rows, or of persons.

    Raises `Refused` for persons where the data set does not say whose its rows are.
    """
    if privacy is None or privacy.unit == "example":
        return rows
    if persons == 0:
        raise Refused(
            "the plan protects persons, and the data set does not say whose its rows are",
            code="private.persons",
            cure="Name the column that says it as `person` in the data set's file: `aimass client data add --person`.",
        )
    return persons


def metric_noise(setting: MetricNoise) -> GridNoise:
    """The noise of a histogram in which one row is in one cell."""
    return GridNoise(setting.noise_multiplier, 1.0, 2 * setting.bins)


def analysis_noise(setting: AnalysisNoise, columns: int) -> GridNoise:
    """The noise of sums to which a row adds three numbers within [-1, 1] for each numeric column."""
    if columns > MOST_COLUMNS:
        raise Refused("an analysis of so many columns has no price", code="private.columns", limit=MOST_COLUMNS)
    return GridNoise(setting.noise_multiplier, math.sqrt(3 * columns), 3 * columns)


def survey_noise(setting: AnalysisNoise, survey: Survey) -> GridNoise:
    """The noise of a survey, of which one row changes all numbers together by `row_norm` at most."""
    if survey.cells > MOST_CELLS:
        raise Refused("a survey of so many numbers has no price", code="private.cells", limit=MOST_CELLS)
    return GridNoise(setting.noise_multiplier, survey.row_norm, survey.cells)


def explanation_noise(setting: AnalysisNoise, phase: Phase) -> GridNoise:
    """The noise of a phase's sums, each tensor scaled to what one row adds to it: so a row adds one to each at most."""
    return GridNoise(setting.noise_multiplier, math.sqrt(len(phase.cells)), phase.size, ROUNDING)


def tree_noise(boosting: Boosting, outputs: int, level: int | None) -> GridNoise:
    """The noise of a step of trees: sums of multiples of `UNIT`, by half of which a row's own were rounded."""
    count = sum(math.prod(shape) for _, shape in boosting.shapes(outputs, level).values())
    return GridNoise(boosting.options.noise_multiplier, boosting.row_norm(outputs, level), count, TREE_ROUNDING)


def step_events(
    plan: Plan | PlanDraft,
    kind: StepKind,
    elements: int | None,
    units: int,
    steps: int | None = None,
    widest: Unit = Unit.EXAMPLE,
    purpose: str = "",
    sent: int | None = None,
) -> tuple[Event, ...]:
    """What one step of a plan costs a data set: all that its ledger reserves for it, nothing where it is not private.

    `elements` are those that are trained, None where the model is not here yet, and `sent` those that a contribution to
    a sum holds, where a mask leaves some out, or the `dearest_sum` where no model is here. A training step costs as
    much as its optimiser's `steps`, the plan's unless others were done; any other step is one. `widest` is the largest
    unit that a budget is for.
    """
    privacy = plan.privacy
    if kind is StepKind.TRAIN:
        return _training_events(plan, elements, elements if sent is None else sent, units, steps, widest)
    if kind is StepKind.EVALUATE and privacy is not None and privacy.metrics is not None:
        return (_one_sum(metric_noise(privacy.metrics), steps),)
    if kind is StepKind.ANALYSE and purpose == TREES and (noise := noise_of_trees(plan)):
        return (_one_sum(GridNoise(noise, 1.0, len(SUMS) * MOST_SUMS, TREE_ROUNDING), steps),)
    if kind is StepKind.ANALYSE and privacy is not None and privacy.analyses is not None and purpose in ANALYSES:
        return (_one_sum(analysis_noise(privacy.analyses, MOST_COLUMNS), steps),)
    if kind is StepKind.ANALYSE and privacy is not None and privacy.analyses is not None and purpose == EXPLAIN:
        return (_one_sum(GridNoise(privacy.analyses.noise_multiplier, 1.0, MOST_CELLS, ROUNDING), steps),)
    return ()


def _training_events(
    plan: Plan | PlanDraft, elements: int | None, sent: int | None, units: int, steps: int | None, widest: Unit
) -> tuple[Event, ...]:
    """Private training and noise inside the sum each bound one and the same release.

    Both are priced, which is more than is spent and never less; training that has no bound for `widest` is left to the
    noise, which has one for every unit.
    """
    whole = contribution_events(plan.secure, sent)
    if plan.privacy is None or plan.train.steps is None:
        return whole
    done = plan.train.steps if steps is None else steps
    training = training_event(plan.privacy, done, MANY if elements is None else elements, units)
    return whole if whole and training.unit.size < widest.size else (training, *whole)


def _one_sum(noise: GridNoise, times: int | None) -> Event:
    """A sum over all rows, without any sampling."""
    return Event(mechanism=Gaussian(sigma=noise.accounted), unit=Unit.EXAMPLE, times=1 if times is None else times)


def round_events(
    plan: Plan | PlanDraft, elements: int | None, units: int, widest: Unit = Unit.EXAMPLE, sent: int | None = None
) -> tuple[Event, ...]:
    """What one round of training costs, with the evaluation that follows it; of trees each of its levels.

    `elements` and `sent` are those of `step_events`.
    """
    kinds = (StepKind.TRAIN, StepKind.EVALUATE) if plan.evaluate.every else (StepKind.TRAIN,)
    steps = (event for kind in kinds for event in step_events(plan, kind, elements, units, widest=widest, sent=sent))
    levels = (int(whole_option(stage, "depth", TREE_DEPTH)) for stage in plan.stages if stage.driver == TREES)
    trees = (event for many in levels for event in step_events(plan, StepKind.ANALYSE, 0, 0, many, purpose=TREES))
    return (*steps, *trees)


def analysis_events(plan: Plan | PlanDraft) -> tuple[Event, ...]:
    """What the analyses cost that a plan has beside its rounds, stage by stage; of trees the counts for their bins."""
    asked = [(stage.driver, 1 if stage.driver == TREES else analyses_of(plan, stage)) for stage in plan.stages]
    return tuple(
        event
        for name, times in asked
        if name in (*ANALYSES, EXPLAIN, TREES)
        for event in step_events(plan, StepKind.ANALYSE, 0, 0, int(times), purpose=name)
    )


def planned_events(
    plan: Plan | PlanDraft,
    elements: int | None,
    units: int,
    begun: Mapping[str, int] = MappingProxyType({}),
    widest: Unit = Unit.EXAMPLE,
    sent: int | None = None,
) -> Iterator[Event]:
    """What a whole plan costs, but for the steps that were `begun`, by kind and purpose as `KIND:PURPOSE`.

    `elements` and `sent` are those of `step_events`. Raises `Refused` for a plan without an end, or of more steps than
    can be accounted for.
    """
    analyses = dict.fromkeys((StepKind.ANALYSE, stage.driver) for stage in plan.stages)
    for kind, purpose in ((StepKind.TRAIN, ""), (StepKind.EVALUATE, ""), *analyses):
        left = planned_steps(plan, kind, purpose) - begun.get(f"{kind}:{purpose}", 0)
        once = step_events(plan, kind, elements, units, widest=widest, purpose=purpose, sent=sent)
        yield from (_repeated(event, left) for event in once if left > 0)


def study_events(
    plan: Plan | PlanDraft, elements: int | None, units: int, widest: Unit = Unit.EXAMPLE, sent: int | None = None
) -> Iterator[Event]:
    """The most that the study of a plan costs, which is what its ledger reserves: its costliest run, so many times.

    `sent` are the elements that a sum of the costliest run has, all where nothing is said. Training is priced for a
    model of `MANY` elements at least: runs on others are covered too. Nothing for a plan of no study; raises as
    `planned_events` does.
    """
    if plan.study is None:
        return
    summed = elements if sent is None else sent
    trained = None if elements is None else max(elements, MANY)
    for event in planned_events(costliest_run(plan, plan.study), trained, units, widest=widest, sent=summed):
        yield _repeated(event, plan.study.trials)


def _repeated(event: Event, times: float) -> Event:
    if times * event.times > MOST_TIMES:
        raise Refused(
            "so many private steps have no price",
            code="ledger.E_BUDGET",
            value=times * event.times,
            limit=MOST_TIMES,
            cure="Plan fewer.",
        )
    return msgspec.structs.replace(event, times=int(times) * event.times)


def training_event(privacy: PrivacySettings, steps: int, elements: int, units: int) -> Event:
    """What a ledger reserves before one training, with the plan's steps, and commits after it, with those done.

    `elements` may be more than are trained, as `trained_elements` has it: it changes the multiplier in the sixth digit.
    `units` are the partner's training rows, or persons; they matter where batches are cut, and stay in the ledger.
    """
    sigma = grid_noise(privacy, elements).accounted
    cap = privacy.cap(units)
    if cap is None:
        mechanism: PoissonGaussian | TruncatedPoissonGaussian = PoissonGaussian(q=privacy.sampling_rate, sigma=sigma)
    else:
        mechanism = TruncatedPoissonGaussian(q=privacy.sampling_rate, sigma=sigma, records=units, cap=cap)
    return Event(mechanism=mechanism, unit=Unit(privacy.unit), times=steps)


def contribution_events(secure: SecureSettings | None, elements: int | None) -> tuple[Event, ...]:
    """What one secure sum with noise inside it costs, whatever training did: the update, and a vote on the clip.
    `elements` are those that it sums.

    Rounding to whole numbers adds to a contribution's norm, by how much the number of elements says. Without it
    rounding is left out, which is the least that it may cost: good to refuse by, never to promise by. What is told or
    agreed to takes `dearest_sum`. Raises `Refused` for noise that would not be what is accounted.
    """
    if secure is None or secure.noise is None:
        return ()
    if elements is None:
        return (Event(mechanism=DiscreteGaussian(rho=0.5 / secure.noise.multiplier**2, xi=0.0), unit=Unit.PARTNER),)
    try:
        noise, rule = noise_of(secure, elements), adaptive_of(secure)
    except FaultError as error:
        raise error.fault.error() from error
    update = (distributed_event(noise),) if noise else ()
    return (*update, rule.event) if rule else update


def sent_elements(plan: Plan, model: Layout) -> int:
    """The elements of a contribution to a training step, which are those that its noise is made for."""
    groups = trained_groups(plan, model).values()
    return sum(math.prod(shape) for tensors in groups for _, shape in tensors.values())


def trained_elements(model: Layout) -> int:
    """The most elements that training may change: what a daemon knows of a model that it never builds."""
    return sum(
        math.prod(spec.shape)
        for spec in model.tensors
        if spec.dtype in FLOATS and not spec.name.startswith("preprocess.")
    )
