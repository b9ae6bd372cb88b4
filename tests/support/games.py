"""A distinguishing game: from how often a guesser is right follows a lower bound of epsilon, with its confidence."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
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
        threshold = _threshold(here[:half], away[:half], delta, alpha)
        best = max(best, _bound(here[half:] >= threshold, away[half:] >= threshold, delta, alpha))
    return best


def _threshold(here: npt.NDArray[Any], away: npt.NDArray[Any], delta: float, alpha: float) -> float:
    """The quantile of `here` with the largest bound by Wilson's quick shares: any way of choosing is honest."""
    tail = np.geomspace(1e-5, 1e-2, 16)[:-1]
    thresholds = np.quantile(here, np.concatenate([tail, np.linspace(0.01, 0.99, 50), 1 - tail]))
    hits, alarms = (1 - np.searchsorted(np.sort(scores), thresholds) / len(scores) for scores in (here, away))
    z = NormalDist().inv_cdf(1 - alpha)
    least = np.maximum(_wilson(hits, len(here), -z) - delta, 1e-300)
    return float(thresholds[np.argmax(np.log(least) - np.log(_wilson(alarms, len(away), z)))])


def _wilson(share: npt.NDArray[Any], trials: int, z: float) -> npt.NDArray[Any]:
    """One end of Wilson's interval (1927) for a share: the lower one where z is negative."""
    spread = np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return np.asarray((share + z * z / (2 * trials) + z * spread) / (1 + z * z / trials))


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
    k = np.arange(count, min(trials, count + 40 * int(math.sqrt(count)) + 40) + 1)  # the rest is lost in the last bit
    logs = _choose(trials)[k] + k * math.log(share) + (trials - k) * math.log1p(-share)
    return float(np.exp(logs).sum())


@lru_cache(maxsize=8)
def _choose(trials: int) -> npt.NDArray[np.float64]:
    steps = np.log(np.arange(trials, 0, -1) / np.arange(1, trials + 1))
    return np.concatenate(([0.0], np.cumsum(steps)))
