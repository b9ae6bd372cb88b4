"""How many rounds a plan speaks of, for whoever shows how far a run is."""

from __future__ import annotations

from aimass.proto.plan import Plan

__all__ = ["rounds_of"]


def rounds_of(plan: Plan) -> int:
    """Rounds of all stages that name a number; 0 where none does."""
    rounds = (stage.options.get("rounds") for stage in plan.stages)
    return sum(number for number in rounds if isinstance(number, int))
