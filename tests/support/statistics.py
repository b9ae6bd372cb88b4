"""Tests of distributions, without a library of statistics: p-values good enough for thresholds of 1e-6 and 1e-4."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["auc_of_logistic_regression", "chi_square_p", "counts_p", "largest_bit_score", "normal_p", "two_sample_p"]


def chi_square_p(data: bytes) -> float:
    """P of a chi-square at least as large if the bytes were uniform."""
    return counts_p(np.bincount(np.frombuffer(data, np.uint8), minlength=256), np.full(256, len(data) / 256))


def counts_p(counts: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """P of a chi-square at least as large (Wilson and Hilferty 1931); neighbours that expect too little are joined."""
    joined = [(0.0, 0.0)]
    for found, wanted in zip(counts.tolist(), expected.tolist(), strict=True):
        if joined[-1][1] >= 20:
            joined.append((0.0, 0.0))
        joined[-1] = (joined[-1][0] + found, joined[-1][1] + wanted)
    if joined[-1][1] < 20:
        last = joined.pop()
        joined[-1] = (joined[-1][0] + last[0], joined[-1][1] + last[1])
    statistic, degrees = sum((found - wanted) ** 2 / wanted for found, wanted in joined), len(joined) - 1
    spread = 2 / (9 * degrees)
    score = ((statistic / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(score / math.sqrt(2))


def normal_p(values: npt.NDArray[Any]) -> float:
    """P of a Kolmogorov-Smirnov distance at least as large if the values were standard normal."""
    ordered = np.sort(values.reshape(-1))
    cdf = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in ordered.tolist()])
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(float((ranks[1:] - cdf).max()), float((cdf - ranks[:-1]).max()))
    return kolmogorov_p(distance * math.sqrt(len(ordered)))


def kolmogorov_p(scaled: float) -> float:
    """P[K > scaled] of Kolmogorov's distribution."""
    terms = ((-1) ** (term - 1) * math.exp(-2 * (term * scaled) ** 2) for term in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms))) if scaled > 0.2 else 1.0


def largest_bit_score(data: bytes) -> float:
    """The largest |z| of the eight bit positions' shares of ones."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)
    ones = bits.sum(axis=0, dtype=np.int64)
    scores = np.abs(ones - len(bits) / 2) / math.sqrt(len(bits) / 4)
    return float(scores.max())


def two_sample_p(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Kolmogorov and Smirnov's test of two samples, the asymptotic series."""
    a, b = np.sort(np.asarray(one)), np.sort(np.asarray(other))
    places = np.concatenate([a, b])
    gap = np.abs(np.searchsorted(a, places, "right") / len(a) - np.searchsorted(b, places, "right") / len(b)).max()
    size = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    return kolmogorov_p(float((size + 0.12 + 0.11 / size) * gap))


def auc_of_logistic_regression(one: npt.NDArray[Any], other: npt.NDArray[Any], steps: int = 200) -> float:
    """How well a linear classifier, trained on one half of the rows, ranks the other half; 0.5 is by chance."""
    rows = np.concatenate([one, other]).astype(np.float64)
    labels = np.concatenate([np.zeros(len(one)), np.ones(len(other))])
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-12)
    train = np.arange(len(rows)) % 2 == 0
    weights = np.zeros(rows.shape[1])
    for _ in range(steps):
        guess = 1 / (1 + np.exp(-np.clip(rows[train] @ weights, -30, 30)))
        weights -= 0.5 * (rows[train].T @ (guess - labels[train]) / train.sum() + 1e-3 * weights)
    scores, truth = rows[~train] @ weights, labels[~train]
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = truth.sum()
    return float((ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives)))
