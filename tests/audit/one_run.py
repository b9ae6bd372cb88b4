"""Auditing with one run: a lower bound of epsilon from guesses about many canaries in a single training.

T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023: each of m canaries is
included by its own fair coin; the auditor sees the outcome, guesses for some whether they are in, and abstains on the
rest. The canaries may have anything to do with one another.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["epsilon_from_guesses", "right_guesses", "surprise"]


def surprise(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most probability that so many guesses are right under (epsilon, delta)-DP, add or remove one: theorem 5.2.

    beta + 2 m delta alpha, with beta = P[B >= v], alpha = max over i in 1..v of P[v > B >= v - i] / i, and B the number
    of right answers of randomised response, Binomial(r, e^epsilon / (e^epsilon + 1)).
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError("no more guesses than canaries, and no more right ones than guesses")
    if right == 0:
        return 1.0
    probabilities = _binomial(guesses, 1 / (1 + math.exp(-epsilon)))
    below = np.cumsum(probabilities[right - 1 :: -1])  # at place i - 1: P[v > B >= v - i]
    alpha = float((below / np.arange(1, right + 1)).max())
    return min(1.0, float(probabilities[right:].sum()) + 2 * canaries * delta * alpha)


def _binomial(trials: int, share: float) -> npt.NDArray[np.float64]:
    """P[B = k] for k = 0..trials."""
    if share >= 1:
        return np.append(np.zeros(trials), 1.0)
    k = np.arange(1, trials + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log((trials - k + 1) / k) + math.log(share) - math.log1p(-share))))
    return np.asarray(np.exp(logs + trials * math.log1p(-share)))


def epsilon_from_guesses(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """The largest epsilon at which so many right guesses would be less likely than 1 - confidence; 0 where none is.

    The number of guesses must have been fixed before the outcome was seen.
    """
    low, high = 0.0, 1.0
    while surprise(canaries, guesses, right, high, delta) < 1 - confidence:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        certain = surprise(canaries, guesses, right, middle, delta) < 1 - confidence
        low, high = (middle, high) if certain else (low, middle)
    return low


def right_guesses(scores: npt.NDArray[Any], included: npt.NDArray[np.bool_], guesses: int) -> int:
    """How many are right where the largest half of so many scores is guessed to be in, and the smallest half out."""
    half = guesses // 2
    order = np.argsort(scores, kind="stable")
    return int(included[order[len(order) - half :]].sum() + (~included[order[:half]]).sum())
