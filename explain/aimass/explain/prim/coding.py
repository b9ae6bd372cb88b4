"""Columns as small integers: what induction needs of a cell is which of the column's levels it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows

__all__ = ["Coded", "Column", "coded"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Column:
    """A feature with the `levels` float64 [m] that occur, ascending; code m is a `missing` cell, if there are any."""

    feature: Feature
    levels: Floats
    missing: bool

    @property
    def ordered(self) -> bool:
        """Whether ranges mean something."""
        return self.feature.kind == "number"


@dataclasses.dataclass(frozen=True)
class Coded:
    """`codes` int64 [n, columns]: the place of each cell in its column's levels."""

    columns: tuple[Column, ...]
    codes: Ints

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> Coded:
        """These rows, coded alike."""
        return dataclasses.replace(self, codes=self.codes[rows])


def coded(rows: Rows, places: tuple[int, ...]) -> Coded:
    """The features at these places."""
    columns, codes = [], np.empty((len(rows), len(places)), np.int64)
    for at, place in enumerate(places):
        cells = rows.values[:, place]
        levels = np.unique(cells[~np.isnan(cells)])
        codes[:, at] = np.searchsorted(levels, cells)  # NaN sorts behind all levels
        columns.append(Column(rows.features[place], levels, bool(np.isnan(cells).any())))
    return Coded(tuple(columns), codes)
