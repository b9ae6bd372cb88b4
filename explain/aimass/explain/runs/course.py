"""How a run went: each metric after each round, with the fan over those partners that release theirs."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Band, Layer, Line, Panel, Picture, Points
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import Curve, curves, lineage_of_run, thinned
from aimass.explain.words import joined, number
from aimass.proto.errors import BadInput
from aimass.proto.views import RunView

__all__ = ["Course", "course"]

_MOST_SHOWN: Final = 1_000
"""Rounds that a line is drawn through; of more, those at which it turns."""
_MOST_LINES: Final = 6
"""Partners that have a line each; more are a band from their 5 % to their 95 %."""
_NOT_SHOWN: Final = (
    "A metric over the cohort is weighted by rows: it hides a partner at which the model does badly, unless that "
    "partner releases its own figure."
)


class Course(Result, frozen=True, kw_only=True, eq=False, tag="runs.course"):
    """The curves of a run, in the order in which they first appear."""

    curves: tuple[Curve, ...]
    rounds_planned: int

    def only(self, metric: str) -> Course:
        """The same of one metric; raises `BadInput` for one that the run has not."""
        chosen = tuple(curve for curve in self.curves if curve.name == metric)
        if not chosen:
            names = ", ".join(curve.name for curve in self.curves) or "no metric"
            raise BadInput("the run has no such metric", code="explain.metric", value=metric, limit=names)
        return msgspec.structs.replace(self, curves=chosen)

    def describe(self) -> tuple[str, ...]:
        """First and last value of each metric, where it was best, how far its partners lie apart."""
        if not self.curves:
            return ("This run measured nothing: its plan has no evaluation, or no step of it has ended yet.",)
        return tuple(_said(curve) for curve in self.curves)

    def picture(self) -> Picture:
        """A panel a metric."""
        return Picture(
            "Course of the run",
            tuple(_panel(curve) for curve in self.curves)
            or (Panel("no metric yet", Axis("round", whole=True), Axis(""), ()),),
            "The line is the mean over all held-out rows after each round"
            + ("; the others, or the band, are partners." if any(curve.partners for curve in self.curves) else "."),
            _NOT_SHOWN,
            columns=2,
        )

    def to_columns(self) -> Columns:
        """A row a metric and round; `partner` is empty for the whole cohort."""
        rows = [row for curve in self.curves for row in _rows(curve)]
        names = ("metric", "round", "partner", "value", "rows")
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def course(run: RunView) -> Course:
    """Of a run as its owner sees it, finished or not."""
    found = curves(run)
    hidden = [curve.name for curve in found if not curve.partners]
    caveats = [_NOT_SHOWN]
    if hidden:
        caveats.append(
            f"No partner releases its own figures of {joined(hidden)}: the spread over partners is not known."
        )
    # participants measure on rows that they keep aside, and on no others
    lineage = msgspec.structs.replace(lineage_of_run(run), held_out=True if found else None)
    return Course(lineage=lineage, curves=found, rounds_planned=run.summary.rounds, caveats=tuple(caveats))


def _said(curve: Curve) -> str:
    mean, rounds = curve.mean, curve.rounds
    if np.isnan(mean).all():
        return (
            f"{curve.name} was no number in any of {len(mean)} rounds: the training diverged, or nothing was measured."
        )
    if len(mean) == 1:
        text = f"{curve.name} was measured once: {number(mean[0])} after round {rounds[0]}"
    else:
        text = (
            f"{curve.name} went from {number(mean[0])} (round {rounds[0]}) to {number(mean[-1])} (round {rounds[-1]})"
        )
        text += f"; lowest {_at(curve, int(np.nanargmin(mean)))}, highest {_at(curve, int(np.nanargmax(mean)))}"
    last = curve.by_partner[:, -1] if curve.partners else np.empty(0)
    if (~np.isnan(last)).sum() > 1:
        text += f"; at {int((~np.isnan(last)).sum())} partners {number(np.nanmin(last))} to {number(np.nanmax(last))}"
    return text + "."


def _at(curve: Curve, place: int) -> str:
    return f"{number(curve.mean[place])} in round {curve.rounds[place]}"


def _panel(curve: Curve) -> Panel:
    kept = thinned(curve.mean, _MOST_SHOWN)
    rounds = curve.rounds[kept]
    layers: list[Layer] = []
    if 0 < len(curve.partners) <= _MOST_LINES:
        layers += [
            _drawn(rounds, values[kept], f"series:{place + 1}", name)
            for place, (name, values) in enumerate(zip(curve.partners, curve.by_partner, strict=True))
        ]
    elif curve.partners:
        low, high = _fan(curve.by_partner[:, kept])
        layers.append(Band(rounds, low, high, "series:0", "5 % to 95 % of partners"))
    layers.append(_drawn(rounds, curve.mean[kept], "series:0", "all held-out rows"))
    return Panel(curve.name, Axis("round", whole=True), Axis(curve.name), tuple(layers))


def _drawn(rounds: Array, values: Array, colour: str, name: str) -> Layer:
    """One value alone is no line: it would not be seen."""
    if len(rounds) == 1:
        return Points(rounds, values, colour, name, size=60)
    return Line(rounds, values, colour, name)


def _fan(by_partner: Array) -> tuple[Array, Array]:
    """Of [partners, rounds] the ends of nine tenths; NaN where no partner's figure is known."""
    known = ~np.isnan(by_partner).all(axis=0)
    ends = np.full((2, by_partner.shape[1]), np.nan)
    ends[:, known] = np.nanquantile(by_partner[:, known], (0.05, 0.95), axis=0)
    return ends[0], ends[1]


def _rows(curve: Curve) -> list[tuple[object, ...]]:
    whole: list[tuple[object, ...]] = [
        (curve.name, int(round_), "", float(mean), float(weight))
        for round_, mean, weight in zip(curve.rounds, curve.mean, curve.weight, strict=True)
    ]
    single: list[tuple[object, ...]] = [
        (curve.name, int(curve.rounds[place]), name, float(value), None)
        for name, values in zip(curve.partners, curve.by_partner, strict=True)
        for place, value in enumerate(values)
        if not np.isnan(value)
    ]
    return whole + single
