"""Where a share's, or an AUC's, true value lies: for who promotes a model and who explains it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

__all__ = ["Z95", "of_auc", "wilson"]

Z95: Final = 1.959964
"""Of a normal variable 95 % lies within so many deviations."""


def wilson(mean: float, rows: float) -> tuple[float, float]:
    """The 95 % interval of a proportion over `rows`: Wilson 1927, as in Brown, Cai and DasGupta 2001, eq. 4."""
    square = Z95**2
    centre = (mean * rows + square / 2) / (rows + square)
    half = Z95 * math.sqrt(rows * mean * (1 - mean) + square / 4) / (rows + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def of_auc(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """The 95 % interval of an area under the ROC curve that so many rows of each class came to.

    Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", method
    5: the areas whose own deviation reaches to the observed one. So an area of 1 has an interval too.
    """

    def reaches(true: float) -> bool:
        return abs(area - true) <= Z95 * math.sqrt(_auc_variance(true, positives, negatives))

    return _furthest(area, 0.0, reaches), _furthest(area, 1.0, reaches)


def _auc_variance(area: float, positives: int, negatives: int) -> float:
    """Hanley and McNeil 1982, eq. 2 of exponential scores, both counts replaced by their mean less one."""
    count = (positives + negatives) / 2 - 1
    spread = 1 + count * (1 - area) / (2 - area) + count * area / (1 + area)
    return area * (1 - area) * spread / (positives * negatives)


def _furthest(begin: float, end: float, reaches: Callable[[float], bool]) -> float:
    """The last value from `begin` towards `end` that reaches, by halving."""
    if begin == end or reaches(end):
        return end
    for _ in range(60):
        middle = (begin + end) / 2
        begin, end = (middle, end) if reaches(middle) else (begin, middle)
    return begin
