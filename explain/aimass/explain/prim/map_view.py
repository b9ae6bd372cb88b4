"""The result that shows bands over two features: where rows lie, and what the model says between them."""

from __future__ import annotations

import numpy as np

from aimass.explain.charts.picture import Axis, Heat, Layer, Panel, Picture, Points, names_axis
from aimass.explain.prim.bands import band_names
from aimass.explain.prim.target import told as mean_told
from aimass.explain.results import Array, Columns, Result
from aimass.explain.rows import Feature
from aimass.explain.words import apart

__all__ = ["BandMap"]

_ENOUGH = 5
"""Rows that a cell holds at least which is told as the highest or the lowest, where any holds as many."""


class BandMap(Result, frozen=True, kw_only=True, eq=False, tag="prim.map"):
    """Predictions of `output`, cut at `thresholds` float64 [t], over the features `x` and `y`.

    Cells lie between `x_edges` [columns + 1] and `y_edges` [rows + 1], of categories between their places:
    `counts` int64 and `means` float64 [rows, columns] are of the rows that lie there, `surface` float64 is the mean
    prediction over all rows moved there. `points` float64 [n, 3] are x, y and prediction of each row, empty of many;
    without `with_rows` in steps of 1/60 of the map, and where its band begins.
    """

    output: str
    chances: bool
    thresholds: Array
    x: Feature
    y: Feature
    x_edges: Array
    y_edges: Array
    counts: Array
    means: Array
    surface: Array
    points: Array
    with_rows: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Of each band what it holds."""
        return band_names(apart(self.thresholds))

    @property
    def rows_held(self) -> int:
        """Those that are dots."""
        return len(self.points)

    def describe(self) -> tuple[str, ...]:
        """Where the mean prediction is highest and lowest, and how much of the map holds no row."""
        told = self.counts >= min(_ENOUGH, int(self.counts.max()))
        top = np.unravel_index(int(np.where(told, self.means, -np.inf).argmax()), told.shape)
        low = np.unravel_index(int(np.where(told, self.means, np.inf).argmin()), told.shape)
        empty = int((self.counts == 0).sum())
        extremes = (
            f"Predictions of {self.output} are highest where {self._cell(int(top[0]), int(top[1]))} and lowest where "
            f"{self._cell(int(low[0]), int(low[1]))}."
        )
        return extremes, f"{empty} of {self.counts.size} cells hold no row: there the model is not told by any."

    def _cell(self, row: int, column: int) -> str:
        mean, count = float(self.means[row, column]), int(self.counts[row, column])
        what = f"{mean_told(mean, share=self.chances)} over {count:,} {'row' if count == 1 else 'rows'}"
        return f"{_where(self.x, self.x_edges, column)} and {_where(self.y, self.y_edges, row)} ({what})"

    def picture(self) -> Picture:
        """The rows, each in the colour of its band, beside what the model says on average anywhere."""
        cuts = tuple(float(threshold) for threshold in self.thresholds)
        title = f"predicted {self.output}"
        axes = _axis(self.x, self.x_edges), _axis(self.y, self.y_edges)
        surface = Heat(self.x_edges, self.y_edges, self.surface, title, bands=cuts)
        panels = (
            Panel("The rows", *axes, self._rows(title, cuts), width=400, height=320),
            Panel("The model, all else as in the rows", *axes, (surface,), width=400, height=320),
        )
        return Picture(
            f"Where predictions of {self.output} fall",
            panels,
            "Left: the rows, in the colours of their bands. Right: the mean prediction if all rows lay there.",
            "Right, where no rows lie on the left, the model guesses; other features may matter more than these two.",
            columns=2,
        )

    def _rows(self, title: str, cuts: tuple[float, ...]) -> tuple[Layer, ...]:
        if not len(self.points) or "category" in (self.x.kind, self.y.kind):
            return (Heat(self.x_edges, self.y_edges, self.means, title, bands=cuts),)
        band = np.searchsorted(self.thresholds, self.points[:, 2], side="right")
        return tuple(
            Points(
                self.points[band == place, 0],
                self.points[band == place, 1],
                f"band:{place}/{len(self.names)}",
                name,
            )
            for place, name in enumerate(self.names)
        )

    def to_columns(self) -> Columns:
        """A line for each cell."""
        rows, columns = np.indices(self.counts.shape).reshape(2, -1)
        return {
            self.x.name: [_where(self.x, self.x_edges, place) for place in columns],
            self.y.name: [_where(self.y, self.y_edges, place) for place in rows],
            "rows": self.counts.ravel().tolist(),
            "mean prediction": self.means.ravel().tolist(),
            "mean prediction if all rows lay here": self.surface.ravel().tolist(),
        }


def _axis(feature: Feature, edges: Array) -> Axis:
    if feature.kind == "category":
        return names_axis(tuple(_value(feature, place) for place in range(len(edges) - 1)), feature.name)
    return Axis(feature.title, domain=(float(edges[0]), float(edges[-1])))


def _value(feature: Feature, place: int) -> str:
    return "missing" if place == len(feature.values) else feature.told(float(place))


def _where(feature: Feature, edges: Array, cell: int) -> str:
    if feature.kind == "category":
        return f"{feature.name} is {_value(feature, cell)}"
    return f"{feature.name} is {feature.between(edges[cell], edges[cell + 1])}"
