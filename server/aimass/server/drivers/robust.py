"""The robust rule of an averaging stage: what its options say, when a plan can have it, and what the step's mean is.

A rule looks at single updates, so its training steps collect them. Under secure aggregation nobody sees single ones,
and the plan's `[secure]` has the rule instead, over the means of its groups.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan, Stage
from aimass.proto.robust import RuleName, check_robust, least, withstands
from aimass.proto.values import Value, convert
from aimass.server.aggregation.robust import RobustSums, Singles
from aimass.server.drivers.base import StepResult, Sums

__all__ = ["OPTIONS", "Robust", "check", "robust_of", "sums_of"]


class Robust(Value, frozen=True):
    """`rule` over single updates, of which `tolerated` may be lies; "mean", by weight, tolerates none."""

    rule: RuleName = "mean"
    tolerated: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0

    def __post_init__(self) -> None:
        if (self.rule == "mean") != (self.tolerated == 0):
            raise ValueError(
                '`tolerated` partners that lie need a `rule` other than "mean", and such a rule needs them'
            )


OPTIONS: Final = Robust.__struct_fields__
"""The options of a stage that are read here."""


def robust_of(stage: Stage) -> Robust | None:
    """The rule of a stage, None for the mean. Raises `BadInput` for one that is not known, or that lacks its number."""
    given = {name: value for name, value in stage.options.items() if name in OPTIONS}
    robust: Robust = convert(Robust, given, f"the rule of the {stage.driver} stage")
    return None if robust.rule == "mean" else robust


def check(plan: Plan, stage: Stage) -> None:
    """Raise `BadInput` where the plan cannot have the stage's rule, or too few would be enough to close a step."""
    robust = robust_of(stage)
    if robust is None:
        return
    rule, f = robust.rule, robust.tolerated
    if plan.secure is not None:
        raise BadInput(
            f"{rule} looks at single updates, which secure aggregation shows to nobody",
            code="plan.robust_secure",
            value=f"rule {rule} in the averaging stage, and [secure]",
            cure=f'Leave it out of the stage, and set secure.rule = "{rule}", secure.tolerated = {f} and '
            f"secure.groups = {least(rule, f)} or more: it then looks at the means of the groups.",
        )
    if plan.compress is not None and plan.compress.sparsify == "top-k":
        raise BadInput(
            f"{rule} compares updates element by element, and of top-k each partner sends other elements",
            code="plan.robust_compress",
            value="compress.sparsify = top-k",
            limit="random-mask, or none",
            cure='Set compress.sparsify = "random-mask": all partners send the same elements.',
        )
    if plan.cohort.late != "refuse":
        raise BadInput(
            f"{rule} compares updates of one model, and late work is of an older one",
            code="plan.robust_late",
            value=f"cohort.late = {plan.cohort.late}",
            limit="refuse",
            cure='Set cohort.late = "refuse", and cohort.grace_s for those that are a little late.',
        )
    most = withstands(rule, plan.cohort.quorum)
    fewer = f", or tolerated to {most} or less" if most else ""
    check_robust(rule, f, plan.cohort.quorum, f"Set cohort.quorum to {least(rule, f)} or more{fewer}.")


def sums_of(stage: Stage, result: StepResult) -> Sums:
    """What a training step's mean is made of: the step's sums, or the value of the stage's rule over the replies.

    Raises `BadInput` where fewer came than the rule needs, or none one by one.
    """
    robust, replies = robust_of(stage), result.replies
    if robust is None:
        return result.sums
    if replies is None:
        raise BadInput(f"{robust.rule} has no single updates to look at", code="robust.no_replies")
    names = replies.partners
    singles = Singles([replies.of(name) for name in names], [replies.codec(name) for name in names])
    return RobustSums(singles, robust.rule, robust.tolerated)
