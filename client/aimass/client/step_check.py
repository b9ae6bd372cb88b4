"""How the replies to a step are taken together: as the plan has it, and of no fewer than the policy lets them be."""

from __future__ import annotations

from typing import Final

from aimass.proto.asks import EXPLAIN
from aimass.proto.errors import Refused
from aimass.proto.methods import OVERLAPPING, trains
from aimass.proto.plan import Plan
from aimass.proto.plan_settings import TREES
from aimass.proto.robust import RULES
from aimass.proto.step import Reduce, Step, StepKind

__all__ = ["check_taken_together", "is_buffered"]

_WITH_RULES: Final = "averaging"
"""The driver whose stages may have a robust rule."""
_ALIKE: Final = {TREES: "trees", EXPLAIN: "an explanation"}
"""What is asked of all alike, by the purpose of its steps."""


def check_taken_together(plan: Plan, step: Step, smallest_cohort: int) -> None:
    """Raise `Refused` for a step that collects what the plan sums, and for one of too few.

    The quorum of an app's step that collects is the app's own affair: it may ask one node alone, and who lets its code
    run here lets its replies stand alone. A robust rule is a reason to see updates one by one, and none to ask fewer.
    Where training overlaps a plain step is of one partner, and no model is made of fewer than the plan's quorum. Trees
    and explanations are the same for all: who is addressed singly could be asked by bins of its own.
    """
    app, apart = plan.task.kind == "app", step.reduce is Reduce.COLLECT
    if plan.secure is not None:
        _check_masked(step)
    elif step.purpose in _ALIKE and step.addressed and not app:
        what = f"a step of {_ALIKE[step.purpose]} with inputs of one partner's own"
        raise Refused(what, code="session.addressed", value=step.index)
    elif apart and not app and not _has_rule(plan, step):
        raise Refused(
            "a step that keeps replies apart, of a plan that sums them", code="session.not_summed", value=step.index
        )
    quorum = plan.cohort.quorum if is_buffered(plan, step) else step.quorum
    if quorum < smallest_cohort and not (app and apart):
        raise Refused("a step with too small a quorum", code="policy.quorum", value=quorum, limit=smallest_cohort)


def _check_masked(step: Step) -> None:
    """Raise `Refused` for a step of a secure run that is no sum of all on one model.

    Masks are bound to the inputs that the step states for everybody: who were addressed singly could be given a
    model on which the sum tells of them alone.
    """
    if step.reduce is not Reduce.SUM or step.addressed:
        raise Refused("a secure run has sums on the same inputs for all", code="session.not_summed", value=step.index)


def is_buffered(plan: Plan, step: Step) -> bool:
    """Whether the step's sum waits in a buffer until a quorum has brought theirs; a step does not say its stage."""
    overlaps = {stage.driver for stage in plan.stages if trains(stage.driver)} == {OVERLAPPING}
    return overlaps and plan.secure is None and step.kind is StepKind.TRAIN


def _has_rule(plan: Plan, step: Step) -> bool:
    """Whether the step may be of a stage with a robust rule: a step does not say which stage it is of."""
    ruled = (stage.options.get("rule") in RULES for stage in plan.stages if stage.driver == _WITH_RULES)
    return step.kind is StepKind.TRAIN and any(ruled)
