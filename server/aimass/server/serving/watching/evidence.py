"""How strongly counts say that something happens too often, at whatever moment one looks. Pure.

Each figure is the logarithm of an e-process: the likelihood under Jeffreys' prior, over the best that any innocent rate
reaches (universal inference: Wasserman, Ramdas & Balakrishnan, PNAS 2020, section 8). Of what is innocent it ever comes
to log(1 / alpha) with probability `alpha` at most, however often it is asked and whenever one stops (Ville 1939), so
no first requests have to be waited for and no look has to be paid for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Rate", "mixed", "more_often", "too_often"]

_LOG_PI: Final = math.log(math.pi)


class Rate(NamedTuple):
    """Something that happened at so many of the requests."""

    events: int
    requests: int


def too_often(rate: Rate, limit: float) -> float:
    """How strongly it says that the share of events is above `limit`, of (0, 1)."""
    if rate.events <= limit * rate.requests:
        return 0.0
    return _expected(rate) - _likelihood(rate, limit)


def more_often(one: Rate, other: Rate, times: float = 1.0) -> float:
    """How strongly they say that the share of events of `one` is above `times` that of `other`.

    In whatever order the two were counted, also where `other` was counted first. Without requests of `other` nothing
    can be said.
    """
    if not other.requests or one.events * other.requests <= times * other.events * one.requests:
        return 0.0
    rate = _likeliest(one, other, times)
    innocent = _likelihood(one, times * rate) + _likelihood(other, rate)
    return _expected(one) + _expected(other) - innocent


def mixed(logs: Iterable[float]) -> float:
    """The logarithm of the mean of e-processes, which is one too."""
    found = tuple(logs)
    most = max(found)
    return most + math.log(sum(math.exp(one - most) for one in found) / len(found))


def _likeliest(one: Rate, other: Rate, times: float) -> float:
    """The rate of `other` that is likeliest where that of `one` is `times` as high: the smaller root of a square."""
    square = times * (one.requests + other.requests)
    line = (one.events + other.events) * (1 + times) + times * (one.requests - one.events) + other.requests
    line -= other.events
    free = one.events + other.events
    root = math.sqrt(max(line * line - 4 * square * free, 0.0))
    return 2 * free / (line + root)


def _likelihood(rate: Rate, share: float) -> float:
    """Log likelihood of the events where each has the chance `share`."""
    others = rate.requests - rate.events
    happened = rate.events * math.log(share) if rate.events else 0.0
    return happened + (others * math.log1p(-share) if others else 0.0)


def _expected(rate: Rate) -> float:
    """The same, averaged over Jeffreys' prior of the chance."""
    others = rate.requests - rate.events
    return math.lgamma(rate.events + 0.5) + math.lgamma(others + 0.5) - math.lgamma(rate.requests + 1) - _LOG_PI
