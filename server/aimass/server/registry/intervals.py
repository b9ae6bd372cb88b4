"""Where a metric's true value lies, from what is known of the rows that it was measured on: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.contribution import Metric
from aimass.proto.registry.entries import Interval
from aimass.proto.views import MetricView

__all__ = ["bootstrapped", "interval_of", "wilson"]

_Z: Final = 1.959964
"""Of a normal variable 95 % lies within so many deviations."""
_PROPORTIONS: Final = frozenset({"accuracy"})
"""Means of what is 0 or 1 for each row, so that the mean says how it spreads."""
_RESAMPLES: Final = 200

Measures = Callable[[npt.NDArray[np.float64], npt.NDArray[Any]], Mapping[str, Metric]]


def wilson(mean: float, rows: float) -> tuple[float, float]:
    """The 95 % interval of a proportion over `rows`: Wilson 1927, as in Brown, Cai and DasGupta 2001, eq. 4."""
    square = _Z**2
    centre = (mean * rows + square / 2) / (rows + square)
    half = _Z * math.sqrt(rows * mean * (1 - mean) + square / 4) / (rows + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval_of(name: str, metric: MetricView, *, noisy: bool) -> Interval:
    """A metric that a run measured: of a proportion without noise the interval is known, of others the mean alone."""
    if noisy or name not in _PROPORTIONS or metric.weight < 1 or not 0 <= metric.mean <= 1:
        return Interval(mean=metric.mean, rows=max(0.0, metric.weight))
    low, high = wilson(metric.mean, metric.weight)
    return Interval(mean=metric.mean, rows=metric.weight, low=low, high=high)


def bootstrapped(
    measures: Measures, said: npt.NDArray[np.float64], labels: npt.NDArray[Any], chance: np.random.Generator
) -> dict[str, Interval]:
    """A model's measures of held-out rows with percentile intervals over resampled rows: Efron 1979.

    One that is undefined in some resample, as AUC is where one class is missing, has no interval.
    """
    count = len(labels)
    drawn = [chance.integers(0, count, count) for _ in range(_RESAMPLES)] if count > 1 else []
    means: list[dict[str, float]] = [_means(measures(said[rows], labels[rows])) for rows in drawn]
    found = {}
    for name, mean in _means(measures(said, labels)).items():
        spread = [one[name] for one in means if name in one]
        low, high = np.quantile(spread, (0.025, 0.975)) if drawn and len(spread) == len(drawn) else (None, None)
        found[name] = Interval(
            mean=mean,
            rows=float(count),
            low=None if low is None else min(float(low), mean),
            high=None if high is None else max(float(high), mean),
        )
    return found


def _means(measures: Mapping[str, Metric]) -> dict[str, float]:
    return {name: metric.total / metric.weight for name, metric in measures.items() if metric.weight > 0}
