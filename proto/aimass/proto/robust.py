"""Rules that hold where some of those who send lie: their names, and how many liars each withstands among how many.

n is who sends: the partners of a step, or the circles of a secure sum. f of them, `tolerated` in plans, may send
anything, together and knowing all the others' updates. The rules themselves are in the server's `aggregation.robust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from aimass.proto.errors import BadInput

__all__ = ["PROMISES", "RULES", "RuleName", "check_robust", "least", "withstands"]

RuleName = Literal["mean", "median", "trimmed", "clipped", "krum", "multi-krum", "geometric-median"]

RULES: Final[Mapping[str, int]] = {
    "median": 1,
    "trimmed": 1,
    "clipped": 1,
    "geometric-median": 1,
    "krum": 3,
    "multi-krum": 3,
}
"""Of each rule the b in its breakdown statement n >= 2 f + b; the mean withstands nobody."""

PROMISES: Final[Mapping[str, str]] = {
    "median": "each coordinate lies between two of the honest (Yin et al. 2018, definition 1)",
    "trimmed": "each coordinate lies between two of the honest (Yin et al. 2018, definition 2)",
    "clipped": "no update counts with more than the median of the norms, which is not above the largest honest one",
    "geometric-median": "its norm is at most 2 (n - f) / (n - 2 f) times the largest honest one (Pillutla et al. 2022)",
    "krum": "it is an update, sqrt(n - f - 2) diameters of the honest from one at most (Blanchard et al. 2017)",
    "multi-krum": "it is a mean of n - f - 2 such updates (Blanchard et al. 2017)",
}
"""What holds of a rule's result as long as n is large enough."""


def least(rule: str, tolerated: int) -> int:
    """The smallest n of which a rule withstands so many liars."""
    return 2 * tolerated + RULES[rule] if tolerated else 1


def withstands(rule: str, n: int) -> int:
    """How many liars a rule withstands among n."""
    return max(0, (n - RULES[rule]) // 2) if rule in RULES else 0


def check_robust(rule: str, tolerated: int, n: int, cure: str) -> None:
    """Raise `BadInput` where n are too few for a rule to withstand so many liars."""
    if n >= least(rule, tolerated):
        return
    raise BadInput(
        f"{rule} does not withstand {tolerated} that lie among {n}",
        code="robust.too_few",
        value=f"n = {n}, f = {tolerated}, rule {rule}",
        limit=f"n >= 2 f + {RULES[rule]} = {least(rule, tolerated)}",
        cure=f"{cure} Then {PROMISES[rule]}.",
    )
