"""The lines of a policy's decision about a plan: a bound of the policy beside what the plan says."""

from __future__ import annotations

import dataclasses

__all__ = ["Rule", "at_least", "at_most"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One line of a decision, for people: what was checked, what the plan says, what is allowed."""

    name: str
    value: str
    limit: str
    holds: bool
    pending: bool = False


def at_least(name: str, value: float, limit: float) -> Rule:
    """A rule that the plan's number is `limit` or more."""
    return Rule(name, f"{value:g}", f"from {limit:g}", value >= limit)


def at_most(name: str, value: float, limit: float) -> Rule:
    """A rule that the plan's number is `limit` or less."""
    return Rule(name, f"{value:g}", f"to {limit:g}", value <= limit)
