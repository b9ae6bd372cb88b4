"""Metrics of the held-out rows from a noised histogram of their scores, for partners that keep account of privacy.

A row is in one cell, so one row more or less changes one count by one: the histogram's sensitivity is 1. Noise is added
to every count, and the metrics are computed from the noised counts alone. Their weight is the noised number of rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.private_terms import metric_noise
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.contribution import Metric
from aimass.proto.plan import MetricNoise
from aimass.proto.task import Task

__all__ = ["measures_of", "metrics_of", "noised_metrics", "score_histogram"]

Floats = npt.NDArray[np.float64]
_FEWEST: Final = 1.0
"""The least number of rows that a metric counts with, and that a class needs for a ranking: noise can go below 0."""


def score_histogram(probabilities: Floats, labels: npt.NDArray[np.int64], bins: int) -> Floats:
    """Counts [2, bins] of rows with probabilities [n, classes]: each row is in one cell.

    Of two classes: the label, and the bin of the second one's probability. Of more: whether the likeliest class is the
    label, and the bin of the label's probability. Bins are ]i / bins, (i + 1) / bins] and the first one has 0 too, so
    that with an even number a probability of just 1/2 falls where the likeliest class is the first.
    """
    rows = np.arange(len(labels))
    two = probabilities.shape[1] == 2
    side = labels if two else (probabilities.argmax(axis=1) == labels).astype(np.int64)
    score = np.nan_to_num(np.clip(probabilities[:, 1] if two else probabilities[rows, labels], 0.0, 1.0))
    place = np.maximum(np.ceil(score * bins).astype(np.int64) - 1, 0)
    return np.bincount(side * bins + place, minlength=2 * bins).reshape(2, bins).astype(np.float64)


def metrics_of(counts: Floats, classes: int) -> dict[str, Metric]:
    """Loss, accuracy and (of two classes) AUC from the counts [2, bins] of `score_histogram`, noised or not.

    Rows count as if they lay in the middle of their bins. Negative counts stay: without them the noise of empty bins
    would add rows, and draw an AUC towards 1/2. What comes out beyond a metric's range is clipped to it. AUC is left
    out where a class has less than one row.
    """
    middles = (np.arange(counts.shape[1]) + 0.5) / counts.shape[1]
    losses, right = -np.log(middles), np.array([[0.0], [1.0]])
    if classes == 2:
        losses = np.stack([losses[::-1], losses])
        right = np.stack([_step(0.5 - middles), _step(middles - 0.5)])
    rows = max(float(counts.sum()), _FEWEST)
    means = {
        "loss": float(np.clip((counts * losses).sum() / rows, 0.0, losses.max())),
        "accuracy": float(np.clip((counts * right).sum() / rows, 0.0, 1.0)),
    }
    if classes == 2 and (counts.sum(axis=1) >= _FEWEST).all():
        means["auc"] = _area(*counts)
    return {name: Metric(mean * rows, rows) for name, mean in means.items()}


def _step(values: Floats) -> Floats:
    """1 above 0, 1/2 at it (the middle one of an odd number of bins holds rows of both kinds), 0 below."""
    return np.heaviside(values, 0.5)


def _area(negative: Floats, positive: Floats) -> float:
    """Area under the ROC curve; two rows of one bin count as a tie (Mann-Whitney U over n1 n0)."""
    below = np.cumsum(negative) - negative / 2
    return float(np.clip((positive * below).sum() / (positive.sum() * negative.sum()), 0.0, 1.0))


def noised_metrics(
    probabilities: Floats, labels: npt.NDArray[np.int64], setting: MetricNoise, stream: NoiseStream
) -> dict[str, Metric]:
    """The metrics of `metrics_of` with fresh noise; there are some of no rows too, since none would tell that."""
    counts = noised(metric_noise(setting), score_histogram(probabilities, labels, setting.bins), stream)
    return metrics_of(counts, probabilities.shape[1])


def measures_of(task: Task) -> frozenset[str]:
    """The names of what a task measures, by a made-up example: those of its rows might depend on them."""
    classes = len(task.schema.classes)
    return frozenset(task.measures((np.eye(classes) + 1 / classes) / 2, np.arange(classes)))
