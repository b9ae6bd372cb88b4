"""What a plan, or one of its steps, asks of an analysis: read by all sides alike."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.analysis import Analysis, load_analysis, locate_analysis
from aimass.proto.asks import EXPLAIN, Ask, AskedAnalysis, Phase, Shared, phase_at
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Schema
from aimass.proto.plan import Plan, PlanDraft, Stage
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Scalar, Value, convert

__all__ = ["approved", "ask_of", "asked_analysis", "asked_in", "phase_in", "phases_of"]

_ANALYSIS: Final = "analysis"
"""The option that names the analysis. Those of `_Terms` are a plan's as well, all others the analysis' own."""


class _Terms(Value, frozen=True):
    rows: Literal["held_out", "train"] = "held_out"
    least_count: Annotated[int, msgspec.Meta(ge=1)] = 5
    group: Annotated[int, msgspec.Meta(ge=1)] = 1


_TERMS: Final = frozenset(_Terms.__struct_fields__)


def ask_of(plan: Plan) -> Ask:
    """What the plan's analysis is asked; raises `BadInput` where it has none."""
    asked, stage = asked_in(plan), next(stage for stage in plan.stages if stage.driver == EXPLAIN)
    assert plan.schema is not None  # noqa: S101  (a plan with `explain` has one)
    return Ask(schema=plan.schema, options=_own(stage), seed=plan.seed, rows=asked.rows, shared=asked.shared)


def asked_in(plan: Plan) -> AskedAnalysis:
    """The plan's analysis with its phases; raises `BadInput` where it has none."""
    if plan.explain is None:
        raise BadInput(
            "the plan does not say what is to be explained of which columns",
            code="plan.explain",
            value=plan.name,
            cure="Submit it as a draft, or by `aimass explain federated`: both fill in what partners need.",
        )
    return plan.explain


def phase_in(plan: Plan, step: Step) -> Phase | None:
    """The phase that a step is of, where it is one of the plan's analysis; raises `BadInput` for one beyond the last.

    The first works on the model alone, every other on a second input too: what it came to before.
    """
    if step.kind is not StepKind.ANALYSE or step.purpose != EXPLAIN:
        return None
    phases = asked_in(plan).phases
    if len(step.inputs) != (1 if step.round == 0 else 2):
        raise BadInput("a phase has other inputs than its number", code="explain.inputs", value=len(step.inputs))
    return phase_at(phases, step.round)


def asked_analysis(draft: PlanDraft, schema: Schema, shared: Shared | None = None) -> AskedAnalysis | None:
    """What a draft's stage `explain` comes to with what is installed here; None where it has no such stage.

    Raises as `locate_analysis`, and as the analysis does for options that do not suit it.
    """
    stage = next((stage for stage in draft.stages if stage.driver == EXPLAIN), None)
    if stage is None:
        return None
    name = str(stage.options.get(_ANALYSIS, ""))
    said = {key: value for key, value in stage.options.items() if key in _TERMS}
    terms = convert(_Terms, said, f"the options of `{EXPLAIN}`")
    source = locate_analysis(name)
    ask = Ask(schema=schema, options=_own(stage), seed=draft.seed, rows=terms.rows, shared=shared)
    try:
        return AskedAnalysis(
            name=name,
            digest=source.digest,
            phases=phases_of(load_analysis(source), ask),
            rows=terms.rows,
            shared=shared,
            least_count=terms.least_count,
            group=terms.group,
        )
    except ValueError as error:
        raise BadInput(f"the analysis cannot be asked so: {error}", code="explain.asked", value=name) from error


def approved(asked: AskedAnalysis, ask: Ask) -> Analysis:
    """A plan's analysis, as it is installed here; raises `Refused` where it is another, or sums otherwise."""
    source = locate_analysis(asked.name)
    if source.digest != asked.digest:
        raise Refused(
            "the installed analysis is not the plan's",
            code="analysis.digest",
            value=source.digest,
            limit=asked.digest,
            cure="Install the same version of the analysis' package on all sides.",
        )
    analysis = load_analysis(source)
    if phases_of(analysis, ask) != asked.phases:
        raise Refused(
            "the plan says other sums than its analysis makes",
            code="analysis.phases",
            value=asked.name,
            cure="Submit it by `aimass explain federated`, which asks the analysis itself.",
        )
    return analysis


def phases_of(analysis: Analysis, ask: Ask) -> tuple[Phase, ...]:
    """The phases of an analysis that takes this; raises `BadInput` for what it does not take, or too many numbers."""
    analysis.check(ask)
    try:
        return analysis.phases(ask)
    except ValueError as error:
        raise BadInput(f"the analysis asks for what no step can have: {error}", code="analysis.phases") from error


def _own(stage: Stage) -> dict[str, Scalar]:
    return {name: value for name, value in stage.options.items() if name != _ANALYSIS and name not in _TERMS}
