"""A study in a ledger: what was reserved for many runs together, and what fits into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from aimass.privacy.dp.covering import uncovered
from aimass.privacy.dp.events import Event, Tally, tally

__all__ = ["Study"]


@dataclasses.dataclass(frozen=True, slots=True)
class Study:
    """A reservation that trials reserve out of; while it is open it counts as a whole. `trials` is the most runs, 0 for
    any number; `terms` the digest of what was asked for."""

    number: int
    name: str
    events: tuple[Event, ...]
    open: bool
    since: float
    trials: int = 0
    terms: str = ""

    def beyond(self, drawn: Tally) -> tuple[Event, ...]:
        """What of all that its trials draw is not covered."""
        return uncovered(drawn, tally(self.events))

    def full(self, runs: Collection[str]) -> bool:
        """Whether so many runs are too many."""
        return bool(self.trials) and len(runs) > self.trials
