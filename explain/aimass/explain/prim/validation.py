"""Which peeling fraction, and how small a box, by cross-validation: so that no row chooses what it is held against."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.prim.coding import Coded
from aimass.explain.prim.peeling import Trajectory, peel
from aimass.explain.work import Work

__all__ = ["Choice", "choose"]

Floats = npt.NDArray[np.float64]
_LEVELS: Final = 24
_SLACK: Final = 0.05
_FEWEST: Final = 10
"""Rows that a density is over at least, where it may be chosen."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The peeling fraction, and the support: the share of the rows that the chosen box is to hold."""

    fraction: float
    support: float


def choose(
    data: Coded, target: Floats, fractions: tuple[float, ...], least: float, conditions: int, folds: int, work: Work
) -> Choice:
    """By the density in rows that were left out, at supports from 1 down to `least`.

    The fraction is the one whose density is highest over all supports. The support is the largest whose density lies
    within one standard error of the best (the rule of Breiman et al. 1984, section 3.4.3), or within a twentieth of
    what the best gains over all rows: a target without noise would else have the smallest box for next to nothing.
    """
    supports = np.geomspace(1.0, least, _LEVELS)
    fold = work.rng("prim", "folds").permutation(len(target)) % folds
    found = []
    for at, fraction in enumerate(fractions):
        sums = np.zeros((3, _LEVELS))
        for one in range(folds):
            train, left = fold != one, fold == one
            rows = max(1.0, least * train.sum())
            path = peel(data.take(train), target[train], fraction, rows, conditions, work)
            sums += _left_out(path, data.take(left), target[left], supports)
            work.tell((at * folds + one + 1) / (len(fractions) * folds), "cross-validation")
        found.append(_densities(sums))
    best = int(np.argmax([np.nanmean(density) for density, _ in found]))
    density, error = found[best]
    top = int(np.nanargmax(density))
    slack = max(error[top], _SLACK * (density[top] - density[0]))
    enough = np.flatnonzero(density >= density[top] - slack)
    return Choice(fractions[best], float(supports[enough[0]]))


def _left_out(path: Trajectory, data: Coded, target: Floats, supports: Floats) -> Floats:
    """float64 [3, supports]: rows left out, the target's sum and its squares, in the smallest box of each support."""
    shares = path.counts / path.count
    last = np.searchsorted(-shares, -supports * (1 - 1e-9), side="right") - 1
    found = np.empty((3, len(supports)))
    inside = np.ones(len(target), bool)
    for step in range(len(shares)):
        if step:
            taken = path.peels[step - 1]
            inside &= taken.keep[data.codes[:, taken.column]]
        values = target[inside]
        found[:, last == step] = np.array([[len(values)], [values.sum()], [(values**2).sum()]])
    return found


def _densities(sums: Floats) -> tuple[Floats, Floats]:
    """Mean and standard error at each support; NaN where too few rows were left out to tell."""
    count, total, squares = sums
    few = count < min(_FEWEST, count[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        error = np.sqrt(np.maximum(squares / count - mean**2, 0.0) / count)
    mean[few] = np.nan
    return mean, error
