"""Who is asked in a step: a pure choice from the plan's seed, so that whoever holds the plan can repeat it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from aimass.proto.plan import Cohort

__all__ = ["ask", "select"]

_LABEL: Final = b"AIMass cohort v1\0"


def select(seed: int, round_: int, names: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` of `names`, sorted, every set of that size equally likely over seeds and rounds.

    Names are ranked by SHA-256(label, seed, round, name), so the order of `names` does not matter, and who joins or
    leaves changes no more than one place.
    """

    def rank(name: str) -> bytes:
        return hashlib.sha256(_LABEL + seed.to_bytes(8, "big") + round_.to_bytes(8, "big") + name.encode()).digest()

    return tuple(sorted(sorted(names, key=rank)[:count]))


def ask(cohort: Cohort, seed: int, round_: int, joined: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Who trains in a round, and how many contributions close the step at once (0: all that are asked).

    With `cohort.sample` so many are chosen, and `cohort.spare` more beside them, because some will be slow.
    """
    if not cohort.sample or cohort.sample >= len(joined):
        return tuple(sorted(joined)), 0
    asked = select(seed, round_, joined, cohort.sample + cohort.spare)
    return asked, cohort.sample if cohort.spare else 0
