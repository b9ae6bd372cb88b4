"""Permutation importance: what the loss rises by where a feature tells of another row than the one that it is asked of.

Breiman 2001, "Random forests", section 10; as a property of any model Fisher, Rudin and Dominici 2019, "All models are
wrong, but many are useful", whose estimator e_switch, over all pairs of rows, this is: a U-statistic

    I = mean over i != k of h(i, k),    h(i, k) = loss(y_i, f(x_i with the feature of row k)) - loss(y_i, f(x_i)).

A row lends its value as it takes others', and both move I: its influence is E h(i, .) + E h(., i). An interval from the
losses alone, the way that resampling the rows' mean increases goes, holds the truth in 84 of 100 cases where 95 are
promised (a linear model, 300 rows). Shuffles are cyclic shifts of one random order: every row takes and lends once in
each, no pair comes twice, no row keeps its own value. Where a column has few values all pairs are computed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.gap.pricing import Price, price_of
from aimass.explain.losses import LossName
from aimass.explain.models import Model
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["LEAST_ROWS", "Increase", "permutation_importance"]

Floats = npt.NDArray[np.float64]
LEAST_ROWS: Final = 3
"""So that there is a pair beside its mirror image."""


@dataclasses.dataclass(frozen=True)
class Increase:
    """Of one group of features: the mean increase of the loss, its standard error, and the rows' influence on it [n].

    `shuffle_error` is the part of `error` that more shuffles would take away, 0 where all pairs were computed.
    """

    value: float
    error: float
    shuffle_error: float
    influence: Floats

    @property
    def exact(self) -> bool:
        """Whether all pairs of rows were computed."""
        return self.shuffle_error == 0.0


def permutation_importance(
    model: Model, rows: Rows, groups: Sequence[Sequence[int]], loss: LossName, work: Work, *, shuffles: int = 30
) -> tuple[Floats, tuple[Increase, ...]]:
    """The losses [n] of the rows as they are, and of each group of columns what the loss rises by without it.

    A group's columns are taken from another row together.
    """
    labels, count = rows.need_labels(), len(rows)
    if count < LEAST_ROWS:
        raise BadInput(
            "too few rows to shuffle",
            code="explain.rows.few",
            value=count,
            limit=LEAST_ROWS,
            cure="Give more rows: an interval from fewer than about a hundred is wide.",
        )
    price = price_of(model, loss, work)
    base = price(rows.values, labels)
    order, found = work.rng("gap", "permute").permutation(count), []
    names = tuple(" + ".join(rows.features[place].name for place in group) for group in groups)
    for group, (_, part) in zip(groups, work.parts(names), strict=True):
        columns = list(group)
        cells, places, counts = _distinct(rows.values[:, columns])
        if len(cells) <= max(shuffles, 2):
            pairs = _values(rows.values, labels, columns, cells, base, price, part)
            found.append(_of_all_pairs(pairs, places, counts))
        else:
            shifts = min(shuffles, count - 1)
            found.append(_of_shifts(rows.values, labels, columns, order, shifts, base, price, part))
    return base, tuple(found)


def _distinct(cells: Floats) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct rows of `cells` [n, k], which of them each is, and how often each is there; NaN equals NaN."""
    known = np.where(np.isnan(cells), np.inf, cells)  # (no cell is infinite)
    values, places, counts = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    return np.where(np.isinf(values), np.nan, values), places.reshape(-1), counts


def _values(
    values: Floats,
    labels: npt.NDArray[Any],
    columns: list[int],
    cells: Floats,
    base: Floats,
    price: Price,
    work: Work,
) -> Floats:
    """float64 [n, v]: what each row's loss rises by with each of the distinct cells."""
    found = np.empty((len(values), len(cells)))
    changed = values.copy()
    for place, cell in enumerate(cells):
        work.tell(place / len(cells), "")
        changed[:, columns] = cell
        found[:, place] = price(changed, labels) - base
    return found


def _of_all_pairs(increases: Floats, places: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Increase:
    rows = len(increases)
    increases[np.arange(rows), places] = 0.0  # (its own value changes nothing, to the last bit)
    takes = increases @ counts / (rows - 1)
    lends = increases.sum(axis=0)[places] / (rows - 1)
    squares = float((increases**2 @ counts).sum()) / (rows * (rows - 1))
    return _increase(takes, lends, squares, rows - 1, 0.0)


def _of_shifts(
    values: Floats,
    labels: npt.NDArray[Any],
    columns: list[int],
    order: npt.NDArray[np.int64],
    shifts: int,
    base: Floats,
    price: Price,
    work: Work,
) -> Increase:
    rows = len(values)
    takes, lends, means, squares = np.zeros(rows), np.zeros(rows), np.zeros(shifts), 0.0
    for part in work.chunks(shifts, 16 * values.size):
        lender = np.empty((part.stop - part.start, rows), np.int64)
        for place, shift in enumerate(range(part.start, part.stop)):
            lender[place, order] = np.roll(order, -1 - shift)
        changed = np.tile(values, (len(lender), 1))
        changed[:, columns] = values[lender.ravel()][:, columns]
        rise = price(changed, np.tile(labels, len(lender))).reshape(lender.shape) - base
        takes += rise.sum(axis=0) / shifts
        lends += np.bincount(lender.ravel(), rise.ravel(), minlength=rows) / shifts
        means[part] = rise.mean(axis=1)
        squares += float((rise**2).sum()) / (rows * shifts)
        work.tell(part.stop / shifts, "")
    spread = float(means.std(ddof=1)) / math.sqrt(shifts) if 1 < shifts < rows - 1 else 0.0
    return _increase(takes, lends, squares, shifts, spread)


def _increase(takes: Floats, lends: Floats, squares: float, shuffles: int, shuffle_error: float) -> Increase:
    """The estimate of `shuffles` balanced shifts, where `squares` is the mean of h squared.

    With h1 = E h(i, .), h2 = E h(., i) and t the variance of what remains of h, the estimate's variance is
    (Var(h1 + h2) + t / K) / n. That of takes + lends is Var(h1 + h2) + (Var h1 + Var h2 + 2 t) / K: too much by
    Var(h) / K, which is taken off. Half of it at least is kept, lest few rows give nothing.
    """
    value = float(takes.mean())
    influence = takes + lends - 2 * value
    spread = float(influence.var(ddof=1))
    if spread == 0.0:
        return Increase(value, 0.0, shuffle_error, influence)
    less = max(spread - max(squares - value**2, 0.0) / shuffles, spread / 2)
    return Increase(value, math.sqrt(less / len(takes)), shuffle_error, influence * math.sqrt(less / spread))
