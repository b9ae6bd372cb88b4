"""Which features tell the same: a feature that another stands in for looks unimportant while it is shuffled alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows

__all__ = ["association", "clusters", "ranks"]

Floats = npt.NDArray[np.float64]
_MOST_ROWS: Final = 20_000
"""Of more every second, third, ... is taken: what goes together in so many goes together."""
_MOST_VALUES: Final = 30
"""Of a category; all others are one."""


def ranks(cells: Floats) -> Floats:
    """Mid-ranks [n] from 0; what is missing gets the mean rank, so that it correlates with nothing."""
    known = ~np.isnan(cells)
    found = np.full(len(cells), np.nan)
    _, places, counts = np.unique(cells[known], return_inverse=True, return_counts=True)
    found[known] = (np.cumsum(counts) - (counts + 1) / 2)[places]
    return np.where(known, found, found[known].mean() if known.any() else 0.0)


def association(rows: Rows) -> Floats:
    """float64 [features, features] in 0 .. 1, symmetric: how much one column tells of another.

    The canonical correlation of what stands for each: ranks of a number (two numbers give Spearman's |rho|), indicators
    of a category's values (a number and a category give the correlation ratio of the ranks), its rare values as one.
    Of many indicators and few rows some combination correlates by chance: of r^2 what chance gives is taken off, by
    the edge of its distribution, (sqrt(k) + sqrt(l))^2 / n (Wachter 1980). A constant column has 0.
    """
    every = -(-len(rows) // _MOST_ROWS) or 1
    bases = [_basis(rows.values[::every, place], feature) for place, feature in enumerate(rows.features)]
    ends = np.cumsum([0, *(one.shape[1] for one in bases)])
    together = np.concatenate(bases, axis=1) if bases else np.zeros((0, 0))
    products, count = together.T @ together, max(len(together) - 1, 1)
    found = np.eye(len(bases))
    for i, one in enumerate(bases):
        for j, other in enumerate(bases[:i]):
            both = products[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
            square = float(np.linalg.norm(both, 2)) ** 2 if both.size else 0.0
            found[i, j] = found[j, i] = np.sqrt(_beyond_chance(square, one.shape[1], other.shape[1], count))
    return np.clip(found, 0.0, 1.0)


def _beyond_chance(square: float, columns: int, others: int, rows: int) -> float:
    if columns == others == 1:
        return square
    chance = (columns**0.5 + others**0.5) ** 2 / rows
    return max(0.0, (square - chance) / (1 - chance)) if chance < 1 else 0.0


def clusters(rows: Rows, least: float) -> tuple[tuple[int, ...], ...]:
    """Places of features that are associated by `least` or more, directly or by others between; only those of two."""
    near = association(rows) >= least
    left, found = set(range(len(rows.features))), []
    while left:
        open_, group = [min(left)], set[int]()
        while open_:
            place = open_.pop()
            group.add(place)
            open_ += [other for other in np.flatnonzero(near[place]).tolist() if other not in group]
        left -= group
        found.append(tuple(sorted(group)))
    return tuple(group for group in found if len(group) > 1)


def _basis(cells: Floats, feature: Feature) -> Floats:
    """An orthonormal basis [n, k] of the centred columns that stand for a feature; k is 0 of a constant."""
    if feature.kind == "category":
        codes = np.where(np.isnan(cells), -1.0, cells)
        values, counts = np.unique(codes, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")[:_MOST_VALUES]]
        columns = (codes[:, None] == frequent[None, :]).astype(np.float64)
    else:
        columns = ranks(cells)[:, None]
    centred = columns - columns.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    kept: Floats = left[:, sizes > 1e-9 * max(1.0, len(cells) ** 0.5)]
    return kept
