"""A study in a ledger: what was reserved for many runs together, what they drew of it, and what fits into the rest."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from aimass.privacy.dp.covering import uncovered
from aimass.privacy.dp.events import Event, Tally, tally

__all__ = ["Study"]


K = TypeVar("K")


@dataclasses.dataclass(frozen=True, slots=True)
class Study:
    """A reservation that trials reserve out of; while it is open it counts as a whole. `trials` is the most runs, 0 for
    any number; `terms` the digest of what was asked for. `drawn` is what the trials count for, and `runs` how many
    entries that count each of them has: kept, since a study may have thousands."""

    number: int
    name: str
    events: tuple[Event, ...]
    open: bool
    since: float
    trials: int = 0
    terms: str = ""
    drawn: Tally = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    runs: Mapping[str, int] = dataclasses.field(default_factory=lambda: MappingProxyType({}))

    def beyond(self, asked: Iterable[Event]) -> tuple[Event, ...]:
        """What is not covered where `asked` is drawn too."""
        whole = Counter(self.drawn)
        whole.update(tally(asked))
        return uncovered(whole, tally(self.events))

    def full(self, run_id: str) -> bool:
        """Whether this run would be one too many."""
        return 0 < self.trials <= len(self.runs) and run_id not in self.runs

    def changed(self, run_id: str, before: Iterable[Event], after: Iterable[Event]) -> Study:
        """After an entry of a run counts for `after` in place of `before`."""
        less, more = tally(before), tally(after)
        drawn, runs = Counter(self.drawn), Counter(self.runs)
        drawn.update(more)
        drawn.subtract(less)
        runs[run_id] += bool(more) - bool(less)
        return dataclasses.replace(self, drawn=_counted(drawn), runs=_counted(runs))


def _counted(counts: Counter[K]) -> Mapping[K, int]:
    return MappingProxyType({key: times for key, times in counts.items() if times})
