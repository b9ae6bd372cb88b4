"""What a right mechanism looks like from inside: predicates that tests and the audit ask of right and of broken ones.

All limits are five standard deviations or more, so a right mechanism is taken for a broken one less than once in a
hundred thousand looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.matrix import MatrixPlan, matrix
from aimass.privacy.dp.noise_plan import NoisePlan

__all__ = ["WORST", "alike", "coloured", "inclusion", "noise_is_enough", "noise_is_stated", "strange", "whitened"]

WORST = 5.0
"""Deviations: one run in two million is wrong by more."""

Floats = npt.NDArray[np.float64]


def strange(values: Floats, deviation: float) -> bool:
    """Whether values are not independent draws of N(0, deviation^2), by mean, variance and fourth moment."""
    z, count = values / deviation, len(values)
    found = (z.mean(), (z**2).mean() - 1, (z**4).mean() - 3)
    return any(
        abs(each) > WORST * math.sqrt(variance / count) for each, variance in zip(found, (1, 2, 96), strict=True)
    )


def alike(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Whether two noises have to do with each other, by their correlation."""
    return abs(float(np.corrcoef(first, second)[0, 1])) > WORST / math.sqrt(len(first))


def inclusion(batches: Sequence[npt.NDArray[Any]], rows: int, rate: float) -> dict[str, float]:
    """Deviations of what Poisson sampling fixes: counts by row, sizes of batches, pairs of rows together.

    Each row's count is binomial, so their squared deviations sum to chi-square of `rows` degrees. Sizes are binomial:
    their sum, and their spread. Neighbours are together in rate^2 of the batches.
    """
    chosen = np.zeros((len(batches), rows), bool)
    for place, batch in enumerate(batches):
        chosen[place, batch] = True
    count, spread = len(batches), rate * (1 - rate)
    square = float(((chosen.sum(0) - count * rate) ** 2).sum() / (count * spread))
    sizes = chosen.sum(1).astype(float)
    size_square = float(((sizes - rows * rate) ** 2).sum() / (rows * spread))
    pairs = float((chosen[:, ::2] & chosen[:, 1::2]).sum())
    trials = count * (rows // 2)
    twice = chosen[:-1] & chosen[1:]
    return {
        "rows": normal(square, rows, 2 * rows * (1 + 3 / (count * spread))),
        "total": normal(float(sizes.sum()), count * rows * rate, count * rows * spread),
        "spread": normal(size_square, count, 2 * count * (1 + 3 / (rows * spread))),
        "pairs": normal(pairs, trials * rate**2, trials * rate**2 * (1 - rate**2)),
        "again": normal(float(twice.sum()), (count - 1) * rows * rate**2, (count - 1) * rows * rate**2),
    }


def normal(value: float, mean: float, variance: float) -> float:
    """How many deviations a statistic lies from its mean."""
    return abs(value - mean) / math.sqrt(variance)


def noise_is_enough(plan: NoisePlan, total: npt.NDArray[Any]) -> bool:
    """SECAGG section 14: the empirical variance is (s sigma_c)^2 (1 - 5 sqrt(2 / D)) at least."""
    return float(total.astype(np.float64).var()) >= _stated(plan) * (1 - WORST * math.sqrt(2 / len(total)))


def noise_is_stated(plan: NoisePlan, total: npt.NDArray[Any]) -> bool:
    """Enough, and not more: too much variance is as wrong, since what all partners know cancels."""
    most = _stated(plan) * (1 + WORST * math.sqrt(2 / len(total)))
    return noise_is_enough(plan, total) and float(total.astype(np.float64).var()) <= most


def _stated(plan: NoisePlan) -> float:
    return (plan.scale * plan.multiplier * plan.setting.clip) ** 2


def whitened(plan: MatrixPlan, sums: Floats, released: Floats) -> Floats:
    """C (released - x) over its deviation: independent standard normal numbers."""
    return matrix(plan.rounds, plan.bands) @ (released - sums) / plan.noise.deviation


def coloured(plan: MatrixPlan, sums: Floats, released: Floats) -> bool:
    """Whether the noise of a whole run is not white after the matrix, by the rounds' variances and correlations."""
    white = whitened(plan, sums, released)
    off = np.abs(white @ white.T / plan.count - np.eye(plan.rounds)).max()
    return bool(off >= 6 * math.sqrt(2 / plan.count))
