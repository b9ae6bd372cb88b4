"""What a partner's policy lets plans of boosted trees ask. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from aimass.client.policy_rules import Rule, at_most
from aimass.proto.plan import Plan, whole_option
from aimass.proto.plan_settings import TREE_DEPTH, TREE_GRID, TREES
from aimass.proto.values import Value

__all__ = ["Trees", "tree_rules"]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Trees(Value, frozen=True):
    """What plans of boosted trees may ask, which `release.analyses` has to name.

    `plain` lets the server read this partner's own histograms: one that lies singles out rows here, by nodes that
    differ in one or by a model with a leaf for it, where in sums they are anybody's. `grid` is the most parts of a
    number's range that are told apart, and `depth` and `rounds` bound how often a plan may look.
    """

    plain: bool = False
    grid: Annotated[int, msgspec.Meta(ge=2)] = TREE_GRID
    depth: Positive = 8
    rounds: Positive = 500


def tree_rules(bounds: Trees, released: Sequence[str], plan: Plan) -> tuple[Rule, ...]:
    """What trees may look at, and how often; without it a partner would have nothing to bring to any step."""
    stages = [stage for stage in plan.stages if stage.driver == TREES]
    if not stages:
        return ()
    plain = "plain sums" if plan.secure is None else "secure sums"
    return (
        Rule("analyses", TREES, ", ".join(released) or "none", TREES in released),
        Rule("trees_plain", plain, "secure sums (or trees.plain = true)", bounds.plain or plan.secure is not None),
        at_most("trees_grid", max(whole_option(stage, "grid", TREE_GRID) for stage in stages), bounds.grid),
        at_most("trees_depth", max(whole_option(stage, "depth", TREE_DEPTH) for stage in stages), bounds.depth),
        at_most("trees_rounds", sum(whole_option(stage, "rounds", 0) for stage in stages), bounds.rounds),
    )
