"""Where a curve over one feature is computed: quantiles of a number, the values of a category in order of likeness."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Rows

__all__ = ["category_order", "quantile_edges"]

Floats = npt.NDArray[np.float64]
_GRID: Final = 64
"""At so many quantiles two distributions are compared."""


def quantile_edges(cells: Floats, steps: int) -> Floats:
    """At most `steps + 1` of the cells, ascending and distinct, about as many rows between each two; NaN is no cell."""
    known = cells[~np.isnan(cells)]
    distinct = np.unique(known)
    if len(distinct) <= steps + 1:
        return distinct
    found: Floats = np.unique(np.quantile(known, np.linspace(0, 1, steps + 1), method="inverted_cdf"))
    return found


def category_order(rows: Rows, column: int) -> Floats:
    """The values of a category that rows have, those of like rows beside one another.

    As Apley and Zhu 2020 order categories: by the first coordinate of classical scaling of the distances between
    values, each the sum over the other features of the Kolmogorov-Smirnov distance, or of half the difference in the
    frequencies of a category.
    """
    cells = rows.values[:, column]
    present = np.unique(cells[~np.isnan(cells)])
    if len(present) < 3:
        return present
    member = cells[:, None] == present[None, :]
    apart = np.zeros((len(present), len(present)))
    for other in range(len(rows.features)):
        if other != column:
            apart += _distances(rows.values[:, other], member, category=rows.features[other].kind == "category")
    centred = -0.5 * apart**2
    centred = centred - centred.mean(axis=0) - centred.mean(axis=1, keepdims=True) + centred.mean()
    along = np.linalg.eigh(centred)[1][:, -1]
    along = along if along[0] <= along[-1] else -along  # (the sign of an eigenvector means nothing)
    return present[np.argsort(np.round(along, 12), kind="stable")]


def _distances(cells: Floats, member: npt.NDArray[np.bool_], *, category: bool) -> Floats:
    known = ~np.isnan(cells)
    if not known.any():
        return np.zeros((member.shape[1],) * 2)
    if category:
        levels = np.unique(cells[known])
        below = (cells[:, None] == levels[None, :]).astype(np.float64)
    else:
        levels = np.unique(np.quantile(cells[known], np.linspace(0, 1, _GRID), method="inverted_cdf"))
        below = (cells[:, None] <= levels[None, :]).astype(np.float64)
    inside = member[known].astype(np.float64)
    shares = inside.T @ below[known] / np.maximum(inside.sum(axis=0), 1.0)[:, None]
    apart = np.stack([np.abs(shares - one) for one in shares])
    found: Floats = apart.sum(axis=2) / 2 if category else apart.max(axis=2)
    return found
