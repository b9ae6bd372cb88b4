"""How far each feature moves single predictions: mean |Shapley value| over rows, and every row's value as a dot.

Lundberg and Lee 2017, "A unified approach to interpreting model predictions"; values are interventional, of as many
pairs of orders as use each reference row alike: see `aimass.explain.lpi.sampling`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import MOST_POINTS, Axis, Bars, Heat, Layer, Panel, Picture, Points, Rule, names_axis
from aimass.explain.gap.inference import error_of_mean, interval95
from aimass.explain.lpi.background import background_of
from aimass.explain.lpi.groups import groups_of
from aimass.explain.lpi.sampling import sampled_shapley
from aimass.explain.models import Model, Predict, asked, lineage_of
from aimass.explain.outputs import output_of, output_title
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import interval, number
from aimass.explain.work import Work

__all__ = ["ShapleySummary", "folded_excess", "shapley_summary"]

Floats = npt.NDArray[np.float64]
_NAMED: Final = 3
_SHOWN: Final = 15
_HEAT_CELLS: Final = 60
_GRAINS: Final = 120
_NOISE: Final = 0.05
"""More of a mean |value| than this must not come from having sampled too few orders."""
_ROUNDING: Final = 1e-6
SHOWS_NOT = (
    "A value is the feature's share in this model's answer against the background; it says nothing of whether the"
    " answer is right, nor of causes."
)


class ShapleySummary(Result, frozen=True, kw_only=True, eq=False, tag="gap.shapley"):
    """`values` [rows, features] are of single rows in the output's units, `cells` what these have (NaN of a group).

    Without `with_rows` each feature stands by itself, in the order of its values, so that nobody sees which of them are
    of one row; values are then to 1/120 of all their span, and cells are ranks in tenths.

    `mean` [features] of |values| with the 95 % interval over rows; the background counts as given.
    """

    output: str
    base: float
    background: str
    names: tuple[str, ...]
    values: Array
    cells: Array
    mean: Array
    low: Array
    high: Array
    with_rows: bool = True

    @property
    def rows_held(self) -> int:
        """Those that are dots."""
        return len(self.values)

    def order(self) -> list[int]:
        """The features, the strongest first."""
        return [int(place) for place in np.argsort(-self.mean, kind="stable")]

    def describe(self) -> tuple[str, ...]:
        """What moves predictions most."""
        told = [
            f"{self.names[place]} by {number(self.mean[place])} ({interval(self.low[place], self.high[place])})"
            for place in self.order()[:_NAMED]
            if self.mean[place] > 0
        ]
        if not told:
            return (f"No feature moves the {self.output}.",)
        return (f"On average a row's {self.output} is moved, against {self.background}, most by {'; '.join(told)}.",)

    def picture(self) -> Picture:
        """Means with whiskers, and beside them each row as a dot."""
        shown = self.order()[:_SHOWN]
        names = names_axis(tuple(self.names[place] for place in shown))
        at = np.array(shown, np.int64)
        says = tuple(f"{self.names[p]}: {number(self.mean[p])} ({interval(self.low[p], self.high[p])})" for p in shown)
        many = len(self.values) * len(shown) > MOST_POINTS
        bars = Bars(np.arange(len(at)), self.mean[at], self.low[at], self.high[at], says=says)
        return Picture(
            f"What moves the {self.output}",
            (
                Panel("On average", Axis("mean |Shapley value|"), names, (bars,), width=260),
                Panel(
                    "All rows" if many else "Each row a dot",
                    Axis("Shapley value"),
                    names,
                    (Rule(0.0), *([self._heat(shown)] if many else self._dots(shown))),
                    width=420,
                ),
            ),
            ("A cell holds rows whose prediction" if many else "A dot is a row, whose prediction")
            + " the feature moved so far; its colour is the feature's rank among the rows. Lines are 95 % intervals.",
            SHOWS_NOT,
            columns=2,
        )

    def _dots(self, shown: list[int]) -> tuple[Layer, ...]:
        """Known cells shaded by rank, missing and grouped ones plain."""
        x, y, shade = [], [], []
        for row, place in enumerate(shown):
            x.append(self.values[:, place])
            y.append(row + swarm(self.values[:, place]))
            shade.append(_shade(self.cells[:, place]))
        across, down, shades = (np.concatenate(part) if part else np.zeros(0) for part in (x, y, shade))
        known = ~np.isnan(shades)
        plain = Points(across[~known], down[~known], "quiet", series="missing, or several columns", size=14)
        coloured = Points(
            across[known], down[known], shade=shades[known], shade_title="rank of the value, low to high", size=14
        )
        return tuple(layer for layer in (plain, coloured) if len(layer.x))

    def _heat(self, shown: list[int]) -> Heat:
        """A row a feature, cut along the values; empty where no row with a known cell lies."""
        edges = np.linspace(self.values.min(), max(self.values.max(), self.values.min() + 1e-12), _HEAT_CELLS + 1)
        found = np.full((len(shown), _HEAT_CELLS), np.nan)
        for row, place in enumerate(shown):
            shade = _shade(self.cells[:, place])
            known = ~np.isnan(shade)
            at = np.clip(np.searchsorted(edges, self.values[known, place], side="right") - 1, 0, _HEAT_CELLS - 1)
            counts = np.bincount(at, minlength=_HEAT_CELLS)
            sums = np.bincount(at, shade[known], minlength=_HEAT_CELLS)
            found[row] = np.divide(sums, counts, out=found[row], where=counts > 0)
        return Heat(edges, np.arange(len(shown) + 1) - 0.5, found, "mean rank of the value", domain=(0.0, 1.0))

    def to_columns(self) -> Columns:
        """A row a feature."""
        return {
            "feature": self.names,
            "mean_absolute_value": self.mean.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


def shapley_summary(
    model: Model,
    rows: Rows,
    work: Work,
    *,
    background: Rows | None = None,
    groups: tuple[str, ...] = (),
    output: str = "",
    most_rows: int = 200,
    references: int = 100,
    with_rows: bool = True,
) -> ShapleySummary:
    """Of `most_rows` of the rows, drawn, against so many references of `background`, or of the rows themselves."""
    lineage, predict = lineage_of(model, rows, work), asked(model, work.muted())
    used = rows.take(work.rng("gap", "shapley").permutation(len(rows))[:most_rows])
    place = output_of(model, predict(used.values), output)
    against = background_of(rows if background is None else background, references, "sample", work)
    players = groups_of(rows, groups)
    found = sampled_shapley(
        _one(predict, place),
        used.values,
        against.values,
        pairs=max(2, len(against.values)),
        weights=against.weights,
        groups=[player.columns for player in players],
        work=work,
    )
    values = found.values[:, :, 0]
    noise = np.zeros_like(values) if found.errors is None else found.errors[:, :, 0]
    mean = np.abs(values).mean(axis=0)
    low, high = interval95(mean, error_of_mean(np.abs(values)), len(used))
    cells = _cells(used.values, [player.columns for player in players])
    shown, ranks = (values, cells) if with_rows else _apart(values, cells)
    return ShapleySummary(
        lineage=lineage,
        caveats=_caveats(rows, used, background, with_rows=with_rows),
        checks=_checks(values, noise, found.gap),
        output=output_title(model, place),
        base=float(found.base[0]),
        background=against.says,
        names=tuple(player.name for player in players),
        values=shown,
        cells=ranks,
        mean=mean,
        low=np.maximum(low, 0.0),
        high=high,
        with_rows=with_rows,
    )


def folded_excess(mean: Floats, error: Floats) -> Floats:
    """E|x| less |mean|, of a normal x with this mean and error (Leone, Nelson and Nottingham 1961)."""
    ratio = np.abs(mean) / np.where(error > 0, error, 1.0)
    tail = np.array([math.erfc(value / math.sqrt(2)) for value in ratio.ravel()]).reshape(ratio.shape)
    found: Floats = error * (math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) - ratio * tail)
    return np.where(error > 0, found, 0.0)


def swarm(values: Floats, cells: int = 60) -> Floats:
    """How far off its line each dot stands, within 0.4: the more others are near, the further."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(len(values))
    place = np.minimum(((values - low) / (high - low) * cells).astype(np.int64), cells - 1)
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=cells)
    nth = np.empty(len(values), np.int64)
    nth[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    side = np.where(nth % 2 == 0, 1.0, -1.0) * ((nth + 1) // 2)
    found: Floats = 0.4 * side / max(1.0, (counts.max() + 1) // 2)
    return found


def _one(predict: Predict, place: int) -> Predict:
    return lambda values: predict(values)[:, place : place + 1]


def _cells(values: Floats, groups: list[tuple[int, ...]]) -> Floats:
    single = [values[:, group[0]] if len(group) == 1 else np.full(len(values), np.nan) for group in groups]
    return np.stack(single, axis=1)


def _shade(cells: Floats) -> Floats:
    """Ranks from 0 to 1, NaN where a cell is missing."""
    known = ~np.isnan(cells)
    found = np.full(len(cells), np.nan)
    distinct, places = np.unique(cells[known], return_inverse=True)
    found[known] = places / max(len(distinct) - 1, 1)
    return found


def _apart(values: Floats, cells: Floats) -> tuple[Floats, Floats]:
    """Values and ranks of each feature by themselves, rounded and in order: no two are known to be of one row."""
    grain = float(np.ptp(values)) / _GRAINS or 1.0
    rough: Floats = np.round(values / grain) * grain
    tenths: Floats = np.round(np.stack([_shade(column) for column in cells.T], axis=1) * 10) / 10
    order = np.lexsort((tenths, rough), axis=0)
    return np.take_along_axis(rough, order, axis=0), np.take_along_axis(tenths, order, axis=0)


def _checks(values: Floats, noise: Floats, gap: float) -> tuple[Check, ...]:
    whole = float(np.abs(values).sum())
    excess = float(folded_excess(values, noise).sum())
    return (
        Check(name="efficiency", error=gap, limit=_ROUNDING, says="Values do not sum to the predictions."),
        Check(
            name="orders",
            error=excess / whole if whole else 0.0,
            limit=_NOISE,
            says="This share of the mean |values| comes from sampled orders: take more references.",
        ),
    )


def _caveats(rows: Rows, used: Rows, background: Rows | None, *, with_rows: bool) -> tuple[str, ...]:
    holds = (
        f"The cells of {len(used):,} single rows stand in it: keep it as you keep the rows."
        if with_rows
        else f"The dots are of {len(used):,} single rows, rounded and each feature by itself: keep it with care."
    )
    said = [SHOWS_NOT, holds]
    if len(used) < len(rows):
        said.append(f"The Shapley values are of {len(used):,} of {len(rows):,} rows, drawn.")
    if background is None:
        said.append("The background is of the explained rows themselves, and counts as given.")
    return tuple(said)
