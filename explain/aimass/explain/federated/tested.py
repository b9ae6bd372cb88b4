"""What sums say of a mean: its interval, how it differs from that of the other rows, and whether by more than chance.

The same figures as `significance` has of rows at hand.
"""

from __future__ import annotations

import math

from aimass.explain.means import mean_interval, student95
from aimass.explain.significance import hypergeometric
from aimass.proto.intervals import Z95, wilson
from aimass.proto.values import Value

__all__ = ["Moments", "difference_interval", "interval_of", "permutation_p"]


class Moments(Value, frozen=True):
    """Of `rows` values their sum and the sum of their squares.

    `rows_noise` and `total_noise` are the standard deviations of the noise on the first two, 0 without.
    """

    rows: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    rows_noise: float = 0.0
    total_noise: float = 0.0

    @property
    def mean(self) -> float:
        """NaN of no rows."""
        return self.total / self.rows if self.rows >= 1 else math.nan

    @property
    def variance(self) -> float:
        """Of the mean, by the values' own variance; NaN of fewer than two."""
        if self.rows < 2:
            return math.nan
        return max(0.0, self.squares - self.rows * self.mean**2) / (self.rows - 1) / self.rows

    @property
    def shaken(self) -> float:
        """Standard deviation of the mean by noise alone, to first order."""
        return math.hypot(self.total_noise, self.mean * self.rows_noise) / self.rows if self.rows >= 1 else math.nan

    def less(self, other: Moments) -> Moments:
        """Of the values that are not among the other's."""
        return Moments(
            rows=self.rows - other.rows,
            total=self.total - other.total,
            squares=self.squares - other.squares,
            rows_noise=math.hypot(self.rows_noise, other.rows_noise),
            total_noise=math.hypot(self.total_noise, other.total_noise),
        )


def interval_of(one: Moments, *, share: bool) -> tuple[float, float]:
    """The 95 % interval of a mean, noise included: Wilson's where values are 0 or 1 (`share`), else Student's.

    NaN of too few.
    """
    if one.rows < 1:
        return math.nan, math.nan
    if not share:
        return _wider(one.mean, *mean_interval(one.rows, one.total, one.squares), one.shaken)
    low, high = _wider(one.mean, *wilson(min(1.0, max(0.0, one.mean)), one.rows), one.shaken)
    return max(0.0, low), min(1.0, high)


def _wider(mean: float, low: float, high: float, shaken: float) -> tuple[float, float]:
    if not shaken:
        return low, high
    return mean - math.hypot(mean - low, Z95 * shaken), mean + math.hypot(high - mean, Z95 * shaken)


def difference_interval(one: Moments, other: Moments, *, share: bool) -> tuple[float, float]:
    """The 95 % interval of one mean less another: Newcombe's (1998, method 10) of shares, else Welch's."""
    if min(one.rows, other.rows) < (1 if share else 2):
        return math.nan, math.nan
    p, q = one.mean, other.mean
    if share:
        (a, b), (c, d) = interval_of(one, share=True), interval_of(other, share=True)
        return p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)
    u, v = one.variance, other.variance
    if u + v == 0:
        return p - q, p - q
    freedom = (u + v) ** 2 / (u**2 / (one.rows - 1) + v**2 / (other.rows - 1))
    half = student95(max(1, math.floor(freedom))) * math.sqrt(u + v)
    return _wider(p - q, p - q - half, p - q + half, math.hypot(one.shaken, other.shaken))


def permutation_p(inside: Moments, whole: Moments, *, share: bool) -> float:
    """The p-value that the values `inside` are no larger than the others of the `whole`, over all permutations.

    Exact where values are 0 or 1 and there is no noise. Else the normal limit of the permutation distribution
    (Hoeffding 1951), whose mean and variance are those of a sample without replacement, with that of the noise. 1 where
    nothing is inside, or everything.
    """
    rows, some = whole.rows, inside.rows
    if some < 1 or rows - some < 1:
        return 1.0
    noise = math.hypot(inside.total_noise, whole.mean * inside.rows_noise)
    if share and not noise:
        return hypergeometric(round(inside.total), round(rows), round(whole.total), round(some))
    spread = max(0.0, whole.squares / rows - whole.mean**2)
    variance = some * (rows - some) / (rows - 1) * spread + noise**2
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc((inside.total - some * whole.mean) / math.sqrt(2 * variance))
