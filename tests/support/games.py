"""A distinguishing game: from how often a guesser is right follows a lower bound of epsilon, with its confidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["epsilon_at_least", "share_at_least", "share_at_most"]


def epsilon_at_least(
    with_: npt.NDArray[Any], without: npt.NDArray[Any], delta: float, confidence: float = 0.95
) -> float:
    """A lower bound of epsilon from scores of a sum with the canary and without; larger scores mean with.

    The threshold is chosen on the first half of the trials and judged on the second; both directions are tried, with
    the confidence shared among the four shares that are bounded (Clopper and Pearson 1934).
    """
    half, alpha = len(with_) // 2, (1 - confidence) / 4
    best = 0.0
    for sign in (1, -1):
        here, away = (sign * with_, sign * without) if sign > 0 else (sign * without, sign * with_)
        threshold = max(
            _thresholds(here[:half]), key=lambda t: _bound(here[:half] >= t, away[:half] >= t, delta, alpha)
        )
        best = max(best, _bound(here[half:] >= threshold, away[half:] >= threshold, delta, alpha))
    return best


def _thresholds(scores: npt.NDArray[Any]) -> Iterator[float]:
    yield from np.quantile(scores, np.linspace(0.01, 0.99, 50)).tolist()


def _bound(hits: npt.NDArray[Any], false_alarms: npt.NDArray[Any], delta: float, alpha: float) -> float:
    least = share_at_least(int(hits.sum()), len(hits), alpha) - delta
    most = share_at_most(int(false_alarms.sum()), len(false_alarms), alpha)
    return math.log(least / most) if least > 0 else -math.inf


@lru_cache(maxsize=4096)
def share_at_least(count: int, trials: int, alpha: float) -> float:
    """The share below which `count` or more of `trials` have less than probability alpha."""
    if count == 0:
        return 0.0
    low, high = 0.0, count / trials
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(count, trials, middle) < alpha else (low, middle)
    return low


def share_at_most(count: int, trials: int, alpha: float) -> float:
    """The share above which `count` or fewer of `trials` have less than probability alpha."""
    return 1 - share_at_least(trials - count, trials, alpha)


def _tail(count: int, trials: int, share: float) -> float:
    """P[Binomial(trials, share) >= count]."""
    if share <= 0:
        return 0.0
    k = np.arange(count, min(trials, count + 40 * int(math.sqrt(trials)) + 40) + 1)
    logs = _choose(trials)[k] + k * math.log(share) + (trials - k) * math.log1p(-share)
    return float(np.exp(logs).sum())


@lru_cache(maxsize=8)
def _choose(trials: int) -> npt.NDArray[np.float64]:
    steps = np.log(np.arange(trials, 0, -1) / np.arange(1, trials + 1))
    return np.concatenate(([0.0], np.cumsum(steps)))
