"""The nearest row that the model would decide otherwise: few features changed, to values that were seen."""

from __future__ import annotations

from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Points, Rule, names_axis
from aimass.explain.lpi.cells import alike, cells_of, written
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.goals import Goal, goal_of
from aimass.explain.lpi.nearest import Search, changed_groups, nearest
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.lpi.scale import Scale, axis_title, change, level
from aimass.explain.models import Model, asked
from aimass.explain.results import Array, Check, Columns, Part, Result
from aimass.explain.rows import Rows
from aimass.explain.words import joined, label, number
from aimass.explain.work import Work

__all__ = ["Counterfactual", "Way", "counterfactual", "sought"]

SHOWS_NOT: Final = (
    "What the model would say of such a row, not what would happen if somebody were changed: features that go together "
    "in people are changed alone here."
)


class Way(Part, frozen=True, kw_only=True, eq=False):
    """Changes of one row that reach the goal: `names` [k], cells `before` and `after` [k].

    `changes` are the same as `changes_of` reads them, a column each. `path` [k + 1] is the prediction as the changes
    are made one after another, the largest first. `distance` sums the changes: of a number in widths of its observed
    range, of a category 1.
    """

    names: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    changes: tuple[str, ...]
    path: Array
    distance: float

    def told(self) -> str:
        """As a person would say it."""
        steps = zip(self.names, self.before, self.after, strict=True)
        return joined([f"{name} {after} instead of {before}" for name, before, after in steps])


class Counterfactual(Result, frozen=True, kw_only=True, eq=False, tag="lpi.counterfactual"):
    """`ways` reach the goal with as few changes as any that was found, the nearest first; empty where none did."""

    row: int
    output: str
    scale: Scale
    goal: str
    said: float
    ways: tuple[Way, ...]
    kept: tuple[str, ...]
    search: str
    asked: int

    @property
    def rows_held(self) -> int:
        """The one whose cells change."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """The nearest way, others, and what was searched."""
        title = axis_title(self.output, self.scale)
        if not self.ways:
            return (f"No row was found for which {self.goal}: {self.search}",)
        first, *others = self.ways
        lines = [
            (
                f"{self.goal[0].upper()}{self.goal[1:]} with {first.told()}: the {title} goes from "
                f"{level(self.said, self.scale)} to {level(float(first.path[-1]), self.scale)}."
            )
        ]
        lines += [f"Or with {way.told()}." for way in others]
        held = f" {joined(self.kept)} had to stay." if self.kept else ""
        return (*lines, f"Searched: {self.search}{held}")

    def picture(self) -> Picture:
        """A panel for each way: the prediction as one change follows another."""
        panels = tuple(self._panel(way, place) for place, way in enumerate(self.ways)) or (self._none(),)
        return Picture(
            f"The nearest row for which {self.goal}",
            panels,
            "From the row as it is: each bar is what one change does, made after those above it.",
            SHOWS_NOT,
        )

    def _panel(self, way: Way, place: int) -> Panel:
        steps = np.diff(way.path)
        names = tuple(
            label(name, f": {before} → {after}")
            for name, before, after in zip(way.names, way.before, way.after, strict=True)
        )
        bars = Bars(
            np.arange(1, len(steps) + 1),
            way.path[1:],
            begin=way.path[:-1],
            colours=tuple("more" if step > 0 else "less" for step in steps),
            says=tuple(f"{n}: {change(float(s), self.scale)}" for n, s in zip(names, steps, strict=True)),
        )
        ends = Points(way.path[[0, -1]], np.array([0, len(steps) + 1]), "quiet", size=90)
        first, last = level(self.said, self.scale), level(float(way.path[-1]), self.scale)
        axis = names_axis((f"as it is: {first}", *names, f"then: {last}"))
        title = f"{'Nearest' if place == 0 else 'Another'}: distance {number(way.distance, 2)}"
        room = 0.04 * float(np.ptp(way.path)) or 0.5
        domain = (float(way.path.min()) - room, float(way.path.max()) + room)
        return Panel(title, Axis(axis_title(self.output, self.scale), domain=domain), axis, (bars, ends))

    def _none(self) -> Panel:
        layer = Points(np.array([self.said]), np.array([0]), "quiet", size=90)
        axis = names_axis((f"as it is: {level(self.said, self.scale)}; none found",))
        return Panel("", Axis(axis_title(self.output, self.scale)), axis, (layer, Rule(self.said)))

    def to_columns(self) -> Columns:
        """A line a change."""
        rows = [
            (place + 1, name, before, after, way.distance, float(way.path[-1]))
            for place, way in enumerate(self.ways)
            for name, before, after in zip(way.names, way.before, way.after, strict=True)
        ]
        titles = ("way", "feature", "before", "after", "distance", "prediction")
        return {title: [row[place] for row in rows] for place, title in enumerate(titles)}


def sought(model: Model, game: Game, rows: Rows, options: LpiOptions, work: Work) -> Counterfactual:
    """The nearest other rows as options ask for them: to another label, or to a level that is named."""
    said = asked(model, work)(cells_of(rows, options.row)[None])[0]
    goal = goal_of(model, said, options.target, game.output)
    return counterfactual(model, game, rows, options.row, goal, Search(options.immutable, options.most_changes), work)


def counterfactual(
    model: Model, game: Game, rows: Rows, row: int, goal: Goal, search: Search, work: Work
) -> Counterfactual:
    """The rows nearest to row `row` that reach `goal`, among those that `search` goes through; the model verifies them.

    Fewer changes come before smaller ones.
    """
    cells = cells_of(rows, row)
    predict = asked(model, work)
    found = nearest(predict, game, cells, goal, search, work)
    ways = []
    for one, distance in zip(found.rows, found.distances, strict=True):
        order, path = _path(game, cells, one)
        told = [game.groups[p].changed(game.features, cells, one) for p in order]
        ways.append(
            Way(
                names=tuple(game.groups[p].name for p in order),
                before=tuple(before for before, _ in told),
                after=tuple(after for _, after in told),
                changes=tuple(
                    written(game.features[column], float(one[column]))
                    for p in order
                    for column in game.groups[p].columns
                    if not alike(one[column : column + 1], cells[column]).all()
                ),
                path=path,
                distance=distance,
            )
        )
    reached = goal.margin(predict(np.array(found.rows))) if found.rows else np.ones(1)
    return Counterfactual(
        lineage=game.lineage,
        row=row,
        output=game.output,
        scale=game.scale,
        goal=goal.says,
        said=float(game.predict(cells[None])[0, 0]),
        ways=tuple(ways),
        kept=search.immutable,
        search=found.says,
        asked=found.asked,
        checks=(
            Check(
                name="The model says of each row found what the goal asks",
                error=float((reached <= 0).sum()),
                limit=0.0,
                says="The model may answer the same rows in different ways.",
            ),
        ),
    )


def _path(game: Game, cells: Array, one: Array) -> tuple[list[int], Array]:
    """The changed groups, each next the one that moves the prediction most, and the prediction after each."""
    left, order, now = changed_groups(game, one, cells), list[int](), cells.copy()
    path = [float(game.predict(cells[None])[0, 0])]
    while left:
        tries = np.tile(now, (len(left), 1))
        for place, group in enumerate(left):
            columns = list(game.groups[group].columns)
            tries[place, columns] = one[columns]
        said = game.predict(tries)[:, 0]
        best = int(np.abs(said - path[-1]).argmax())
        now = tries[best]
        path.append(float(said[best]))
        order.append(left.pop(best))
    return order, np.array(path)
