"""Where the mean of what was drawn lies: Student's interval, for views that average losses and predictions."""

from __future__ import annotations

import math
from typing import Final

from aimass.proto.intervals import Z95

__all__ = ["mean_interval", "student95"]

_FEW: Final = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139)
"""The 97.5 % quantile for 1 to 10 degrees of freedom."""


def student95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to four digits.

    Beyond ten degrees of freedom it is the Cornish-Fisher expansion (Abramowitz and Stegun 1964, 26.7.5).
    """
    if freedom <= len(_FEW):
        return _FEW[freedom - 1]
    z, inverse = Z95, 1.0 / freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + inverse * (first + inverse * (second + inverse * (third + inverse * fourth)))


def mean_interval(count: float, total: float, squares: float) -> tuple[float, float]:
    """The 95 % interval of a mean, of how many values with which sum and sum of squares; NaN of fewer than two."""
    if count < 2:
        return math.nan, math.nan
    mean = total / count
    variance = max(0.0, squares - count * mean**2) / (count - 1)
    half = student95(int(count) - 1) * math.sqrt(variance / count)
    return mean - half, mean + half
