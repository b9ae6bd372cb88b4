"""How often the tied set holds the best setting, and how large it is, by what chance does to runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.runs.tied import LEVEL, worse_p

__all__ = ["PATTERNS", "drawn", "holds_and_size"]

Floats = npt.NDArray[np.float64]
Chance = Callable[[np.random.Generator, int, int], Floats]
_SHARED: Final = 3.0
"""What a seed does to all settings alike, in units of what it does to each."""
_FARTHEST: Final = 20.0


def _normal(random: np.random.Generator, settings: int, seeds: int, spread: Floats | float = 1.0) -> Floats:
    return np.asarray(random.standard_normal((settings, seeds)) * np.reshape(spread, (-1, 1)))


def _ramp(settings: int) -> Floats:
    return np.arange(settings) / settings


def _few(settings: int, few: slice, spread: float) -> Floats:
    found = np.ones(settings)
    found[few] = spread
    return found


def _otherwise(random: np.random.Generator, settings: int, seeds: int) -> Floats:
    """A sixth of the settings, the best among them, goes down with the seeds that the others go up with."""
    way = np.where(random.random(settings) < 1 / 6, -1.0, 1.0)
    way[0] = -1.0
    return np.asarray(_normal(random, settings, seeds) + 2 * np.outer(way, random.standard_normal(seeds)))


PATTERNS: Final[dict[str, Chance]] = {
    "all spread alike": _normal,
    "spreads from 0.4 to 2.7": lambda r, k, n: _normal(r, k, n, np.exp(r.uniform(-1, 1, k))),
    "worse ones spread more": lambda r, k, n: _normal(r, k, n, 1 + 7 * _ramp(k) ** 2),
    "the best spreads threefold": lambda r, k, n: _normal(r, k, n, _few(k, slice(0, 1), 3.0)),
    "three rivals spread tenfold": lambda r, k, n: _normal(r, k, n, _few(k, slice(1, 4), 10.0)),
    "heavy tails (Student, 3)": lambda r, k, n: np.asarray(r.standard_t(3, (k, n))),
    "one run in ten collapses": lambda r, k, n: np.where(r.random((k, n)) < 0.1, -10.0, _normal(r, k, n)),
    "seeds act otherwise on some": _otherwise,
}


def drawn(
    pattern: str, random: np.random.Generator, settings: int, seeds: int, *, alike: bool
) -> list[dict[int, float]]:
    """Scores by seed of settings of which the first is the best, or all are; higher is better."""
    behind = np.zeros(settings) if alike else _FARTHEST * _ramp(settings) ** 2
    scores = PATTERNS[pattern](random, settings, seeds) + _SHARED * random.standard_normal(seeds) - behind[:, None]
    return [dict(enumerate(one)) for one in scores.tolist()]


def holds_and_size(
    pattern: str, tries: int, settings: int, seeds: int, *, alike: bool, shared: bool = True, seed: int = 0
) -> tuple[float, float]:
    """The share of tries in which the first setting is in the set, and the set's mean size."""
    random = np.random.default_rng(seed)
    sets = [worse_p(drawn(pattern, random, settings, seeds, alike=alike), shared=shared) > LEVEL for _ in range(tries)]
    return float(np.mean([one[0] for one in sets])), float(np.mean([one.sum() for one in sets]))
