"""Predictions over two features: the mean of the rows in each cell, and of all rows if they were moved there."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.models import Predict
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work

__all__ = ["cell_means", "edges_of", "placed", "telling", "telling_pair", "two_way_dependence"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BINS: Final = 10
_BACKGROUND: Final = 100
_MOST_VALUES: Final = 40
"""Of a category that is put on a map unasked."""


def telling(cells: Floats, scores: Floats) -> float:
    """The share of the scores' variance between bins of equally many rows: the correlation ratio (Pearson 1905).

    It counts by the share of rows that are known, so that what is mostly missing tells little.
    """
    known = ~np.isnan(cells)
    if known.sum() < 2 or not np.var(scores[known]) > 0:
        return 0.0
    cuts = np.unique(np.quantile(cells[known], np.arange(1, _BINS) / _BINS))
    places = np.searchsorted(cuts, cells[known], side="right")
    counts = np.bincount(places)
    means = np.bincount(places, scores[known]) / np.maximum(counts, 1)
    between = (counts * (means - scores[known].mean()) ** 2).sum() / counts.sum()
    return float(between / np.var(scores[known]) * known.mean())


def telling_pair(rows: Rows, scores: Floats, x: str = "", y: str = "") -> tuple[int, int]:
    """Places of the features that are named, else of those that tell most of the scores; one feature stands twice.

    A category of very many values, such as a number of each patient, is chosen only where there is nothing else.
    """
    named = [rows.place(name) for name in (x, y) if name]
    every = range(len(rows.features))
    ranked = sorted(
        [place for place in every if len(rows.features[place].values) <= _MOST_VALUES] or every,
        key=lambda place: (-telling(rows.values[:, place], scores), rows.features[place].name),
    )
    free = [place for place in ranked if place not in named] or named or ranked
    first = rows.place(x) if x else free.pop(0) if len(free) > 1 else free[0]
    return first, rows.place(y) if y else free[0]


def edges_of(feature: Feature, cells: Floats, count: int) -> Floats:
    """Edges of `count` cells of one width over what is there, or of one cell a category."""
    if feature.kind == "category":
        return np.arange(max(len(feature.values), int(cells.max(initial=0.0)) + 1) + 1, dtype=np.float64) - 0.5
    known = cells[~np.isnan(cells)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    edges: Floats = np.linspace(low, high if high > low else low + 1.0, count + 1)
    return edges


def placed(feature: Feature, cells: Floats) -> Floats:
    """The cells, of a category with what is missing or none of its values at a place of its own behind them."""
    known = cells < len(feature.values)
    return np.where(known, cells, len(feature.values)) if feature.kind == "category" else cells


def cell_means(pair: Floats, scores: Floats, x_edges: Floats, y_edges: Floats) -> tuple[Ints, Floats]:
    """Counts int64 and mean scores float64 [rows, columns] of `pair` [n, 2]; NaN of cells without a row.

    Rows with a missing cell lie nowhere.
    """
    known = ~np.isnan(pair).any(axis=1)
    at = (pair[known, 1], pair[known, 0])
    counts, _, _ = np.histogram2d(*at, bins=(y_edges, x_edges))
    sums, _, _ = np.histogram2d(*at, bins=(y_edges, x_edges), weights=scores[known])
    means = np.full(counts.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return counts.astype(np.int64), means


def two_way_dependence(
    predict: Predict, rows: Rows, pair: tuple[int, int], edges: tuple[Floats, Floats], output: int, work: Work
) -> Floats:
    """The mean prediction [rows, columns] with the two features at each cell's middle (Friedman 2001, section 8.2).

    The mean is over at most 100 rows, drawn by the work's seed.
    """
    few = rows.values
    if len(few) > _BACKGROUND:
        few = few[np.sort(work.rng("prim", "map").choice(len(few), _BACKGROUND, replace=False))]
    middles = [(one[1:] + one[:-1]) / 2 for one in edges]
    for place, middle in zip(pair, middles, strict=True):
        if rows.features[place].kind == "category":
            middle[middle == len(rows.features[place].values)] = np.nan
    found = np.empty((len(middles[1]), len(middles[0])))
    for row, at in enumerate(middles[1]):
        moved = np.tile(few, (len(middles[0]), 1))
        moved[:, pair[1]] = at
        moved[:, pair[0]] = np.repeat(middles[0], len(few))
        found[row] = predict(moved)[:, output].reshape(len(middles[0]), len(few)).mean(axis=1)
        work.tell((row + 1) / len(found), "map")
    return found
