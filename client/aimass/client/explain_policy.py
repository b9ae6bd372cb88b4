"""What a partner's policy lets plans of explanations ask. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from aimass.client.policy_rules import Rule, at_least
from aimass.proto.asks import EXPLAIN, AskedAnalysis
from aimass.proto.plan import Plan
from aimass.proto.values import Value

if TYPE_CHECKING:
    from aimass.client.policy import AdmittedTask, Release

__all__ = ["Explain", "explain_rules", "in_the_open", "too_fine"]


class Explain(Value, frozen=True):
    """What plans of explanations may ask, which `release.analyses` has to name.

    `plain` lets the server read this partner's own sums without noise. From the second step on it chooses what rows are
    counted by, so that one that lies reads in which bins rows lie, where in secret sums they are anybody's. An analysis
    that asks the same again and again, of boxes or slices that lie in each other, tells of single rows to an honest
    server too, and needs secure sums or noise whatever `plain` says. Noise counts as such from `smallest_noise` on,
    times what one row can change in all steps together; where a privacy budget pays for it, the budget says how much is
    enough. Without noise such a search counts rows in groups of at least `smallest_group` alike ones, so that no two of
    its steps differ by fewer, whatever boxes or slices a server asks about.
    """

    plain: bool = False
    smallest_noise: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    smallest_group: Annotated[int, msgspec.Meta(ge=1)] = 1


def explain_rules(
    bounds: Explain, admitted: Sequence[AdmittedTask], release: Release, plan: Plan, *, accounted: bool
) -> tuple[Rule, ...]:
    """The analysis' code by its digest, which waits for a person, and what it brings along, for people to read.

    `accounted`: a budget pays for all that leaves.
    """
    if all(stage.driver != EXPLAIN for stage in plan.stages):
        return ()
    released = release.analyses
    named = Rule("analyses", EXPLAIN, ", ".join(released) or "none", EXPLAIN in released)
    if plan.explain is None:
        return (named, Rule("analysis", "none named", "an analysis and its digest", holds=False))
    asked, noise = plan.explain, _noise(plan)
    known = [each for each in admitted if (each.name, each.kind) == (asked.name, "analysis")]
    shared = "nothing" if asked.shared is None else asked.shared.told
    least = () if noise else (at_least("analysis_least_count", asked.least_count, release.smallest_count),)
    group = _grouped(bounds, asked, plan)
    in_all = noise / math.sqrt(asked.steps)  # Gaussian noise on so many steps is worth that on one
    floor = (at_least("explain_noise", in_all, bounds.smallest_noise),) if noise and not accounted else ()
    return (
        named,
        *_plain(bounds, asked, plan),
        *floor,
        *least,
        *group,
        Rule("analysis_shares", shared, "what is public, synthetic or noised", holds=True),
        Rule(
            "analysis",
            f"{asked.name} {asked.digest}",
            ", ".join(f"{each.name} {each.digest}" for each in known) or "none admitted",
            any(each.digest == asked.digest for each in known),
            pending=True,
        ),
    )


def in_the_open(bounds: Explain, plan: Plan) -> tuple[str, str] | None:
    """What is plain about the plan's explanation and may not be, and what would do; None where nothing is."""
    broken = () if plan.explain is None else _plain(bounds, plan.explain, plan)
    return next(((rule.value, rule.limit) for rule in broken if not rule.holds), None)


def too_fine(bounds: Explain, plan: Plan) -> tuple[str, str] | None:
    """By how few rows the plan's search may tell, and by how many it has to; None where it is coarse enough."""
    broken = () if plan.explain is None else _grouped(bounds, plan.explain, plan)
    return next(((rule.value, rule.limit) for rule in broken if not rule.holds), None)


def _grouped(bounds: Explain, asked: AskedAnalysis, plan: Plan) -> tuple[Rule, ...]:
    if not asked.repeated or _noise(plan):
        return ()
    return (at_least("explain_group", asked.group, bounds.smallest_group),)


def _plain(bounds: Explain, asked: AskedAnalysis, plan: Plan) -> tuple[Rule, ...]:
    """Who may read this partner's own sums: with two names, since a policy's word cures one of them alone."""
    hidden = plan.secure is not None or _noise(plan) > 0
    told = "secure sums" if plan.secure is not None else "plain sums with noise" if hidden else "plain sums"
    own = Rule("explain_plain", told, "secure sums or noise (or explain.plain = true)", hidden or bounds.plain)
    if not asked.repeated:
        return (own,)
    steps = f"{told}, {asked.steps:,} steps by the same tables"
    return (Rule("explain_repeated", steps, "secure sums or noise ([secure] in the plan, or no --plain)", hidden), own)


def _noise(plan: Plan) -> float:
    """The noise multiplier of each step, 0 without."""
    noise = plan.privacy.analyses if plan.privacy is not None else None
    return 0.0 if noise is None else noise.noise_multiplier
