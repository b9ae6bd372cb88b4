"""What if: some cells of a row are changed, and prediction and values move."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from aimass.explain.charts.picture import Axis, Panel, Picture, Points, Rule, Spans, names_axis
from aimass.explain.lpi.attribution import SHOWS_NOT, Attribution, attribution
from aimass.explain.lpi.cells import alike, cells_of
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.groups import Group
from aimass.explain.lpi.scale import axis_title, change, level
from aimass.explain.results import Array, Columns, Result
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import joined, label
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["WhatIf", "what_if"]

_MOST_SHOWN = 14


class WhatIf(Result, frozen=True, kw_only=True, eq=False, tag="lpi.what_if"):
    """`before` is the row as it is, `after` with the changes, each of which is told in `changes`."""

    before: Attribution
    after: Attribution
    changes: tuple[str, ...]

    @property
    def rows_held(self) -> int:
        """The one whose cells change."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """Where the prediction goes, and which values move most."""
        before, after = self.before, self.after
        moves = after.values - before.values
        most = [place for place in np.argsort(-np.abs(moves), kind="stable")[:3] if moves[place] != 0]
        lines = [
            (
                f"With {joined(self.changes)} the {axis_title(after.output, after.scale)} of row {after.row + 1} would "
                f"be {level(after.said, after.scale)} instead of {level(before.said, before.scale)}."
            )
        ]
        if most:
            told = [
                f"{before.names[p]} from {change(before.values[p], before.scale).removesuffix(' points')} to "
                f"{change(after.values[p], after.scale)}"
                for p in most
            ]
            lines.append(f"The values that move most: {'; '.join(told)}.")
        return tuple(lines)

    def picture(self) -> Picture:
        """For each feature its value before, and after at the other end of a line."""
        before, after = self.before, self.after
        size = np.maximum(np.abs(before.values), np.abs(after.values))
        shown = np.argsort(-size, kind="stable")[:_MOST_SHOWN]
        at = np.arange(len(shown))
        one, other = before.values[shown], after.values[shown]
        names = tuple(
            label(before.names[p], f" = {before.cells[p]}")
            if before.cells[p] == after.cells[p]
            else label(before.names[p], f": {before.cells[p]} → {after.cells[p]}")
            for p in shown
        )
        layers = (
            Rule(0.0),
            Spans(at, other, np.minimum(one, other), np.maximum(one, other), "series:1", "with the changes"),
            Points(one, at, "series:0", "as it is", size=70),
        )
        moved = f"{level(before.said, before.scale)} as it is, {level(after.said, after.scale)} with the changes"
        return Picture(
            "What if",
            (
                Panel(
                    moved,
                    Axis(f"value: {axis_title(after.output, after.scale)}, less the average"),
                    names_axis(names),
                    layers,
                ),
            ),
            "Each feature's value before and after the changes; the line between is how far it moves.",
            f"It is what the model would say, were the row like this. {SHOWS_NOT}",
        )

    def to_columns(self) -> Columns:
        """A line a feature, before and after."""
        return {
            "feature": self.before.names,
            "cell_before": self.before.cells,
            "cell_after": self.after.cells,
            "value_before": self.before.values.tolist(),
            "value_after": self.after.values.tolist(),
        }


def what_if(game: Game, rows: Rows, row: int, changes: Mapping[int, float], work: Work) -> WhatIf:
    """`changes` are cells by column, see `changes_of`; the rest of the row stays, the background too.

    Raises `BadInput` where nothing changes.
    """
    cells = cells_of(rows, row)
    columns = [
        column for column, cell in changes.items() if not alike(cells[column : column + 1], np.float64(cell)).all()
    ]
    if not columns:
        raise BadInput("nothing is changed", code="explain.what_if", cure="Say another value than the row has.")
    values = rows.values.copy()
    values[row, columns] = [changes[column] for column in columns]
    before = attribution(game, rows, row, work.part(0.0, 0.5))
    after = attribution(game, dataclasses.replace(rows, values=values), row, work.part(0.5, 1.0))
    told = [f"{rows.features[c].name} {Group('', (c,)).changed(rows.features, cells, values[row])[1]}" for c in columns]
    odd = [_outside(rows.features[c], changes[c], game.reference.values[:, c]) for c in columns]
    return WhatIf(
        lineage=game.lineage,
        before=before,
        after=after,
        changes=tuple(told),
        caveats=(*after.caveats, *filter(None, odd)),
        checks=after.checks,
    )


def _outside(feature: Feature, cell: float, seen: Array) -> str:
    """Whether a changed cell lies where no row was seen."""
    known = seen[~np.isnan(seen)]
    if np.isnan(cell) or not len(known) or (feature.kind == "number" and known.min() <= cell <= known.max()):
        return ""
    if feature.kind == "category" and cell in known:
        return ""
    return f"{feature.name} {feature.told(cell)} lies outside of what was seen: what the model says there is a guess."
