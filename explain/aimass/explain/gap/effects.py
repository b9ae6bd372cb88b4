"""How the prediction moves with each feature: accumulated local effects with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aimass.explain.charts.picture import Axis, Band, Layer, Line, Panel, Picture, Points, Rule, Spans, names_axis
from aimass.explain.gap.ale import Curve, accumulated_local_effects
from aimass.explain.gap.inference import interval95
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.outputs import output_of, output_title
from aimass.explain.results import Array, Check, Columns, Part, Result
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import interval, number
from aimass.explain.work import Work

__all__ = ["Effect", "Effects", "effects", "usable"]

_WIDE = 280
_FEW_BEHIND = 10
_COARSE = 0.1
"""Of the widest curve's range: half as many steps must not move a curve by more, where the rows are."""
SHOWS_NOT = (
    "An effect is of the model's answer, not of the world: changing the feature in reality need not change the outcome."
)


class Effect(Part, frozen=True, kw_only=True, eq=False):
    """The curve of one feature: `value`, `low` and `high` [k] at cells `at` [k], of mean 0 over the rows.

    `behind` [k - 1] rows are behind each step; `missing` rows lack the feature and are left out. `change` is from the
    first cell to the last.
    """

    feature: Feature
    at: Array
    value: Array
    low: Array
    high: Array
    behind: Array
    missing: int
    change: float
    change_low: float
    change_high: float

    @property
    def range(self) -> float:
        """From the curve's lowest to its highest."""
        return float(self.value.max() - self.value.min())


class Effects(Result, frozen=True, kw_only=True, eq=False, tag="gap.ale"):
    """Curves of several features in one output's units; `left_out` have fewer than two values."""

    output: str
    curves: tuple[Effect, ...]
    left_out: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        """A sentence a curve, the widest first."""
        lines = []
        for one in sorted(self.curves, key=lambda curve: -curve.range):
            lowest, highest = (int(place) for place in (one.value.argmin(), one.value.argmax()))
            if one.range == 0.0:
                lines.append(f"The {self.output} does not move with {one.feature.name}.")
            elif one.feature.kind == "number":
                ends = one.feature.told(float(one.at[0])), one.feature.told(float(one.at[-1]))
                lines.append(
                    f"From {one.feature.name} {ends[0]} to {ends[1]} the {self.output} moves by {number(one.change)}"
                    f" ({interval(one.change_low, one.change_high)})" + _bend(one, lowest, highest)
                )
            else:
                told = [
                    f"{one.feature.told(float(one.at[place]))} {number(one.value[place])}"
                    f" ({interval(one.low[place], one.high[place])})"
                    for place in (highest, lowest)
                ]
                lines.append(f"Of {one.feature.name}, {told[0]} has the highest {self.output}, {told[1]} the lowest.")
        return tuple(lines)

    def picture(self) -> Picture:
        """A panel a feature, in the order given, all over one range."""
        ends = [(float(one.low.min()), float(one.high.max())) for one in self.curves]
        low, high = min((e[0] for e in ends), default=-1.0), max((e[1] for e in ends), default=1.0)
        edge = 0.05 * (high - low) or 1.0
        scale = Axis("effect", domain=(low - edge, high + edge))
        return Picture(
            f"How the {self.output} moves with each feature",
            tuple(_panel(one, scale) for one in self.curves),
            "A curve is what the feature adds to the average (accumulated local effect); its band is the 95 % interval"
            " at each place; dots part the rows evenly.",
            SHOWS_NOT,
            columns=3,
        )

    def to_columns(self) -> Columns:
        """A row a cell of each curve."""
        rows = [(one, place) for one in self.curves for place in range(len(one.at))]
        return {
            "feature": [one.feature.name for one, _ in rows],
            "at": [_cell(one.feature, float(one.at[place])) for one, place in rows],
            "effect": [float(one.value[place]) for one, place in rows],
            "low": [float(one.low[place]) for one, place in rows],
            "high": [float(one.high[place]) for one, place in rows],
            "rows_behind": [int(one.behind[max(place - 1, 0)]) for one, place in rows],
        }


def effects(
    model: Model, rows: Rows, work: Work, *, features: Sequence[str] = (), output: str = "", steps: int = 20
) -> Effects:
    """Of `features`, or of all that have two values; a self-check takes half as many steps."""
    lineage, predict = lineage_of(model, rows, work), asked(model, work.muted())
    place = output_of(model, predict(rows.values), output)
    wanted = tuple(features) or tuple(feature.name for feature in rows.features)
    curves, coarse, left = [], [], []
    for name, part in work.parts(wanted):
        column = rows.place(name)
        if not usable(rows, column):
            left.append(name)
            continue
        known, told = asked(model, part.muted()), rows.features[column]
        curve = accumulated_local_effects(known, rows, column, place, steps=steps)
        curves.append(_effect(told, curve, int(np.isnan(rows.values[:, column]).sum())))
        if told.kind == "number" and len(curve.at) > 4:
            halved = np.append(curve.at[:-1:2], curve.at[-1])
            other = accumulated_local_effects(known, rows, column, place, edges=halved)
            coarse.append(float(np.sqrt(((other.value - curve.value[np.isin(curve.at, halved)]) ** 2).mean())))
    most = max((one.range for one in curves), default=0.0)
    return Effects(
        lineage=lineage,
        output=output_title(model, place),
        curves=tuple(curves),
        left_out=tuple(left),
        caveats=_caveats(curves, left),
        checks=(
            Check(
                name="steps",
                error=max(coarse, default=0.0) / most if most else 0.0,
                limit=_COARSE,
                says="A curve moves by this share of the widest one's range where it has half as many steps.",
            ),
        ),
    )


def usable(rows: Rows, column: int) -> bool:
    """Whether a feature has two values, so that there is something to move."""
    cells = rows.values[:, column]
    return len(np.unique(cells[~np.isnan(cells)])) > 1


def _effect(feature: Feature, curve: Curve, missing: int) -> Effect:
    low, high = interval95(curve.value, curve.error, len(curve.influence))
    ends = interval95(np.array(curve.change), np.array(curve.change_error), len(curve.influence))
    return Effect(
        feature=feature,
        at=curve.at,
        value=curve.value,
        low=low,
        high=high,
        behind=curve.behind,
        missing=missing,
        change=curve.change,
        change_low=float(ends[0]),
        change_high=float(ends[1]),
    )


def _caveats(curves: list[Effect], left: list[str]) -> tuple[str, ...]:
    said = [SHOWS_NOT]
    said += [f"{name} is the same wherever it is known: it has no curve." for name in left]
    said += [
        f"{one.feature.name} is missing in {one.missing:,} rows, which its curve leaves out."
        for one in curves
        if one.missing
    ]
    thin = [one.feature.name for one in curves if int(one.behind.min()) < _FEW_BEHIND]
    if thin:
        said.append(f"Fewer than {_FEW_BEHIND} rows are behind a step of {', '.join(thin)}: its interval is rough.")
    return tuple(said)


def _bend(one: Effect, lowest: int, highest: int) -> str:
    """Where the curve's extremes are, unless they are its ends."""
    inside = [place for place in (lowest, highest) if 0 < place < len(one.at) - 1]
    if not inside or one.range < 1.1 * abs(one.change):
        return "."
    low, high = (one.feature.told(float(one.at[place])) for place in (lowest, highest))
    return f"; it is lowest at {low} and highest at {high}."


def _panel(one: Effect, scale: Axis) -> Panel:
    if one.feature.kind == "category":
        names = tuple(one.feature.told(float(cell)) for cell in one.at)
        says = tuple(f"{name}: {number(value)}" for name, value in zip(names, one.value, strict=True))
        spans = Spans(np.arange(len(names)), one.value, one.low, one.high, says=says)
        return Panel(one.feature.title, scale, names_axis(names), (Rule(0.0), spans), width=_WIDE)
    layers: tuple[Layer, ...] = (
        Rule(0.0, along="y"),
        Band(one.at, one.low, one.high),
        Line(one.at, one.value),
        Points(one.at, one.value, size=12),
    )
    return Panel(one.feature.name, Axis(one.feature.title), scale, layers, width=_WIDE, height=180)


def _cell(feature: Feature, cell: float) -> object:
    return feature.told(cell) if feature.kind == "category" else cell
