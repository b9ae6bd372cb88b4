"""Partial dependence: the mean prediction with one feature set to a value, and each row's own curve beside it.

Friedman 2001, "Greedy function approximation", equation 53; the rows' curves Goldstein, Kapelner, Bleich and Pitkin
2015, "Peeking inside the black box" (ICE), who centre them where the grid begins: curves that fan out are an
interaction.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from aimass.explain.gap.inference import error_of_mean
from aimass.explain.gap.steps import quantile_edges
from aimass.explain.models import Predict
from aimass.explain.rows import Rows

__all__ = ["Curves", "individual_curves", "value_grid"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Curves:
    """`each` [n, k] is what the model says of each row with the feature at `at` [k]; `mean` [k] is partial dependence.

    `error` [k] is the mean's standard error.
    """

    at: Floats
    each: Floats

    @property
    def mean(self) -> Floats:
        """float64 [k]."""
        found: Floats = self.each.mean(axis=0)
        return found

    @property
    def error(self) -> Floats:
        """float64 [k]."""
        return error_of_mean(self.each)

    @property
    def centred(self) -> Floats:
        """float64 [n, k]: each curve less its first value."""
        return self.each - self.each[:, :1]


def value_grid(rows: Rows, column: int, points: int) -> Floats:
    """At most `points` cells of a number at its quantiles, or the values of a category in the schema's order."""
    cells = rows.values[:, column]
    if rows.features[column].kind == "category":
        return np.unique(cells[~np.isnan(cells)])
    return quantile_edges(cells, points - 1)


def individual_curves(predict: Predict, values: Floats, column: int, at: Floats, output: int) -> Curves:
    """What the model says of `values` [n, features] with one column set to each of `at` [k]."""
    each, changed = np.empty((len(values), len(at))), values.copy()
    for place, cell in enumerate(at):
        changed[:, column] = cell
        each[:, place] = predict(changed)[:, output]
    return Curves(at, each)
