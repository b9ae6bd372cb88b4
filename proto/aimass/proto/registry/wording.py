"""How parts of a version are said to people: by cards, by what compares two versions, and by pages."""

from __future__ import annotations

from aimass.proto.registry.entries import Interval, Spent

__all__ = ["interval_text", "privacy_text"]


def interval_text(found: Interval) -> str:
    """A metric's mean with its 95 % interval, where one is known."""
    spread = "" if found.low is None or found.high is None else f" ({found.low:.4f} to {found.high:.4f})"
    return f"{found.mean:.4f}{spread}"


def privacy_text(spent: Spent) -> str:
    """What was spent, or why no figure is stated."""
    if spent.epsilon is None:
        return f"nothing is promised: {spent.reason or 'nobody stated a figure'}"
    by = f", by {spent.accountant}" if spent.accountant else ""
    return f"epsilon {spent.epsilon:.4f} at delta {spent.delta or 0:g} for one {spent.unit}{by}"
