"""Why this prediction: how far each feature of one row moves it from the average, as a waterfall."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Points, Rule, names_axis
from aimass.explain.lpi.cells import alike, cells_of
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.scale import Scale, axis_title, change, level
from aimass.explain.lpi.shapley import Shapley
from aimass.explain.means import mean_interval, student95
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import label
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.intervals import Z95

__all__ = ["SHOWS_NOT", "Attribution", "attribution"]

_MOST_BARS: Final = 14
_NAMED: Final = 4
_ROUNDING: Final = 1e-5
"""Of networks in float32: by so much of a prediction may sums miss it."""
_NOTHING: Final = 1e-12
_NOTHING_OF_SINGLES: Final = 1e-6
"""Of a model that answers in float32: what is less of a prediction is rounding."""
_FINE: Final = 1 << 10
SHOWS_NOT: Final = (
    "What moved this model, not what caused the outcome; changing a feature in the world need not change it. Features "
    "are combined with those of other rows, also where no such row exists."
)


class Attribution(Result, frozen=True, kw_only=True, eq=False, tag="lpi.attribution"):
    """`values` [groups] sum to `said` less `base`; `names` and `cells` say what the groups are and have in this row.

    `low` and `high` [groups] hold with 95 % the value against all rows like those of the background, of which it was
    drawn; they are the value itself where centres stand for all. `base_low` to `base_high` holds the average so.
    `errors` [groups] is the standard error of sampling orders, 0 where `exact`.
    """

    row: int
    output: str
    scale: Scale
    said: float
    base: float
    base_low: float
    base_high: float
    names: tuple[str, ...]
    cells: tuple[str, ...]
    values: Array
    low: Array
    high: Array
    errors: Array
    exact: bool
    background: str

    @property
    def rows_held(self) -> int:
        """The one that is explained."""
        return 1

    def order(self) -> list[int]:
        """The groups, the largest value first."""
        return [int(place) for place in np.argsort(-np.abs(self.values), kind="stable")]

    def describe(self) -> tuple[str, ...]:
        """What the model says, what moved it most, and how sure that is."""
        title, said = axis_title(self.output, self.scale).capitalize(), level(self.said, self.scale)
        average = f"on average over the background ({self.background}) {level(self.base, self.scale)}{self._spread()}"
        lines = [f"{title} of row {self.row + 1}: {said}, {average}."]
        moved = [place for place in self.order() if self.values[place] != 0][:_NAMED]
        if moved:
            lines.append(f"What moved it most: {'; '.join(map(self._told, moved))}.")
        told = [place for place in self.order() if self.low[place] <= 0 <= self.high[place]]
        if told and len(told) < len(self.names):
            lines.append(f"Not told from nothing: {', '.join(self.names[place] for place in told)}.")
        lines.append(
            "The values are exact against this background: all combinations of features were computed."
            if self.exact
            else f"The values come from random orders of the features, with a standard error of at most "
            f"{change(float(self.errors.max(initial=0.0)), self.scale).lstrip('+')}."
        )
        return tuple(lines)

    def _spread(self) -> str:
        if not self.base_low < self.base_high:
            return ""
        return f" ({level(self.base_low, self.scale)} to {level(self.base_high, self.scale)} over all rows like these)"

    def _told(self, place: int) -> str:
        ends = change(self.low[place], self.scale), change(self.high[place], self.scale)
        between = f" ({ends[0].removesuffix(' points')} to {ends[1]})" if self.low[place] < self.high[place] else ""
        return f"{self.names[place]} = {self.cells[place]}: {change(self.values[place], self.scale)}{between}"

    def picture(self) -> Picture:
        """From the average on top to the prediction at the bottom, the largest step first."""
        order = self.order()
        shown, rest = order[:_MOST_BARS], order[_MOST_BARS:]
        steps = np.append(self.values[shown], self.values[rest].sum()) if rest else self.values[shown]
        ends = self.base + np.cumsum(steps)
        begins = np.append(self.base, ends[:-1])
        low, high = self.low[shown], self.high[shown]
        names = [label(self.names[p], f" = {self.cells[p]}: {change(self.values[p], self.scale)}") for p in shown]
        if rest:
            low, high = np.append(low, steps[-1]), np.append(high, steps[-1])
            names.append(f"{len(rest)} others: {change(float(steps[-1]), self.scale)}")
        first, last = f"average: {level(self.base, self.scale)}", f"row {self.row + 1}: {level(self.said, self.scale)}"
        bars = Bars(
            np.arange(1, len(steps) + 1),
            ends,
            begins + low,
            begins + high,
            begins,
            tuple("more" if step > 0 else "less" for step in steps),
            tuple(names),
        )
        marks = Points(np.array([self.base, self.said]), np.array([0, len(steps) + 1]), "quiet", size=90)
        panel = Panel(
            "",
            Axis(axis_title(self.output, self.scale), domain=_around(begins, ends, begins + low, begins + high)),
            names_axis((first, *names, last)),
            (Rule(self.base), Rule(self.said), bars, marks),
        )
        sure = " A line is the 95 % interval that a drawn background leaves." if (self.low < self.high).any() else ""
        return Picture(
            "Why this prediction",
            (panel,),
            "From the average to this row's prediction: an orange bar is what a feature adds, a blue one what it takes "
            f"away.{sure}",
            SHOWS_NOT,
        )

    def to_columns(self) -> Columns:
        """A line a feature or group."""
        return {
            "feature": self.names,
            "cell": self.cells,
            "value": self.values.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "standard_error": self.errors.tolist(),
        }


def attribution(game: Game, rows: Rows, row: int, work: Work) -> Attribution:
    """Shapley values of row `row` of `rows`; raises `BadInput` where there is none, or nothing to hold it against."""
    cells = cells_of(rows, row)
    if alike(game.background.values, cells).all():
        raise BadInput(
            "the background is the row itself",
            code="explain.background",
            cure="Give other rows that it is held against.",
        )
    found = game.shapley(cells[None], work)
    answers = game.predict(game.background.values)[:, 0]
    values, low, high, errors = _settled(found, game, answers)
    base_low, base_high = _average(float(found.base[0]), game, answers)
    return Attribution(
        lineage=game.lineage,
        row=row,
        output=game.output,
        scale=game.scale,
        said=float(found.said[0, 0]),
        base=float(found.base[0]),
        base_low=base_low,
        base_high=base_high,
        names=game.titles(),
        cells=game.told(cells),
        values=values,
        low=low,
        high=high,
        errors=errors,
        exact=game.exact,
        background=game.background.says,
        caveats=game.limits(cells),
        checks=(_efficiency(found),),
    )


def _around(*values: Array) -> tuple[float, float]:
    """The range of all, with some room."""
    low, high = min(float(part.min()) for part in values), max(float(part.max()) for part in values)
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _settled(found: Shapley, game: Game, answers: Array) -> tuple[Array, Array, Array, Array]:
    """Values, their intervals and errors; 0 where a feature moves the prediction by no more than sums are rounded."""
    low, high = _interval(found, game)
    values = found.values[0, :, 0]
    errors = np.zeros(len(low)) if found.errors is None else found.errors[0, :, 0]
    moved = np.maximum(np.abs(low), np.abs(high)) > _rounding(found, game, answers)
    return np.where(moved, values, 0.0), np.where(moved, low, 0.0), np.where(moved, high, 0.0), errors * moved


def _rounding(found: Shapley, game: Game, answers: Array) -> float:
    """By how much a value may miss 0 that is none: of float64, or of a model all of whose answers are float32."""
    said = np.append(answers, found.said[0, 0])
    size = float(np.abs(said).max())
    if game.scale == "log_odds":
        said, size = 1.0 / (1.0 + np.exp(-said)), max(1.0, size)
    single = np.minimum(*(np.abs(one - one.astype(np.float32)) for one in (said, 1.0 - said))) <= _NOTHING * size
    whole = (said * _FINE) % 1 == 0  # steps and votes, which are not rounded at all
    return size * (_NOTHING_OF_SINGLES if single.all() and not whole.all() else _NOTHING)


def _average(base: float, game: Game, answers: Array) -> tuple[float, float]:
    """The 95 % interval of the average over all that the background was drawn of: itself where it was not."""
    if not game.background.drawn or len(answers) < 2:
        return base, base
    low, high = mean_interval(len(answers), float(answers.sum()), float((answers**2).sum()))
    return (max(0.0, low), min(1.0, high)) if game.scale == "probability" else (low, high)


def _interval(found: Shapley, game: Game) -> tuple[Array, Array]:
    """The 95 % interval of the values against all that the background was drawn of.

    By Student's t of the values against single references, which are independent draws; of sampled values by pairs,
    whose spread holds that of orders too.
    """
    values = found.values[0, :, 0]
    references = len(game.background.values)
    if not game.background.drawn or references < 2:
        half = Z95 * (np.zeros(len(values)) if found.errors is None else found.errors[0, :, 0])
    else:
        half = student95(references - 1) * found.spread[0, :, 0] / math.sqrt(references - 1)
    return values - half, values + half


def _efficiency(found: Shapley) -> Check:
    slack = 0.0 if found.errors is None else 4.0 * float(np.sqrt((found.errors**2).sum()))
    return Check(
        name="The values sum to the prediction less the average",
        error=found.gap,
        limit=_ROUNDING * max(1.0, float(np.abs(found.said).max())) + slack,
        says="The model may answer the same rows in different ways.",
    )
