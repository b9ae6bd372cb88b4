"""Where a metric's true value lies, from what is known of the rows that it was measured on: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.contribution import Metric
from aimass.proto.intervals import of_auc, wilson
from aimass.proto.registry.entries import Interval
from aimass.proto.views import MetricView

__all__ = ["bootstrapped", "interval_of"]

_PROPORTIONS: Final = frozenset({"accuracy"})
"""Means of what is 0 or 1 for each row, so that the mean says how it spreads."""
_AUC: Final = "auc"
"""As `Task.measures` names the area under the ROC curve of two classes."""
_RESAMPLES: Final = 2_000
_FEWEST_RESAMPLES: Final = 400
_MOST_DRAWN: Final = 20_000_000
"""Rows in all resamples together: of very many rows fewer resamples are drawn, as their quantiles lie close."""
_LEAST_ROWS: Final = 50
"""Of fewer rows percentiles of resamples hold the true value clearly less often than they promise."""

Measures = Callable[[npt.NDArray[np.float64], npt.NDArray[Any]], Mapping[str, Metric]]


def interval_of(name: str, metric: MetricView, *, noisy: bool) -> Interval:
    """A metric that a run measured: of a proportion without noise the interval is known, of others the mean alone."""
    known = _known(name, metric.mean, metric.weight)
    return Interval(mean=metric.mean, rows=max(0.0, metric.weight)) if noisy else known


def bootstrapped(
    measures: Measures, said: npt.NDArray[np.float64], labels: npt.NDArray[Any], chance: np.random.Generator
) -> dict[str, Interval]:
    """A model's measures of held-out rows with their 95 % intervals.

    Of proportions they are Wilson's, of AUC Newcombe's: of 20 rows that are all answered rightly every resample says so
    too, and none says that the model errs on one row of 20. Of others they are percentiles over resampled rows (Efron
    1979). There is none of these of fewer than 50 rows, of what is undefined in some resample, or the same in all.
    """
    measured, count = measures(said, labels), len(labels)
    found = {name: _known(name, mean, measured[name].weight) for name, mean in _means(measured).items()}
    if _AUC in found:
        found[_AUC] = _ranked(found[_AUC], labels)
    others = [name for name, interval in found.items() if interval.low is None]
    resamples = _resamples(count) if others else 0
    means = [_means(measures(said[rows], labels[rows])) for rows in _drawn(count, resamples, chance)]
    for name in others:
        spread = [one[name] for one in means if name in one]
        if len(spread) == resamples:  # none is undefined
            found[name] = _percentiles(found[name], spread)
    return found


def _drawn(count: int, resamples: int, chance: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    for _ in range(resamples):
        yield chance.integers(0, count, count)


def _resamples(count: int) -> int:
    return 0 if count < _LEAST_ROWS else min(_RESAMPLES, max(_FEWEST_RESAMPLES, _MOST_DRAWN // count))


def _known(name: str, mean: float, rows: float) -> Interval:
    """Of a proportion the interval is known from its mean; of others it is not."""
    if name not in _PROPORTIONS or rows < 1 or not 0 <= mean <= 1:
        return Interval(mean=mean, rows=max(0.0, rows))
    low, high = wilson(mean, rows)
    return Interval(mean=mean, rows=rows, low=low, high=high)


def _ranked(known: Interval, labels: npt.NDArray[Any]) -> Interval:
    """The interval of an AUC of labels 0 and 1."""
    negatives, positives = (int((labels == label).sum()) for label in (0, 1))
    if not positives or not negatives or positives + negatives != len(labels) or not 0 <= known.mean <= 1:
        return known
    low, high = of_auc(known.mean, positives, negatives)
    return Interval(mean=known.mean, rows=known.rows, low=low, high=high)


def _percentiles(known: Interval, spread: Sequence[float]) -> Interval:
    if not spread or not 0 < max(spread) - min(spread) < math.inf or not np.isfinite(spread).all():
        return known
    low, high = np.quantile(spread, (0.025, 0.975))
    return Interval(
        mean=known.mean, rows=known.rows, low=min(float(low), known.mean), high=max(float(high), known.mean)
    )


def _means(measures: Mapping[str, Metric]) -> dict[str, float]:
    return {name: metric.total / metric.weight for name, metric in measures.items() if metric.weight > 0}
