"""Who is asked in a step: a pure choice from the plan's seed, so that whoever holds the plan can repeat it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from aimass.proto.plan import Cohort

__all__ = ["ask", "candidates", "select"]

_LABEL: Final = b"AIMass cohort v1\0"
_NO_WEIGHTS: Final[Mapping[str, float]] = {}


def select(
    seed: int, round_: int, names: Sequence[str], count: int, weights: Mapping[str, float] = _NO_WEIGHTS
) -> tuple[str, ...]:
    """`count` of `names`, sorted; with equal weights every set of that size is equally likely over seeds and rounds.

    Each name has a uniform number u from SHA-256(label, seed, round, name); the smallest -ln(1 - u) / weight are taken
    (Efraimidis and Spirakis 2006, algorithm A, in its exponential form): as if drawn one after the other, each in
    proportion to the weights that are left; a name without a weight has 1. So the order of `names` does not matter, and
    who joins or leaves changes no more than one place.
    """

    def rank(name: str) -> tuple[float, bytes]:
        digest = hashlib.sha256(_LABEL + seed.to_bytes(8, "big") + round_.to_bytes(8, "big") + name.encode()).digest()
        # Half a unit in: never 0 nor 1. The digest itself settles what the precision of a float leaves equal.
        uniform = (int.from_bytes(digest[:6], "big") + 0.5) / 2**48
        return -math.log1p(-uniform) / weights.get(name, 1.0), digest

    return tuple(sorted(sorted(names, key=rank)[:count]))


def candidates(cohort: Cohort, free: Sequence[str], here: Collection[str] | None) -> tuple[str, ...]:
    """Among whom a step's partners are chosen, sorted: those of `free` that are `here`, where the plan wants that.

    If they are no quorum all of `free` are asked, and the step waits for them. None: everybody is here.
    """
    if cohort.connected and here is not None:
        present = tuple(sorted(name for name in free if name in here))
        if len(present) >= cohort.quorum:
            return present
    return tuple(sorted(free))


def ask(cohort: Cohort, seed: int, round_: int, names: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Who of `names` trains in a round, and how many contributions close the step at once (0: all that are asked).

    With `cohort.sample` so many are chosen, and `cohort.spare` more beside them, because some will be slow.
    """
    if not cohort.sample or cohort.sample >= len(names):
        return tuple(sorted(names)), 0
    asked = select(seed, round_, names, cohort.sample + cohort.spare, cohort.weights)
    return asked, cohort.sample if cohort.spare else 0
