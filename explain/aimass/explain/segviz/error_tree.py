"""A tree of errors: the rows split again and again where the mean error differs most (Breiman et al. 1984, CART).

What a split may ask is what a slice may ask. The tree is grown on some rows and judged on others, so that its leaves'
errors are honest (Athey and Imbens 2016).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from aimass.explain.work import Work

__all__ = ["Leaf", "grow"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Where a path ends: of each predicate on it, its place and whether it is met."""

    path: tuple[tuple[int, bool], ...]

    def holds(self, met: Flags) -> Flags:
        """bool [n]: which rows end here, of `met` [predicates, n]."""
        found = np.ones(met.shape[1], np.bool_)
        for place, wanted in self.path:
            found &= met[place] == wanted
        return found


def grow(met: Flags, errors: Floats, work: Work, *, depth: int, least: int) -> tuple[Leaf, ...]:
    """The leaves, of at least `least` rows each, left before right; `met` bool [predicates, n], errors [n].

    A split is the one that lowers the sum of squared distances from the mean most; where none does, there is a leaf.
    """

    def split(path: tuple[tuple[int, bool], ...], inside: Flags) -> list[Leaf]:
        work.check()
        place = _best(met[:, inside], errors[inside], least) if len(path) < depth else None
        if place is None:
            return [Leaf(path)]
        return [
            leaf
            for wanted in (True, False)
            for leaf in split((*path, (place, wanted)), inside & (met[place] == wanted))
        ]

    return tuple(split((), np.ones(len(errors), np.bool_)))


def _best(met: Flags, errors: Floats, least: int) -> int | None:
    """The predicate that splits these rows best, the first of equal ones; None where no split leaves enough rows."""
    rows = len(errors)
    sizes = met.sum(axis=1)
    sums = met @ errors
    fits = (sizes >= least) & (rows - sizes >= least)
    if not fits.any():
        return None
    mean = errors.mean()
    gains = np.full(len(met), -np.inf)
    gains[fits] = (sums[fits] - sizes[fits] * mean) ** 2 * rows / (sizes[fits] * (rows - sizes[fits]))
    place = int(gains.argmax())
    return place if gains[place] > 1e-12 * max(1.0, float((errors**2).sum())) else None
