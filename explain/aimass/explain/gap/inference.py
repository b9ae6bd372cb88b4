"""How far a mean over rows may be from the truth, and how far a rank: from each row's influence on the figure.

The figures of this package are means over rows, or U-statistics, whose error is that of the mean of the rows' influence
(Hoeffding 1948; van der Vaart 1998, theorem 12.3): what the bootstrap over rows converges to, without its draws.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.means import student95

__all__ = ["drawn_means", "error_of_mean", "interval95", "rank_intervals"]

Floats = npt.NDArray[np.float64]
_LEVEL: Final = 0.95


def error_of_mean(influence: Floats) -> Floats:
    """The standard error [m] of the means of `influence` [n, m]; NaN of a single row."""
    rows = len(influence)
    if rows < 2:
        return np.full(influence.shape[1:], np.nan)
    found: Floats = influence.std(axis=0, ddof=1) / math.sqrt(rows)
    return found


def interval95(value: Floats, error: Floats, rows: int) -> tuple[Floats, Floats]:
    """Student's interval about each value, whose error was found from so many rows."""
    half = student95(max(rows - 1, 1)) * error
    return value - half, value + half


def drawn_means(influence: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Errors [draws, m] of the means of `influence` [n, m], as they go together.

    The bootstrap with normal multipliers (Chernozhukov, Chetverikov and Kato 2013): its sums over rows are normal with
    the influence's own covariance, and so are drawn at once, whatever the number of rows.
    """
    centred = influence - influence.mean(axis=0)
    _, sizes, along = np.linalg.svd(centred, full_matrices=False)
    found: Floats = rng.normal(size=(draws, len(sizes))) @ (sizes[:, None] * along) / len(influence)
    return found


def rank_intervals(value: Floats, means: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The best and the worst rank [m] that each value may have, 1 the highest, at 95 % for each.

    Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks": a rank is 1 and those that are surely greater, of
    differences from this one that are tested together, by the largest studentised difference of `means` [draws, m].
    """
    count = len(value)
    best, worst = np.ones(count, np.int64), np.full(count, count, np.int64)
    for place in range(count):
        apart = means - means[:, place : place + 1]
        error = np.delete(apart.std(axis=0), place)
        gap = np.delete(value - value[place], place)
        told = error > 0
        best[place] += int((gap[~told] > 0).sum())
        worst[place] -= int((gap[~told] < 0).sum())
        if told.any():
            studentised = np.abs(np.delete(apart, place, axis=1)[:, told]) / error[told]
            limit = np.quantile(studentised.max(axis=1), _LEVEL)
            best[place] += int((gap[told] > limit * error[told]).sum())
            worst[place] -= int((gap[told] < -limit * error[told]).sum())
    return best, worst
