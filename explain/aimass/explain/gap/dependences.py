"""How the mean prediction depends on each feature, and how far single rows go their own way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aimass.explain.association import clusters
from aimass.explain.charts.picture import Axis, Band, Layer, Line, Panel, Picture, Points, Rule, Spans, names_axis
from aimass.explain.gap.dependence import Curves, individual_curves, value_grid
from aimass.explain.gap.effects import usable
from aimass.explain.gap.inference import interval95
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.outputs import output_of, output_title
from aimass.explain.results import Array, Check, Columns, Part, Result
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import interval, joined, number, percent
from aimass.explain.work import Work

__all__ = ["Dependence", "Dependences", "dependences"]

_WIDE = 320
_TOGETHER = 5
"""Rows behind a thin line that is no row's own."""
_COARSE = 0.1
"""Of the predictions' spread: by so much at most the curves may miss what the model says of the rows themselves."""
SHOWS_NOT = (
    "Partial dependence asks the model of rows that nobody has, where features go together; it says nothing of what"
    " would happen in the world."
)


class Dependence(Part, frozen=True, kw_only=True, eq=False):
    """Of one feature, at cells `at` [k]: `mean`, `low`, `high` [k] over all rows, and `lines` [few, k] of single ones.

    `missing` is the mean with its interval where the feature is missing; None if no row lacks it, or nobody asked.
    `below` and `above` [k] hold the middle 80 % of the rows' curves less their first value; `centred` [k] is their mean
    with `centred_low` and `centred_high`. `against` is the share of rows whose curve goes the other way than the mean.
    """

    feature: Feature
    at: Array
    mean: Array
    low: Array
    high: Array
    lines: Array
    centred: Array
    centred_low: Array
    centred_high: Array
    below: Array
    above: Array
    against: float
    missing: tuple[float, float, float] | None = None

    @property
    def range(self) -> float:
        """From the mean's lowest to its highest."""
        return float(self.mean.max() - self.mean.min())


class Dependences(Result, frozen=True, kw_only=True, eq=False, tag="gap.dependence"):
    """Curves of several features; `used` rows are behind each of them.

    Each of a curve's `lines` is the mean of at least `together` rows that are alike; of one it is a row's own.
    """

    output: str
    used: int
    curves: tuple[Dependence, ...]
    left_out: tuple[str, ...] = ()
    together: int = 1

    @property
    def rows_held(self) -> int:
        """Those that have a curve of their own."""
        return max((len(one.lines) for one in self.curves), default=0) if self.together == 1 else 0

    def describe(self) -> tuple[str, ...]:
        """A sentence a feature, the widest first."""
        lines = []
        for one in sorted(self.curves, key=lambda curve: -curve.range):
            low, high = int(one.mean.argmin()), int(one.mean.argmax())
            if one.range == 0.0:
                lines.append(f"On average the {self.output} does not depend on {one.feature.name}.")
                continue
            told = [
                f"{number(one.mean[place])} ({interval(one.low[place], one.high[place])})"
                f" at {one.feature.name} {one.feature.told(float(one.at[place]))}"
                for place in (low, high)
            ]
            own = f"; {percent(one.against)} of rows go the other way" if one.against >= 0.005 else ""
            lines.append(f"The mean {self.output} is {told[0]} and {told[1]}{own}.")
            if one.missing is not None:
                ends = interval(one.missing[1], one.missing[2])
                lines.append(f"Where {one.feature.name} is missing it is {number(one.missing[0])} ({ends}).")
        return tuple(lines)

    def picture(self) -> Picture:
        """Two panels a feature: the predictions, and how far each row's moves from where its curve begins."""
        return Picture(
            f"How the mean {self.output} depends on each feature",
            tuple(panel for one in self.curves for panel in (_panel(one, self.output), _centred(one))),
            f"Thick: the mean over rows with its 95 % interval; thin: {self._thin()}. Right: moves from where each"
            " curve begins, with 80 % of rows.",
            SHOWS_NOT,
            columns=2,
        )

    def _thin(self) -> str:
        return "single rows" if self.together == 1 else f"at least {self.together} rows whose curves are alike"

    def to_columns(self) -> Columns:
        """A row a cell of each curve, and one where the feature is missing."""
        known = ("mean", "low", "high")
        moved = ("centred", "centred_low", "centred_high", "below", "above")
        table: dict[str, list[object]] = {name: [] for name in ("feature", "at", *known, *moved)}
        for one in self.curves:
            lacking = one.missing or ()
            cells = [one.feature.told(cell) if one.feature.kind == "category" else cell for cell in one.at.tolist()]
            table["at"] += [*cells, "missing"] if lacking else cells
            table["feature"] += [one.feature.name] * (len(cells) + bool(lacking))
            for place, name in enumerate(known):
                table[name] += [*getattr(one, name).tolist(), *lacking[place : place + 1]]
            for name in moved:
                table[name] += [*getattr(one, name).tolist(), *([""] if lacking else [])]
        return table


def dependences(
    model: Model,
    rows: Rows,
    work: Work,
    *,
    features: Sequence[str] = (),
    output: str = "",
    points: int = 20,
    most_rows: int = 1_000,
    lines: int = 50,
    correlated: float = 0.7,
    with_rows: bool = True,
) -> Dependences:
    """Of `features`, or of all that have two values, over `most_rows` of the rows, drawn; `lines` of them are drawn.

    Without `with_rows` no line is a single row's: each is the mean of several that are alike.
    """
    lineage, predict = lineage_of(model, rows, work), asked(model, work.muted())
    drawn = work.rng("gap", "dependence").permutation(len(rows))[:most_rows]
    used = rows.take(drawn)
    said = predict(used.values)
    place = output_of(model, said, output)
    wanted = tuple(features) or tuple(feature.name for feature in rows.features)
    curves, missed, left = [], [0.0], []
    for name, part in work.parts(wanted):
        column = rows.place(name)
        if not usable(rows, column):
            left.append(name)
            continue
        at = value_grid(rows, column, points)
        each = individual_curves(asked(model, part.muted()), used.values, column, at, place).each
        lacking = individual_curves(predict, used.values, column, _lacking(rows, column), place)
        kept = _own if with_rows else _alike
        curves.append(_dependence(rows.features[column], Curves(at, each), lacking, kept(each, lines)))
        if rows.features[column].kind == "number":
            missed.append(_missed(at, each, used.values[:, column], said[:, place]))
    return Dependences(
        lineage=lineage,
        output=output_title(model, place),
        used=len(used),
        curves=tuple(curves),
        left_out=tuple(left),
        together=1 if with_rows else _TOGETHER,
        caveats=_held(min(lines, len(used)), with_rows=with_rows) + _caveats(rows, wanted, left, len(used), correlated),
        checks=(
            Check(
                name="grid",
                error=max(missed),
                limit=_COARSE,
                says="By this share of the predictions' spread the curves miss the rows themselves: take more points.",
            ),
        ),
    )


def _lacking(rows: Rows, column: int) -> Array:
    """The missing cell, where some row has one."""
    return np.full(1 if np.isnan(rows.values[:, column]).any() else 0, np.nan)


def _dependence(feature: Feature, found: Curves, lacking: Curves, lines: Array) -> Dependence:
    at, each = found.at, found.each
    moved = Curves(at, found.centred)
    low, high = interval95(found.mean, found.error, len(each))
    centred_low, centred_high = interval95(moved.mean, moved.error, len(each))
    below, above = np.quantile(moved.each, [0.1, 0.9], axis=0)
    whole = moved.mean[-1]
    return Dependence(
        feature=feature,
        at=at,
        mean=found.mean,
        low=low,
        high=high,
        lines=lines,
        centred=moved.mean,
        centred_low=centred_low,
        centred_high=centred_high,
        below=below,
        above=above,
        missing=_mean_where_missing(lacking),
        against=float((moved.each[:, -1] * np.sign(whole) < 0).mean()),
    )


def _own(each: Array, lines: int) -> Array:
    return each[:lines].copy()


def _alike(each: Array, lines: int) -> Array:
    """Means of at least `_TOGETHER` curves, by their level and then by how far they move; none of too few."""
    parts = min(lines, len(each) // _TOGETHER)
    if parts < 1:
        return each[:0].copy()
    levels = max(1, int(parts**0.5))
    moved = each[:, -1] - each[:, 0]
    groups = [
        part
        for level in np.array_split(np.argsort(each.mean(axis=1), kind="stable"), levels)
        for part in np.array_split(level[np.argsort(moved[level], kind="stable")], parts // levels)
    ]
    return np.stack([each[part].mean(axis=0) for part in groups])


def _held(rows: int, *, with_rows: bool) -> tuple[str, ...]:
    if not (rows and with_rows):
        return ()
    return (f"The curves of {rows:,} single rows stand in it: keep it as you keep the rows.",)


def _mean_where_missing(lacking: Curves) -> tuple[float, float, float] | None:
    if not len(lacking.at):
        return None
    low, high = interval95(lacking.mean, lacking.error, len(lacking.each))
    return float(lacking.mean[0]), float(low[0]), float(high[0])


def _missed(at: Array, each: Array, cells: Array, said: Array) -> float:
    """The root mean square by which curves read at the rows' own cells miss the predictions, over their deviation."""
    known = ~np.isnan(cells)
    spread = float(said.std())
    if not known.any() or spread == 0.0:
        return 0.0
    read = np.array([np.interp(cell, at, curve) for cell, curve in zip(cells[known], each[known], strict=True)])
    return float(np.sqrt(((read - said[known]) ** 2).mean())) / spread


def _caveats(rows: Rows, wanted: tuple[str, ...], left: list[str], used: int, correlated: float) -> tuple[str, ...]:
    said = [SHOWS_NOT]
    if used < len(rows):
        said.append(f"The curves are over {used:,} of {len(rows):,} rows, drawn.")
    said += [f"{name} is the same wherever it is known: it has no curve." for name in left]
    for group in clusters(rows, correlated):
        names = [rows.features[place].name for place in group]
        if set(names) & set(wanted):
            said.append(f"{joined(names)} go together: trust their accumulated local effects more than these curves.")
    return tuple(said)


def _panel(one: Dependence, output: str) -> Panel:
    if one.feature.kind == "category":
        return _means(one, output)
    layers: tuple[Layer, ...] = (
        *(Line(one.at, line, "quiet", faint=True) for line in one.lines),
        Band(one.at, one.low, one.high),
        Line(one.at, one.mean),
        Points(one.at, one.mean, size=12),
        *(() if one.missing is None else (Rule(one.missing[0], "y", "mean where it is missing", "warn"),)),
    )
    return Panel(one.feature.name, Axis(one.feature.title), Axis(output), layers, width=_WIDE, height=200)


def _centred(one: Dependence) -> Panel:
    if one.feature.kind == "category":
        return _spans(one, _words(one), one.centred, one.below, one.above, "move from the first, and 80 % of rows")
    layers: tuple[Layer, ...] = (
        Band(one.at, one.below, one.above, "quiet"),
        *(Line(one.at, line - line[0], "quiet", faint=True) for line in one.lines),
        Line(one.at, one.centred),
    )
    return Panel(
        f"{one.feature.name}, from where it begins",
        Axis(one.feature.title),
        Axis("move"),
        layers,
        width=_WIDE,
        height=200,
    )


def _means(one: Dependence, output: str) -> Panel:
    """A category's values, and below them where it is missing."""
    lacking = () if one.missing is None else (one.missing,)
    ends = [np.append(part, [m[place] for m in lacking]) for place, part in enumerate((one.mean, one.low, one.high))]
    return _spans(one, _words(one) + ("missing",) * len(lacking), ends[0], ends[1], ends[2], output)


def _words(one: Dependence) -> tuple[str, ...]:
    return tuple(one.feature.told(float(cell)) for cell in one.at)


def _spans(one: Dependence, names: tuple[str, ...], value: Array, low: Array, high: Array, title: str) -> Panel:
    says = tuple(f"{name}: {number(mean)}" for name, mean in zip(names, value, strict=True))
    spans = Spans(np.arange(len(names)), value, low, high, says=says)
    begin, end = min(float(low.min()), float(value.min())), max(float(high.max()), float(value.max()))
    room = 0.05 * (end - begin) or 0.05  # a dot at the edge would lie on the names
    axis = Axis(title, domain=(begin - room, end + room))
    return Panel(one.feature.title, axis, names_axis(names), (spans,), width=_WIDE)
