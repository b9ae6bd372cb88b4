"""How far live rows lie from a reference: the population stability index and the Kolmogorov-Smirnov distance. Pure.

Both are over the same cells, and both are held against two limits, of which the larger counts: what matters, and what
chance alone would reach. For a shift of a normal column by d of its standard deviations the index is d squared and the
distance 2 Phi(d / 2) - 1, so the usual 0.25 and 0.2 say the same: half a standard deviation.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Counts", "Noise", "chance_distance", "chance_index", "distance", "in_favour", "stability_index"]

Counts = npt.NDArray[np.float64]
_HALF: Final = 0.5
"""Rows that are added to each cell (Jeffreys), so that an empty one costs a finite amount."""
_CERTAIN: Final = 5.0
"""Standard deviations that noise does not come to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise of standard deviation `sigma` on each count of the reference, of which `merged` make each cell."""

    sigma: float
    merged: Counts

    def variance(self, rows: float) -> Counts:
        """Of each cell's share of so many rows."""
        return np.asarray(self.merged * (self.sigma / rows) ** 2)

    def variance_below(self, reference: Counts) -> Counts:
        """Of the share of rows below each cell's end: what is above it adds noise too, as shares add up to one."""
        below, merged = np.cumsum(_shares(reference)), np.cumsum(self.merged)
        above = merged[-1] - merged
        return np.asarray((merged * (1 - below) ** 2 + above * below**2) * (self.sigma / _rows(reference)) ** 2)


def stability_index(reference: Counts, live: Counts) -> float:
    """The sum over cells of (p - q) ln(p / q) of live shares p and the reference's q (Siddiqi 2006, section 13).

    The symmetric Kullback-Leibler divergence (Jeffreys). Counts that noise made negative count as none.
    """
    q, p = _shares(reference), _shares(live)
    return float(((p - q) * np.log(p / q)).sum())


def distance(reference: Counts, live: Counts) -> float:
    """The largest difference of the two distribution functions at the ends of cells, which are in order.

    Never larger than between the values themselves, so what it finds is there.
    """
    return float(np.abs(np.cumsum(_shares(live)) - np.cumsum(_shares(reference))).max())


def chance_index(reference: Counts, live_rows: float, alpha: float, noise: Noise) -> float:
    """What the index exceeds with probability `alpha` where nothing changed.

    It is distributed as (1/n + 1/m) times chi-squared with one degree less than cells (Yurdakul & Naranjo 2020); noise
    on the reference adds its variance, relative to each cell's share. As that differs from cell to cell, the sum is
    taken for a chi-squared variable of the same mean and variance (Satterthwaite 1946).
    """
    q, rows = _shares(reference), _rows(reference)
    spread = 1 / live_rows + 1 / rows + noise.variance(rows) / q
    scale, alike = float((spread**2).sum() / spread.sum()), float(spread.sum() ** 2 / (spread**2).sum())
    return scale * _chi_squared(alike * (1 - 1 / len(reference)), 1 - alpha)


def chance_distance(reference: Counts, live_rows: float, alpha: float, noise: Noise) -> float:
    """What the distance exceeds with probability `alpha` at most where nothing changed (Smirnov 1948).

    Over cells it is less than between values, so this errs to the quiet side. The noise adds up from cell to cell, and
    comes back as both end at one: taken for a bridge like that of the samples, which is widest where it is 1/4.
    """
    spread = 1 / live_rows + 1 / _rows(reference) + 4 * float(noise.variance_below(reference).max())
    return math.sqrt(-math.log(alpha / 2) / 2 * spread)


def in_favour(reference: Counts, live: Counts, noise: Noise) -> tuple[Counts, Noise]:
    """The reference, whose last cell is of what is missing, where noise hides how much that is: as much as in the live
    rows, as far as the noise allows. So no more than what is beyond it counts."""
    held, rest = float(reference[-1]), float(reference[:-1].sum())
    if not noise.sigma or held >= _CERTAIN * noise.sigma:
        return reference, noise
    alike = rest * float(live[-1]) / max(float(live[:-1].sum()), _HALF)
    most = max(held + _CERTAIN * noise.sigma, 0.0)
    known = Noise(noise.sigma, np.append(noise.merged[:-1], 0.0))
    return np.append(reference[:-1], min(alike, most)), known


def _rows(counts: Counts) -> float:
    return max(float(np.maximum(counts, 0.0).sum()), 1.0)


def _shares(counts: Counts) -> Counts:
    smoothed = np.maximum(counts, 0.0) + _HALF
    return np.asarray(smoothed / smoothed.sum())


def _chi_squared(freedom: float, probability: float) -> float:
    """Its quantile, by the cube of a normal one (Wilson & Hilferty 1931): within 2 % from 0.9 on."""
    if freedom <= 0:
        return 0.0
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(probability) * math.sqrt(part)) ** 3)
