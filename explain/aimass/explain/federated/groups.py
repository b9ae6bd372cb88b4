"""Rows that are asked about only together: groups of alike ones, so that no two questions differ by fewer.

A search asks of boxes or slices that lie in each other, and a server that lies asks of any. Whatever is asked, a group
is counted whole or not at all, at the place of its middle. So all that is ever told, added and subtracted at will, is
made of the groups' own sums, none of which is over fewer than `least` rows: microaggregation of whole rows
(Domingo-Ferrer and Mateo-Sanz 2002), in groups that are cut as Mondrian cuts them (LeFevre et al. 2006, section 3).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.marginals import FINE, cells_of, edges_of
from aimass.explain.rows import Feature, Rows

__all__ = ["grouped", "told_in_groups"]

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def told_in_groups(least: int) -> tuple[str, ...]:
    """What a reader of a result must know of it; nothing where single rows were asked about."""
    if least <= 1:
        return ()
    told = (
        f"Partners counted groups of at least {least} alike rows, each at the place of its middle: edges of what was "
        "found are as rough as groups are wide, and rows beside an edge may be counted on its other side."
    )
    return (told,)


def grouped(rows: Rows, sides: Codes, least: int) -> tuple[Rows, Codes]:
    """The rows with the middle of their group in each cell, and int64 [n] their side.

    A group is of one side. Rows of a side that has fewer than `least` count on the side that has most; where all have
    fewer together, -1 is the side of all, and they are not to be counted.
    """
    if least <= 1 or not len(rows):
        return rows, sides
    sides = _large_enough(sides, least)
    codes = np.stack([cells_of(one, rows.values[:, place]) for place, one in enumerate(rows.features)], axis=1)
    values = rows.values.copy()
    for side in np.unique(sides[sides >= 0]):
        some = np.flatnonzero(sides == side)
        middles = _middles(rows.features, codes[some], _groups(codes[some].tobytes(), codes.shape[1], least))
        values[some] = middles
    return dataclasses.replace(rows, values=values), sides


def _large_enough(sides: Codes, least: int) -> Codes:
    """Where all sides are small by themselves they are one together."""
    found, counts = np.unique(sides, return_counts=True)
    if counts.sum() < least:
        return np.full_like(sides, -1)
    return np.where(np.isin(sides, found[counts < least]), found[counts.argmax()], sides)


@functools.lru_cache(maxsize=8)
def _groups(codes: bytes, columns: int, least: int) -> Codes:
    """int64 [n]: the group of each row. They are the same in all steps, each of which asks for them."""
    cells = np.frombuffer(codes, np.int64).reshape(-1, columns)
    found, spread = np.empty(len(cells), np.int64), np.maximum(cells.std(axis=0), 1e-12)
    waiting, number = [np.arange(len(cells))], 0
    while waiting:
        rows = waiting.pop()
        below = _cut(cells[rows], spread, least)
        if below is None:
            found[rows], number = number, number + 1
        else:
            waiting += [rows[~below], rows[below]]
    return found


def _cut(cells: Codes, spread: Floats, least: int) -> npt.NDArray[np.bool_] | None:
    """bool [n]: which rows are below the cut of a group; None where it cannot be cut.

    It is cut in the column in which it is widest against all rows, as near to its middle as leaves `least` on both
    sides, and between two values: so groups are regions, and do not depend on the order of rows.
    """
    count = len(cells)
    if count < 2 * least:
        return None
    wide = cells.std(axis=0) / spread
    for column in np.argsort(-wide, kind="stable"):
        if wide[column] <= 0:
            return None
        ascending = np.sort(cells[:, column])
        places = np.arange(least, count - least + 1)
        places = places[ascending[places - 1] != ascending[places]]
        if len(places):
            nearest = places[np.abs(places - count / 2).argmin()]
            return np.asarray(cells[:, column] < ascending[nearest])
    return None


def _middles(features: tuple[Feature, ...], cells: Codes, groups: Codes) -> Floats:
    """float64 [n, features]: of a number the middle of the middle row's bin, of a category the commonest value."""
    found = np.empty(cells.shape)
    for place, feature in enumerate(features):
        number = feature.kind == "number"
        last = FINE if number else len(feature.values)
        counts = np.zeros((groups.max() + 1, last + 1), np.int64)
        np.add.at(counts, (groups, cells[:, place]), 1)
        middle = _middle_cell(counts) if number else counts.argmax(axis=1)
        edges = edges_of(feature, FINE) if number else np.arange(last + 1)
        values = np.append((edges[1:] + edges[:-1]) / 2 if number else np.arange(last, dtype=np.float64), np.nan)
        found[:, place] = values[middle[groups]]
    return found


def _middle_cell(counts: Codes) -> Codes:
    """int64 [groups]: the cell of the median (the lower one) of what is there, or the last where more is missing."""
    there, missing = counts[:, :-1], counts[:, -1]
    upto, whole = there.cumsum(axis=1), there.sum(axis=1)
    median = (upto < np.ceil(whole / 2)[:, None]).sum(axis=1)
    return np.asarray(np.where(missing > whole, counts.shape[1] - 1, median))
