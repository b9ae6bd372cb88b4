"""What an audit's row says: a lower bound of epsilon beside the stated one, or what was seen from inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

__all__ = ["CONFIDENCE", "FAMILY", "LOOK", "Bound", "Finding", "Look", "Subject"]

FAMILY: Final = 1e-3
"""How often one run of the whole audit may accuse a right mechanism, by chance, at most."""
CONFIDENCE: Final = 1 - 5e-5
"""Of each bound. Bonferroni: bounds times 5e-5, and looks times `LOOK`, stay below `FAMILY` together (a test counts)."""
LOOK: Final = 1e-5
"""How often a look from inside is wrong, at most: its limits are five deviations."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """With `CONFIDENCE` the mechanism has no smaller epsilon than `least`, at the delta of `stated`."""

    method: Literal["game", "one run"]
    stated: float
    delta: float
    least: float
    trials: int

    @property
    def caught(self) -> bool:
        return self.least > self.stated


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What was looked at from inside, the test that looks at the same, and whether something was wrong."""

    what: str
    test: str
    caught: bool


Finding = Bound | Look


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A mechanism, how it is examined, and what stands in for one seam of it: the real thing, or a broken one.

    `examine(seam, quick)` runs the mechanism with that seam; nothing else differs between its rows.
    """

    name: str
    examine: Callable[[Any, bool], Finding]
    real: Any
    broken: Mapping[str, Any]
