"""A question to a whole federation: the plan that asks it, and what its run came to, as a result.

Nobody's rows are pooled. A run with one stage has partners run an analysis that they approved, and what comes back are
sums; `found_in` reads them as the view would read those of one table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from aimass.explain.federated.seam import FederatedView
from aimass.explain.federated.sums import Release
from aimass.explain.images import ImageModel
from aimass.explain.lineage import Lineage, software
from aimass.explain.models import Model
from aimass.explain.results import Result
from aimass.proto.analysis import Summed, installed_analyses, load_analysis, locate_analysis
from aimass.proto.asking import ask_of, asked_in
from aimass.proto.asks import EXPLAIN, Phase, Shared, phase_at
from aimass.proto.drafts import completed
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Schema
from aimass.proto.plan import (
    AnalysisNoise,
    Cohort,
    EvaluateSettings,
    Plan,
    PlanDraft,
    PrivacySettings,
    SecureSettings,
    Stage,
    TrainSettings,
)
from aimass.proto.statistics import PhaseSums
from aimass.proto.values import Scalar, Value
from aimass.proto.views import ParticipantState, RunState, RunView, StepView

__all__ = ["Terms", "federated_views", "found_in", "plan_of", "view_named"]

_BITS: Final = 32
"""Of a limb: a sum takes two, in which reals have 52 bits with their sign."""


class Terms(Value, frozen=True):
    """How a federation is asked. Sums are secret unless `plain`, with a bound for each partner's `most_rows`.

    With `noise` each number has Gaussian noise of so many times what one row can change, which partners' budgets pay
    for; without, cells of fewer than `least_count` rows stay at each partner, and a search counts rows in groups of at
    least `group` alike ones.
    """

    plain: Annotated[bool, msgspec.Meta(description="the server may see each partner's own sums")] = False
    quorum: Annotated[int, msgspec.Meta(ge=1, description="fewest partners in every sum")] = 3
    rows: Annotated[Literal["held_out", "train"], msgspec.Meta(description="which rows partners look at")] = "held_out"
    least_count: Annotated[int, msgspec.Meta(ge=1, description="cells of fewer rows stay at a partner")] = 5
    group: Annotated[
        int,
        msgspec.Meta(ge=1, description="searches count rows in groups of so many alike ones, and are rougher for it"),
    ] = 1
    noise: Annotated[float, msgspec.Meta(ge=0, description="noise, in multiples of what one row can change")] = 0.0
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1, description="what the noise's epsilon is stated at")] = 1e-5
    most_rows: Annotated[int, msgspec.Meta(ge=1, le=1 << 40, description="rows of a partner at most")] = 1 << 17
    deadline: Annotated[float, msgspec.Meta(gt=0, description="seconds that a step waits for partners")] = 3_600.0


def federated_views() -> dict[str, FederatedView]:
    """The installed analyses whose sums can be read here, by name."""
    found = {name: load_analysis(locate_analysis(name)) for name in installed_analyses()}
    return {name: one for name, one in found.items() if isinstance(one, FederatedView)}


def view_named(name: str) -> FederatedView:
    """One of them; raises `NotFound`."""
    views = federated_views()
    if name not in views:
        raise NotFound("no such view of a federation", code="explain.view", value=name, limit=", ".join(views))
    return views[name]


def plan_of(
    name: str,
    task: str,
    schema: Schema,
    model: bytes,
    options: Value,
    terms: Terms,
    *,
    shared: Shared | None = None,
    seed: int = 0,
) -> Plan:
    """The plan that asks partners for the analysis `name` of this task's `model`.

    Raises `BadInput` for many steps in plain sums without noise, which no partner gives.
    """
    own: dict[str, Scalar] = {key: value for key, value in msgspec.structs.asdict(options).items() if value is not None}
    said = {"analysis": name, "rows": terms.rows, "least_count": terms.least_count, **own}
    if terms.group > 1:
        said["group"] = terms.group
    privacy = None
    if terms.noise:  # nothing is trained, so that its noise is never drawn; a policy's least noise holds for both
        privacy = PrivacySettings(
            noise_multiplier=terms.noise,
            clip=1.0,
            sampling_rate=1e-3,
            delta=terms.delta,
            divisor=1.0,
            analyses=AnalysisNoise(noise_multiplier=terms.noise),
        )
    draft = PlanDraft(
        name=f"explain-{name}",
        task=task,
        data_schema=schema.name,
        seed=seed,
        stages=(Stage(driver=EXPLAIN, options=said),),
        train=TrainSettings(batch_size=1_024, learning_rate=1e-3, steps=1, weight="one"),
        evaluate=EvaluateSettings(every=0),
        cohort=Cohort(quorum=terms.quorum, step_deadline_s=terms.deadline, join_deadline_s=terms.deadline),
        privacy=privacy,
    )
    plan, _ = completed(draft, model, shared)
    if terms.plain and not terms.noise and asked_in(plan).repeated:
        raise BadInput(
            "one step of this analysis differs from the next in a few rows, which plain sums would give away",
            code="explain.plain",
            value=f"{name} --plain",
            cure="Leave out --plain: in secret sums they are anybody's. Or ask with --noise.",
        )
    return plan if terms.plain else msgspec.structs.replace(plan, secure=_secure(plan, terms))


def _secure(plan: Plan, terms: Terms) -> SecureSettings:
    """Lanes that hold what so many rows of a partner can add, to the last bit that they have room for."""
    most = max(cells.norm for phase in asked_in(plan).phases for cells in phase.cells)
    bound = math.ldexp(1.0, math.ceil(math.log2(terms.most_rows * max(most, 1.0))))
    return SecureSettings(min_cohort=max(3, terms.quorum), bits=_BITS, real_bound=bound, metrics=())


def found_in(view: RunView, model: Model | ImageModel) -> Result:
    """What a run of `plan_of` came to; raises `NotFound` where it did not finish, with its reason."""
    plan, asked = view.plan, asked_in(view.plan)
    steps = [step for step in view.steps if step.purpose == EXPLAIN and step.committed_at is not None]
    phases = [one for step in steps if (one := _sums(step)) is not None]
    if view.summary.state is not RunState.FINISHED or not phases:
        raise NotFound(
            "the federation has given no answer",
            code="explain.no_answer",
            value=view.summary.state,
            limit=view.summary.reason or "a finished run",
            cure=f"aimass run show {view.summary.run_id[:8]} says who brought what, and why others did not.",
        )
    last = phases[-1]
    release = Release(
        partners=len(last.counted),
        secure=plan.secure is not None,
        noise={one.name: one.noise for one in last.sums if one.noise},
        quantum={one.name: last.quantum for one in last.sums} if last.quantum else {},
        least_count=0 if any(one.noise for one in last.sums) else asked.least_count,
        group=1 if any(one.noise for one in last.sums) else asked.group,
    )
    found = [_summed(one) for one in phases]
    rows = max(
        _rows(phase_at(asked.phases, one.number), summed)
        for one, summed in zip(phases, found, strict=True)
        if one.counted == last.counted
    )
    if rows < 1:
        raise NotFound(
            "no row was counted, so that there is nothing to tell",
            code="explain.none_counted",
            value=f"0 {'held-out' if asked.rows == 'held_out' else 'training'} rows of {len(last.counted)} partners",
            limit=f"{asked.least_count} rows at one partner",
            cure="Give a lower --least-count, as far as policies permit, or ask of --rows train.",
        )
    lineage = Lineage(
        model=model.name,
        model_digest=plan.model,
        data=f"{plan.data_schema} at {', '.join(last.counted)}",
        rows=rows,
        held_out=asked.rows == "held_out",
        partners=len(last.counted),
        run=getattr(model, "run", ""),
        round=getattr(model, "round", None),
        seed=plan.seed,
        software=software(),
    )
    result = view_named(asked.name).read(ask_of(plan), found, lineage, release)
    return msgspec.structs.replace(
        result, caveats=(*result.caveats, *_nested(plan, phases), *_apart(view), *_absent(steps), *_changed(phases))
    )


def _sums(step: StepView) -> PhaseSums | None:
    found = None if step.statistics is None else step.statistics.found
    return found if isinstance(found, PhaseSums) else None


def _summed(phase: PhaseSums) -> Summed:
    return Summed({one.name: np.array(one.values).reshape(one.shape) for one in phase.sums}, phase.counted)


def _rows(phase: Phase, found: Summed) -> int:
    """Rows that were counted: those of all counts without axes, which are of different rows, or of a whole table."""
    counts = [(cells, found.sums[cells.name]) for cells in phase.cells if cells.counts and not cells.overlapping]
    apart = sum(float(one) for cells, one in counts if not cells.shape)
    tables = [
        float(one.reshape(math.prod(cells.shape[: cells.tables]), -1).sum(axis=1).max())
        for cells, one in counts
        if cells.shape
    ]
    return max(0, round(max([apart, *tables])))


def _nested(plan: Plan, phases: list[PhaseSums]) -> tuple[str, ...]:
    """What the steps of a search tell beside what they find."""
    if not asked_in(plan).repeated or len(phases) < 2 or any(one.noise for one in phases[-1].sums):
        return ()
    if (group := asked_in(plan).group) > 1:
        few = f"two of them differ by no row of a partner or by {group} at least."
    else:
        few = (
            "where two differ in a few rows of all partners together, their sums tell these rows' bins and target, "
            "though not whose they are."
        )
    return (f"It took {len(phases)} steps, whose boxes or slices lie in each other: {few}",)


def _apart(view: RunView) -> tuple[str, ...]:
    """Who takes no part in the run, and why."""
    return tuple(
        f"{one.partner} takes no part: {one.reason or one.state}."
        for one in view.participants
        if one.state is not ParticipantState.JOINED
    )


def _absent(steps: list[StepView]) -> tuple[str, ...]:
    """Who brought nothing to the last step, and why."""
    absent: Mapping[str, str] = steps[-1].reasons
    return tuple(f"{name} is not counted: {why or 'it did not answer'}." for name, why in sorted(absent.items()))


def _changed(phases: list[PhaseSums]) -> tuple[str, ...]:
    """Where not all phases are over the same partners."""
    last = phases[-1].counted
    return tuple(
        f"Step {one.number} was over the rows of {', '.join(one.counted)}, and the last over others."
        for one in phases[:-1]
        if one.counted != last
    )
