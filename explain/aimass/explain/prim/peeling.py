"""Patient rule induction: a box is peeled down to where a target is high, a few rows at a time.

Friedman and Fisher, "Bump hunting in high-dimensional data" (1999). A box keeps some levels of each column. Which peel
is best follows from counts and sums by level alone, which add over parts of the rows: so partners who only add can peel
together.

They compare what the mean becomes. Ties and categories make peels of unequal size; here they are compared by what the
mean gains for each row that goes, which is the same order where sizes are equal (the lenient criterion of Kwakkel and
Jaxa-Rozen 2016, section 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.prim.coding import Coded, Column
from aimass.explain.work import Work

__all__ = ["Keep", "Marginal", "Peel", "Trajectory", "best_peel", "inside", "marginal", "peel", "peels"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keep = npt.NDArray[np.bool_]
"""bool [levels + 1] of one column: what a box keeps, last whether missing cells."""
_MOST_STEPS: Final = 2_000
_SMALL: Final = 1e-9
"""A change that is less of the mean is rounding."""


@dataclasses.dataclass(frozen=True)
class Marginal:
    """Of a column, over the rows in a box: `counts` and `sums` of the target float64 [levels + 1] by level."""

    counts: Floats
    sums: Floats


@dataclasses.dataclass(frozen=True)
class Peel:
    """What a box keeps of one column from now on; `count` rows with the target's `total` are left in it."""

    column: int
    keep: Keep
    count: int
    total: float

    @property
    def mean(self) -> float:
        """Of the target, in the box."""
        return self.total / self.count


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """From all rows to the last box: each peel in turn. `count` and `total` are of all rows."""

    columns: tuple[Column, ...]
    count: int
    total: float
    peels: tuple[Peel, ...]

    def box(self, peels: int) -> tuple[Keep, ...]:
        """What is kept of each column after so many peels."""
        found = [np.ones(len(column.levels) + 1, bool) for column in self.columns]
        for one in self.peels[:peels]:
            found[one.column] = one.keep
        return tuple(found)

    @property
    def counts(self) -> Ints:
        """Rows in each box, int64 [peels + 1], the first of all rows."""
        return np.array([self.count, *(one.count for one in self.peels)], np.int64)

    @property
    def means(self) -> Floats:
        """The target's mean in each box."""
        return np.array([self.total, *(one.total for one in self.peels)]) / self.counts


def marginal(codes: Ints, target: Floats, column: Column) -> Marginal:
    """Of the codes [n] of one column and the target [n] of the rows in a box."""
    size = len(column.levels) + 1
    counts, sums = np.bincount(codes, minlength=size), np.bincount(codes, target, minlength=size)
    return Marginal(counts.astype(np.float64), sums.astype(np.float64))


def inside(codes: Ints, keeps: tuple[Keep, ...]) -> Keep:
    """Which rows bool [n] lie in the box."""
    found = np.ones(len(codes), bool)
    for place, keep in enumerate(keeps):
        found &= keep[codes[:, place]]
    return found


def peels(column: Column, found: Marginal, fraction: float) -> Iterator[Keep]:
    """What may be taken off next, as the levels bool [levels + 1] that would go.

    Of a number its lowest and its highest levels, or the missing cells; of a category its levels with the least
    target, missing being one. All of them about `fraction` of the rows, and more where a single level is more.
    """
    size = fraction * found.counts.sum()
    if column.ordered:
        levels = np.arange(len(found.counts))
        ascending = np.flatnonzero(found.counts[:-1] > 0)
        if len(ascending):
            yield levels <= _first(ascending, found.counts, size)[-1]
            yield (levels >= _first(ascending[::-1], found.counts, size)[-1]) & (levels < len(column.levels))
        if found.counts[-1] > 0:
            yield levels == len(column.levels)
        return
    there = np.flatnonzero(found.counts > 0)
    mean = found.sums.sum() / max(1.0, found.counts.sum())
    least = there[np.argsort(_told_apart(found.sums[there] / found.counts[there], abs(mean)), kind="stable")]
    yield np.isin(np.arange(len(found.counts)), _first(least, found.counts, size))


def _first(order: Ints, counts: Floats, size: float) -> Ints:
    """The first levels of this order: as many as `size` rows hold, or one more where that is not half as many."""
    rows = counts[order].cumsum()
    levels = int(np.searchsorted(rows, size * (1 + 1e-9), side="right"))
    if not levels or rows[levels - 1] < size / 2:
        levels += 1
    return order[:levels]


def _told_apart(values: Floats, scale: float) -> Floats:
    """Values in whole units that rounding cannot be, so that what is alike stays alike however it was summed."""
    return np.rint(values / (_SMALL * scale)) if scale else values


def best_peel(
    columns: tuple[Column, ...],
    keeps: tuple[Keep, ...],
    found: tuple[Marginal, ...],
    fraction: float,
    least: float,
    conditions: int,
) -> Peel | None:
    """The peel that gains most for each row that goes, of those that leave `least` rows.

    It may lose: beyond a valley the mean can be higher than before it. None where no peel changes the mean. At most
    `conditions` columns bound the box. Where two gain alike it is the column whose name comes first.
    """
    bounded = [not keep.all() for keep in keeps]
    open_ = sum(bounded) < conditions
    best: tuple[float, str] | None = None
    chosen: Peel | None = None
    changes = False
    for place, (column, part) in enumerate(zip(columns, found, strict=True)):
        if not (open_ or bounded[place]):
            continue
        count, total = part.counts.sum(), part.sums.sum()
        for gone in peels(column, part, fraction):
            removed, lost = part.counts[gone].sum(), part.sums[gone].sum()
            left = count - removed
            if left < max(least, 1):
                continue
            gain = ((total - lost) / left - total / count) / removed
            scale = abs(total / count) / count
            rank = (-float(_told_apart(gain, scale)), column.feature.name)
            changes |= bool(abs(gain) > _SMALL * scale)
            if best is None or rank < best:
                best, chosen = rank, Peel(place, keeps[place] & ~gone, round(left), float(total - lost))
    return chosen if changes else None


def peel(data: Coded, target: Floats, fraction: float, least: float, conditions: int, work: Work) -> Trajectory:
    """From all rows down to `least` of them, `target` [n] high; a box is bounded by `conditions` columns at most."""
    columns, codes, values = data.columns, data.codes, target
    keeps = [np.ones(len(column.levels) + 1, bool) for column in columns]
    taken: list[Peel] = []
    while len(taken) < _MOST_STEPS:
        work.check()
        found = tuple(marginal(codes[:, place], values, column) for place, column in enumerate(columns))
        step = best_peel(columns, tuple(keeps), found, fraction, least, conditions)
        if step is None:
            break
        taken.append(step)
        keeps[step.column] = step.keep
        left = step.keep[codes[:, step.column]]
        codes, values = codes[left], values[left]
    return Trajectory(columns, len(target), float(target.sum()), tuple(taken))
