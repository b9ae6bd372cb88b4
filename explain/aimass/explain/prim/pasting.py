"""What comes after the peels: a box grows where that raises its mean, and sheds bounds that it does not need.

Peels are greedy and look at one column at a time, so an early one may have cut too deep (Friedman and Fisher 1999,
section 8.3), or on a column that a later one made idle.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aimass.explain.prim.coding import Coded, Column
from aimass.explain.prim.peeling import Keep, inside, marginal
from aimass.explain.work import Work

__all__ = ["paste", "simplify", "without_crumbs"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def paste(data: Coded, target: Floats, keeps: tuple[Keep, ...], fraction: float, work: Work) -> tuple[Keep, ...]:
    """The box, grown by about `fraction` of its rows at a time for as long as its mean rises."""
    found = list(keeps)
    while True:
        work.check()
        grown = _best_growth(data, target, tuple(found), fraction)
        if grown is None:
            return tuple(found)
        place, keep = grown
        found[place] = keep


def _best_growth(data: Coded, target: Floats, keeps: tuple[Keep, ...], fraction: float) -> tuple[int, Keep] | None:
    outside = np.stack([~keep[data.codes[:, place]] for place, keep in enumerate(keeps)], axis=1)
    misses = outside.sum(axis=1)
    count, total = int((misses == 0).sum()), float(target[misses == 0].sum())
    best, chosen = total / count * (1 + 1e-12) if total > 0 else total / count, None
    for place, (column, keep) in enumerate(zip(data.columns, keeps, strict=True)):
        near = (misses == 1) & outside[:, place]
        if not near.any():
            continue
        beyond = marginal(data.codes[near, place], target[near], column)
        for order in _orders(keep, beyond.counts, beyond.sums, ordered=column.ordered):
            rows = beyond.counts[order].cumsum()
            levels = min(int(np.searchsorted(rows, fraction * count)) + 1, len(order))
            added = order[:levels]
            mean = (total + beyond.sums[added].sum()) / (count + beyond.counts[added].sum())
            if beyond.counts[added].any() and mean > best:
                wider = keep.copy()
                wider[added] = True
                best, chosen = mean, (place, wider)
    return chosen


def _orders(keep: Keep, counts: Floats, sums: Floats, *, ordered: bool) -> list[Ints]:
    """Levels that a box could keep again, nearest first: below, above, missing; of a category the highest first."""
    if not ordered:
        there = np.flatnonzero(~keep & (counts > 0))
        return [there[np.argsort(-sums[there] / counts[there], kind="stable")]] if len(there) else []
    kept = np.flatnonzero(keep[:-1])
    missing = [np.array([len(keep) - 1])] if not keep[-1] else []
    if not len(kept):
        return missing
    below, above = np.arange(kept[0] - 1, -1, -1), np.arange(kept[-1] + 1, len(keep) - 1)
    return [order for order in (below, above, *missing) if len(order)]


def _near(values: Floats) -> float:
    """What a mean is still as good as: one standard error less."""
    return float(values.mean() - values.std() / np.sqrt(len(values)))


def without_crumbs(data: Coded, target: Floats, keeps: tuple[Keep, ...], fraction: float) -> tuple[Keep, ...]:
    """The box without the missing cells, or the range beside them, where those are less than a peel of its rows.

    They stay where the mean would be more than one standard error lower without them.
    """
    found = list(keeps)
    for place, column in enumerate(data.columns):
        keep = found[place]
        if not column.ordered or keep.all() or not (keep[-1] and keep[:-1].any()):
            continue
        here = inside(data.codes, tuple(found))
        missing = data.codes[here, place] == len(column.levels)
        crumb = missing if missing.mean() < 0.5 else ~missing
        values = target[here]
        if crumb.mean() < fraction and values[~crumb].mean() >= _near(values):
            last = np.arange(len(keep)) == len(column.levels)
            found[place] = keep & ~last if crumb is missing else last
    return tuple(found)


def simplify(data: Coded, target: Floats, keeps: tuple[Keep, ...]) -> tuple[Keep, ...]:
    """The box without the bounds, or ends of ranges, that can go while its mean stays within one standard error."""
    least = _near(target[inside(data.codes, keeps)])
    found = list(keeps)
    while True:
        trials = [(place, wider) for place in range(len(found)) for wider in _looser(data.columns[place], found[place])]
        if sum(not keep.all() for keep in found) < 2:
            trials = [(place, wider) for place, wider in trials if not wider.all()]
        means = [_mean_in(data, target, found, place, wider) for place, wider in trials]
        if not means or max(means) < least:
            return tuple(found)
        place, wider = trials[int(np.argmax(means))]
        found[place] = wider


def _looser(column: Column, keep: Keep) -> Iterator[Keep]:
    """Without the bound, and of a range with two ends with either alone."""
    if keep.all():
        return
    yield np.ones(len(keep), bool)
    kept = np.flatnonzero(keep[:-1])
    if column.ordered and len(kept) and kept[0] > 0 and kept[-1] < len(keep) - 2:
        levels = np.arange(len(keep))
        yield keep | (levels < kept[0])
        yield keep | ((levels > kept[-1]) & (levels < len(keep) - 1))


def _mean_in(data: Coded, target: Floats, keeps: list[Keep], place: int, wider: Keep) -> float:
    trial = (*keeps[:place], wider, *keeps[place + 1 :])
    return float(target[inside(data.codes, trial)].mean())
