"""Whether a run is cut short because others were better at its round: rules over curves of one metric. Pure.

A curve is of a setting's first run, so that all that are compared have one seed. Those that were cut count with what
they had reached: a rule that looked at survivors alone would be stricter with each that it cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from aimass.explain.words import number
from aimass.proto.values import Value

__all__ = ["Curve", "Pruning", "why_cut"]

Curve = Sequence[tuple[int, float | None]]
"""The metric by round, in order; None where it is no number."""
_REDUCTION: Final = 3


class Pruning(Value, frozen=True):
    """`median`: cut whose best so far is worse than the median of the others' (Golovin et al. 2017, 3.2.2).
    `halving`: at rounds `after`, 3 `after`, 9 `after`, ... cut who is not in the best third of those that came there
    (asynchronous successive halving, Li et al. 2020). Nobody is cut before round `after`, nor while fewer than `least`
    others have come as far."""

    rule: Literal["none", "median", "halving"] = "median"
    after: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 3
    least: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 4


def why_cut(pruning: Pruning, curve: Curve, others: Sequence[Curve], sign: float) -> str:
    """Why the run of this curve is cut where it stands; empty where it goes on. `sign` times the metric is better
    higher.
    """
    if pruning.rule == "none" or not curve or curve[-1][0] < pruning.after:
        return ""
    round_ = curve[-1][0] if pruning.rule == "median" else _rung(pruning.after, curve)
    if not round_:
        return ""
    own = _best(curve, round_, sign)
    reached = [_best(other, round_, sign) for other in others if other and other[-1][0] >= round_]
    if len(reached) < pruning.least:
        return ""
    bound = float(np.median(reached)) if pruning.rule == "median" else _third(reached)
    if own >= bound:
        return ""
    told = "no number" if own == -np.inf else number(sign * own)
    what = "the median" if pruning.rule == "median" else "the best third"
    return f"{told} at round {round_}, where {what} of {len(reached)} others has {number(sign * bound)}"


def _rung(after: int, curve: Curve) -> int:
    """The rung that the last point of the curve is the first to reach; 0 where it is none."""
    before = curve[-2][0] if len(curve) > 1 else 0
    rung, last = after, 0
    while rung <= curve[-1][0]:
        last = rung
        rung *= _REDUCTION
    return last if before < last else 0


def _best(curve: Curve, round_: int, sign: float) -> float:
    """The best, higher better, up to a round."""
    values = [sign * value for at, value in curve if at <= round_ and value is not None]
    return max(values, default=-np.inf)


def _third(reached: Sequence[float]) -> float:
    """The worst of the best third of those that reached a rung, one at least."""
    ordered = sorted(reached, reverse=True)
    return ordered[max(1, len(ordered) // _REDUCTION) - 1]
