"""Runs that none other beats at once in quality, privacy, bytes and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Layer, Line, Panel, Picture, Points
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.outcomes import Outcomes, matrix
from aimass.explain.words import joined, number

__all__ = ["Pareto", "front", "pareto"]

Floats = npt.NDArray[np.float64]
_ALONE: Final = 140.0
"""The size of a front's one point: seen around the dot of its run."""
_CAVEATS: Final = {
    "runs": "A run is one draw: which of two close ones is on the front may be chance. See the tied set.",
    "settings": (
        "A setting stands for the mean of its seeds: which of two close ones is on the front may be chance. See the "
        "tied set."
    ),
}


class Pareto(Result, frozen=True, kw_only=True, eq=False, tag="runs.pareto"):
    """Runs by what they came to. `goals` float64 [runs, goals] in the units of `names`, NaN where a run has none.

    `front` [runs] are those that no other is at least as good as in everything and better in something; None counts as
    worst. `settings` float64 [runs, varied] hold what they were set to; words are places in `words`. Of `settings` as
    `what`, `runs` are settings, each by the means over its seeds.
    """

    runs: tuple[str, ...]
    names: tuple[str, ...]
    higher: tuple[bool, ...]
    goals: Array
    front: Array
    varied: tuple[str, ...]
    settings: Array
    what: Literal["runs", "settings"] = "runs"

    def describe(self) -> tuple[str, ...]:
        """The runs of the front, with their figures."""
        places = np.flatnonzero(self.front)
        told = [f"{_short(self.runs[place])} ({self._figures(place)})" for place in places[:5]]
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        be = "is" if len(places) == 1 else "are"
        beaten = f"{len(places)} of {len(self.runs)} {self.what} {be} beaten by none in all of {joined(self.names)}"
        return f"{beaten}: {'; '.join(told)}{more}.", *self._best_in_both()

    def _figures(self, place: int) -> str:
        told = zip(self.names, self.goals[place], strict=True)
        return ", ".join(f"{name} {number(float(value))}" for name, value in told if not np.isnan(value))

    def picture(self) -> Picture:
        """Quality against each cost."""
        one = self.what[:-1]
        dots = Points(np.arange(len(self.runs), dtype=np.float64), self.goals[:, 0], "series:0", "run", says=self.runs)
        alone = Panel("no cost differs", Axis("run, in turn", whole=True), Axis(self.names[0]), (dots,))
        return Picture(
            "What quality cost",
            tuple(self._against(cost) for cost in self._costs()) or (alone,),
            f"A dot is a {one}, the line the front: no {one} is better and costs less. Where one {one} is best in both "
            "a large dot around it is the front.",
            _CAVEATS[self.what],
            columns=2,
        )

    def _against(self, cost: int) -> Panel:
        x, y, one = self.goals[:, cost], self.goals[:, 0], self.what[:-1]
        drawn = self._front(cost) & ~np.isnan(x) & ~np.isnan(y)
        order = np.flatnonzero(drawn)[np.argsort(x[drawn], kind="stable")]
        along: tuple[Layer, ...] = (Line(x[order], y[order], "series:1", "front", steps=True),)
        if len(np.unique(x[order])) < 2:  # a line of one point is not seen
            says = tuple(self.runs[place] for place in order)
            along = (Points(x[order], y[order], "series:1", "front", size=_ALONE, says=says),) if len(order) else ()
        dots = Points(x, y, "series:0", one, says=self.runs)
        return Panel(
            f"{self.names[0]} against {self.names[cost]}", Axis(self.names[cost]), Axis(self.names[0]), (*along, dots)
        )

    def _front(self, cost: int) -> npt.NDArray[np.bool_]:
        """Of quality and this cost alone."""
        return front(self.goals[:, [0, cost]], (self.higher[0], self.higher[cost]))

    def _costs(self) -> list[int]:
        """The goals that a panel holds quality against: those in which runs differ."""
        return [cost for cost in range(1, len(self.names)) if len(np.unique(_known(self.goals[:, cost]))) > 1]

    def _best_in_both(self) -> tuple[str, ...]:
        """A sentence for each run that beats all others in quality and in some costs, each by itself."""
        found: dict[int, list[str]] = {}
        for cost in self._costs():
            on = np.flatnonzero(self._front(cost))
            if len(on) == 1:
                found.setdefault(int(on[0]), []).append(self.names[cost])
        one = self.what[:-1]
        return tuple(
            f"Against {joined(costs)} the front is one {one}: {_short(self.runs[place])} is best in "
            f"{self.names[0]} and in {'that' if len(costs) == 1 else 'each of these'}."
            for place, costs in found.items()
        )

    def to_columns(self) -> Columns:
        """A row a run."""
        table = {name: _cells(self.settings[:, place]) for place, name in enumerate(self.varied)}
        goals = {name: _cells(self.goals[:, place]) for place, name in enumerate(self.names)}
        return {self.what[:-1]: self.runs, "front": self.front.tolist(), **table, **goals}


def pareto(
    outcomes: Outcomes, lineage: Lineage, *, goals: Sequence[str] = (), what: Literal["runs", "settings"] = "runs"
) -> Pareto:
    """Of quality, epsilon, bytes and seconds, in all and to a target; a goal that no run has is left out.

    Where `goals` are named, of quality and these alone. Of settings as `what`, `outcomes` are their means.
    """
    objective, runs = outcomes.objective, outcomes.runs
    columns = {
        objective.metric: [run.quality for run in runs],
        "epsilon": [run.epsilon for run in runs],
        "bytes": [run.bytes or None for run in runs],
        "seconds": [run.seconds for run in runs],
        "seconds to the target": [run.seconds_to_target for run in runs],
        "bytes to the target": [run.bytes_to_target for run in runs],
    }
    cells = {name: np.array(column, np.float64) for name, column in columns.items()}
    asked = {objective.metric, *(goals or columns)}
    names = tuple(
        name for name in cells if name in asked and (name == objective.metric or not np.isnan(cells[name]).all())
    )
    values = np.stack([cells[name] for name in names], axis=1)
    higher = tuple(name == objective.metric and objective.better == "higher" for name in names)
    mixed = "epsilon" in names and bool(np.isnan(cells["epsilon"]).any())
    without = f"{what.capitalize()} without differential privacy stand beside {what} with: they count as the worst"
    unlike = (f"{without} in epsilon.",) if mixed else ()
    return Pareto(
        lineage=lineage,
        runs=tuple(f"{run.name} {run.run}" for run in runs),
        names=names,
        higher=higher,
        goals=values,
        front=front(values, higher),
        varied=outcomes.varied,
        settings=matrix(outcomes, outcomes.varied),
        what=what,
        caveats=(_CAVEATS[what], *unlike),
    )


def _short(run: str) -> str:
    """A run's name and the first digits of its id."""
    name, _, run_id = run.rpartition(" ")
    return f"{name} {run_id[:8]}"


def front(goals: Floats, higher: tuple[bool, ...]) -> npt.NDArray[np.bool_]:
    """bool [n]: rows of goals [n, goals] that no other row is as good as in all and better in one; NaN is the worst."""
    signed = np.where(np.array(higher), goals, -goals)
    signed = np.where(np.isnan(signed), -np.inf, signed)
    beaten = [bool(((signed >= one).all(axis=1) & (signed > one).any(axis=1)).any()) for one in signed]
    return ~np.array(beaten, bool)


def _known(values: Array) -> Array:
    return values[~np.isnan(values)]


def _cells(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
