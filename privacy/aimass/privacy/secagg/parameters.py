"""Thresholds and degrees of an attempt: what a client recomputes before it trusts a proposal of the server.

Names as in docs/secure-aggregation.md: n advertised members, k neighbours of each, t Shamir threshold, T signature
quorum, c corrupted clients that are tolerated, d dropouts. Bounds are natural logarithms of tails of hypergeometric
distributions, so that 2^-40 and far below stay exact.
"""

from __future__ import annotations

import dataclasses
import enum
from functools import lru_cache
from math import inf, lgamma, log
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "COMPLETE_TO",
    "MAX_ATTEMPTS",
    "Parameters",
    "Profile",
    "correct",
    "corrupted",
    "dropouts",
    "propose",
    "quorum",
    "secure",
]

SECURITY_BITS: Final = 40
CORRECTNESS_BITS: Final = 20
COMPLETE_TO: Final = 128
"""Attempts of so many members use the complete graph, whose security rests on no condition of rings."""
MAX_ATTEMPTS: Final = 8
"""Of one round: a server that starts again draws another graph, which costs three bits of the forty."""
_RING_WORTH: Final = 0.7
_LN2: Final = log(2.0)


class Profile(enum.IntEnum):
    """What the server may do: follow the protocol and look (HBC), or lie (MALICIOUS)."""

    HBC = 0
    MALICIOUS = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """What a server proposes for n members."""

    k: int
    t: int
    T: int
    c: int


def _share(n: int, ppm: int) -> int:
    return max(1, n * ppm // 1_000_000) if ppm else 0


def corrupted(n: int, gamma_ppm: int) -> int:
    """c: at least one as soon as any share of colluders is to be tolerated."""
    return _share(n, gamma_ppm)


def dropouts(n: int, delta_ppm: int) -> int:
    """d: a wish, lowered by the server where it cannot be had."""
    return _share(n, delta_ppm)


def quorum(n: int, c: int) -> int:
    """T: any two quorums of n members share an honest signer, since 2T - n > c."""
    return (n + c) // 2 + 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Tails:
    """ln P[X >= x] and ln P[X <= x] of X ~ Hyp(population, marked, draws)."""

    low: int
    high: int
    above: npt.NDArray[np.float64]
    below: npt.NDArray[np.float64]

    def at_least(self, x: int) -> float:
        return 0.0 if x <= self.low else -inf if x > self.high else float(self.above[x - self.low])

    def at_most(self, x: int) -> float:
        return -inf if x < self.low else 0.0 if x >= self.high else float(self.below[x - self.low])


@lru_cache(maxsize=4)
def _log_factorials(most: int) -> npt.NDArray[np.float64]:
    return np.array([lgamma(value + 1.0) for value in range(most + 1)])


@lru_cache(maxsize=64)
def _tails(population: int, marked: int, draws: int) -> _Tails:
    low, high = max(0, draws - (population - marked)), min(marked, draws)
    if low > high:  # more are marked than there are
        return _Tails(low, high, np.empty(0), np.empty(0))
    log = _log_factorials(population)

    def choose(n: int, k: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
        return np.asarray(log[n] - log[k] - log[n - k])

    found = np.arange(low, high + 1)
    mass = choose(marked, found) + choose(population - marked, draws - found) - choose(population, draws)
    return _Tails(low, high, np.logaddexp.accumulate(mass[::-1])[::-1], np.logaddexp.accumulate(mass))


def secure(n: int, k: int, t: int, c: int, profile: Profile, d: int = 0) -> bool:
    """Whether (k, t) keeps every honest input hidden with probability 1 - 2^-40, for c corrupted of n.

    Complete graph: the threshold is the quorum (MALICIOUS) or above c. Ring: C1, and C2 or C2' by profile.
    """
    honest = n - c
    if k == n - 1:
        return (t == quorum(n, c) if profile is Profile.MALICIOUS else t >= max(2, c + 1)) and t <= n
    if not (0 < k < n - 1 and k % 2 == 0 and 2 <= t <= k + 1):
        return False
    bound = -(SECURITY_BITS + 1) * _LN2
    if log(honest) + _tails(n - 1, c, k).at_least(t) > bound:
        return False
    if profile is Profile.MALICIOUS:
        window = _tails(n - 2, c, k // 2).at_least(t - k // 2 - 1)
        return t >= k // 2 + 2 and 2 * (log(honest) + window) <= bound
    gone = c + d
    if k > gone:
        return True
    split = log(n) + log(max(1, n - k - 1)) - _LN2
    split += lgamma(gone + 1) + lgamma(n - k + 1) - lgamma(n + 1) - lgamma(gone - k + 1)
    return split <= bound


def correct(n: int, k: int, t: int, d: int, bits: int = CORRECTNESS_BITS) -> bool:
    """Whether the sum is found with probability 1 - 2^-bits when d members drop out at random (C3)."""
    stay = n - d
    if k == n - 1:
        return stay >= t
    lost = log(d) + _tails(n - 1, stay, k).at_most(t - 1) if d else -inf
    kept = log(stay) + _tails(n - 1, stay - 1, k).at_most(t - 2)
    return bool(np.logaddexp(lost, kept) <= -bits * _LN2)


@lru_cache(maxsize=256)
def propose(n: int, gamma_ppm: int, delta_ppm: int, profile: Profile, bits: int = CORRECTNESS_BITS) -> Parameters:
    """The rule for n members: the complete graph to 128 or where no ring is worth it, else the smallest ring.

    The dropouts that are wished for are lowered, down to none, to what the quorum admits (A0). Raises `ValueError`
    where even without dropouts there are too few members.
    """
    c, d = corrupted(n, gamma_ppm), dropouts(n, delta_ppm)
    T = quorum(n, c)  # noqa: N806  (the protocol's name)
    least = T if profile is Profile.MALICIOUS else max(2, c + 1)
    if n < least:
        raise ValueError(f"{n} members are fewer than the {least} that the parameters need")
    d = min(d, n - least)
    if n > COMPLETE_TO:
        for k in range(2, int(_RING_WORTH * (n - 1)) + 1, 2):
            t = _smallest_threshold(n, k, c, profile, d)
            if t is not None and correct(n, k, t, d, bits):
                return Parameters(k, t, T, c)
    if profile is Profile.MALICIOUS:
        return Parameters(n - 1, T, T, c)
    return Parameters(n - 1, -(-(least + n - d) // 2), T, c)


def _smallest_threshold(n: int, k: int, c: int, profile: Profile, d: int) -> int | None:
    """By bisection: a larger threshold is never less secure."""
    low, high = 2, k + 1
    if not secure(n, k, high, c, profile, d):
        return None
    while low < high:
        middle = (low + high) // 2
        if secure(n, k, middle, c, profile, d):
            high = middle
        else:
            low = middle + 1
    return low
