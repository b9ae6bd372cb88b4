"""Runs that none other beats at once in quality, privacy, bytes and seconds."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture, Points
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.outcomes import Outcomes, matrix
from aimass.explain.words import joined, number

__all__ = ["Pareto", "front", "pareto"]

Floats = npt.NDArray[np.float64]
_CAVEAT: Final = "A run is one draw: which of two close ones is on the front may be chance. See the tied set."


class Pareto(Result, frozen=True, kw_only=True, eq=False, tag="runs.pareto"):
    """Runs by what they came to. `goals` float64 [runs, goals] in the units of `names`, NaN where a run has none.

    `front` [runs] are those that no other is at least as good as in everything and better in something; None counts as
    worst. `settings` float64 [runs, varied] hold what they were set to; words are places in `words`.
    """

    runs: tuple[str, ...]
    names: tuple[str, ...]
    higher: tuple[bool, ...]
    goals: Array
    front: Array
    varied: tuple[str, ...]
    settings: Array

    def describe(self) -> tuple[str, ...]:
        """The runs of the front, with their figures."""
        places = np.flatnonzero(self.front)
        told = [f"{_short(self.runs[place])} ({self._figures(place)})" for place in places[:5]]
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        be = "is" if len(places) == 1 else "are"
        beaten = f"{len(places)} of {len(self.runs)} runs {be} beaten by none in all of {joined(self.names)}"
        return (f"{beaten}: {'; '.join(told)}{more}.",)

    def _figures(self, place: int) -> str:
        told = zip(self.names, self.goals[place], strict=True)
        return ", ".join(f"{name} {number(float(value))}" for name, value in told if not np.isnan(value))

    def picture(self) -> Picture:
        """Quality against each cost."""
        costs = [
            cost
            for cost in range(1, len(self.names))
            if len(np.unique(self.goals[~np.isnan(self.goals[:, cost]), cost])) > 1
        ]
        dots = Points(np.arange(len(self.runs), dtype=np.float64), self.goals[:, 0], "series:0", "run", says=self.runs)
        alone = Panel("no cost differs", Axis("run, in turn", whole=True), Axis(self.names[0]), (dots,))
        return Picture(
            "What quality cost",
            tuple(self._against(cost) for cost in costs) or (alone,),
            "A dot is a run, the line the front: no run is better and costs less.",
            _CAVEAT,
            columns=2,
        )

    def _against(self, cost: int) -> Panel:
        x, y, says = self.goals[:, cost], self.goals[:, 0], self.runs
        on = front(self.goals[:, [0, cost]], (self.higher[0], self.higher[cost]))
        order = np.flatnonzero(on)[np.argsort(x[on], kind="stable")]
        layers = (
            Line(x[order], y[order], "series:1", "front", steps=True),
            Points(x, y, "series:0", "run", says=says),
        )
        return Panel(f"{self.names[0]} against {self.names[cost]}", Axis(self.names[cost]), Axis(self.names[0]), layers)

    def to_columns(self) -> Columns:
        """A row a run."""
        table = {name: _cells(self.settings[:, place]) for place, name in enumerate(self.varied)}
        goals = {name: _cells(self.goals[:, place]) for place, name in enumerate(self.names)}
        return {"run": self.runs, "front": self.front.tolist(), **table, **goals}


def pareto(outcomes: Outcomes, lineage: Lineage) -> Pareto:
    """Of quality, epsilon, bytes and seconds, in all and to a target; a goal that no run has is left out."""
    objective, runs = outcomes.objective, outcomes.runs
    columns = {
        objective.metric: [run.quality for run in runs],
        "epsilon": [run.epsilon for run in runs],
        "bytes": [run.bytes or None for run in runs],
        "seconds": [run.seconds for run in runs],
        "seconds to the target": [run.seconds_to_target for run in runs],
        "bytes to the target": [run.bytes_to_target for run in runs],
    }
    goals = {name: np.array(cells, np.float64) for name, cells in columns.items()}
    names = tuple(name for name, cells in goals.items() if name == objective.metric or not np.isnan(cells).all())
    values = np.stack([goals[name] for name in names], axis=1)
    higher = tuple(name == objective.metric and objective.better == "higher" for name in names)
    mixed = "epsilon" in names and bool(np.isnan(goals["epsilon"]).any())
    unlike = (
        ("Runs without differential privacy stand beside runs with: they count as the worst in epsilon.",)
        if mixed
        else ()
    )
    return Pareto(
        lineage=lineage,
        runs=tuple(f"{run.name} {run.run}" for run in runs),
        names=names,
        higher=higher,
        goals=values,
        front=front(values, higher),
        varied=outcomes.varied,
        settings=matrix(outcomes, outcomes.varied),
        caveats=(_CAVEAT, *unlike),
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


def _cells(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
