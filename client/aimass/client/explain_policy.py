"""What a partner's policy lets plans of explanations ask. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimass.client.policy_rules import Rule, at_least
from aimass.proto.asks import EXPLAIN
from aimass.proto.plan import Plan

if TYPE_CHECKING:
    from aimass.client.policy import AdmittedTask, Release

__all__ = ["explain_rules"]


def explain_rules(admitted: Sequence[AdmittedTask], release: Release, plan: Plan) -> tuple[Rule, ...]:
    """The analysis' code by its digest, which waits for a person, and what it brings along, for people to read."""
    if all(stage.driver != EXPLAIN for stage in plan.stages):
        return ()
    released = release.analyses
    named = Rule("analyses", EXPLAIN, ", ".join(released) or "none", EXPLAIN in released)
    if plan.explain is None:
        return (named, Rule("analysis", "none named", "an analysis and its digest", holds=False))
    asked = plan.explain
    known = [each for each in admitted if (each.name, each.kind) == (asked.name, "analysis")]
    shared = "nothing" if asked.shared is None else f"{asked.shared.kind}: {asked.shared.says}"
    noised = plan.privacy is not None and plan.privacy.analyses is not None
    least = () if noised else (at_least("analysis_least_count", asked.least_count, release.smallest_count),)
    return (
        named,
        *least,
        Rule("analysis_shares", shared, "what is public, synthetic or noised", holds=True),
        Rule(
            "analysis",
            f"{asked.name} {asked.digest}",
            ", ".join(f"{each.name} {each.digest}" for each in known) or "none admitted",
            any(each.digest == asked.digest for each in known),
            pending=True,
        ),
    )
