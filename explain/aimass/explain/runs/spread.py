"""How much a seed does to each of many settings, where all ran with the same seeds: they tell it of one another. Pure.

Of three seeds one setting's own variance has two degrees of freedom, and says next to nothing. So it is moderated:
drawn to what the settings have in common, by as much as they seem to have in common (empirical Bayes, Smyth 2004). Two
things differ from there, as a setting that spreads more than others must not be believed too soon: no variance is drawn
below what the setting itself showed, and what is common is found among the better half, which decides who is best, as
settings that do badly often spread otherwise. As in Smyth's limma, no more degrees of freedom are counted than the
pooled variance would have.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Spread", "common_variance", "shared_spread"]

Floats = npt.NDArray[np.float64]
_FEWEST_SEEDS: Final = 3
"""Of two, a setting's own variance has one degree of freedom: it would not show that it spreads more than others."""
_FEWEST_SETTINGS: Final = 3
_BETTER: Final = 1 / 2
_BETTER_LEAST: Final = 6


@dataclasses.dataclass(frozen=True)
class Spread:
    """`variance` float64 [settings] from seed to seed, what a seed does to all of them left out, and its degrees of
    freedom."""

    variance: Floats
    freedom: float


def shared_spread(scores: Floats) -> Spread | None:
    """Of `scores` float64 [settings, seeds], higher better; None where settings or seeds are too few to tell."""
    settings, seeds = scores.shape
    if settings < _FEWEST_SETTINGS or seeds < _FEWEST_SEEDS:
        return None
    half = np.argsort(-scores.mean(axis=1), kind="stable")[: max(_BETTER_LEAST, math.ceil(_BETTER * settings))]
    own = (scores - scores[half].mean(axis=0)).var(axis=1, ddof=1)
    own[half] *= len(half) / (len(half) - 1)  # each is part of the mean that was taken off
    better = own[half]
    if (better > 0).sum() < _FEWEST_SETTINGS:
        return None
    freedom = seeds - 1.0
    common, alike = common_variance(better[better > 0], freedom)
    alike = min(alike, (len(better) - 2) * freedom)
    moderated = (alike * common + freedom * own) / (alike + freedom)
    return Spread(np.maximum(own, moderated), alike + freedom)


def common_variance(variances: Floats, freedom: float) -> tuple[float, float]:
    """What positive `variances` [n], each of so many degrees of freedom, have in common, and how many that is worth.

    By the mean and the variance of their logarithms (Smyth 2004, section 6.2): infinitely many where they differ by no
    more than chance.
    """
    from scipy.special import digamma, polygamma  # noqa: PLC0415  (half a second that only comparing runs pays)

    logs = np.log(variances) - digamma(freedom / 2) + math.log(freedom / 2)
    beyond = float(logs.var(ddof=1) - polygamma(1, freedom / 2))
    if beyond <= 0:
        return float(variances.mean()), math.inf
    half = _inverse_trigamma(beyond)
    return math.exp(float(logs.mean()) + float(digamma(half)) - math.log(half)), 2 * half


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function has this value, by Newton's method on its reciprocal, which is convex (Smyth 2004,
    appendix): it comes from one side, and ends."""
    from scipy.special import polygamma  # noqa: PLC0415  (see above)

    at = 0.5 + 1 / value
    for _ in range(50):
        there = float(polygamma(1, at))
        step = there * (1 - there / value) / float(polygamma(2, at))
        at += step
        if abs(step) < 1e-8 * at:
            break
    return at
