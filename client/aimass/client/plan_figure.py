"""The figure of a private plan as a whole, for who decides about it: what all its rounds tell of one row or person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aimass.privacy.dp.events import Terms, Unit
from aimass.privacy.dp.private_terms import planned_events
from aimass.proto.errors import Refused
from aimass.proto.plan import Plan

if TYPE_CHECKING:
    from aimass.privacy.dp.accounting import Figure

__all__ = ["plan_figure"]

_UNITS: Final = 1_000_000
"""Rows of a partner that is not asked: they matter to plans that cut batches alone, and hardly there."""


def plan_figure(plan: Plan) -> Figure | None:
    """Epsilon at the plan's own delta for one of its unit, at a partner that takes part in every round.

    None where the plan has no private training, or no end.
    """
    if plan.privacy is None:
        return None
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415  (accounting loads where it is needed)

    try:
        events = tuple(planned_events(plan, None, _UNITS))
    except Refused:
        return None
    return Accountant().figure(Terms.usual(Unit(plan.privacy.unit), plan.privacy.delta), events)
