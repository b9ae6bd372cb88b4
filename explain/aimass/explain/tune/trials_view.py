"""A search as it goes: each setting's metric by round, and what the settings came to, one after the other."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Layer, Line, Panel, Picture, Points
from aimass.explain.lineage import Lineage, software
from aimass.explain.results import Array, Columns, Part, Result
from aimass.explain.tune.answer import told_settings
from aimass.explain.tune.trials import Search, Trial
from aimass.explain.words import number

__all__ = ["TrialsView", "trials_view"]

Floats = npt.NDArray[np.float64]
_NOT_SHOWN: Final = (
    "Whether the best setting is better than those near it: seeds alone may decide that. The tied set says it."
)
_MOST_LINES: Final = 200


class Course(Part, frozen=True, kw_only=True, eq=False):
    """One run's metric by round; `state` is that of the run."""

    trial: int
    seed: int
    state: str
    rounds: Array
    values: Array


class TrialsView(Result, frozen=True, kw_only=True, eq=False, tag="tune.trials"):
    """Of a search: `courses` of its runs, and each setting's mean `quality` float64 [trials], NaN of none (yet)."""

    metric: str
    better: str
    wanted: int
    states: tuple[str, ...]
    settings: tuple[str, ...]
    quality: Array
    courses: tuple[Course, ...]

    @property
    def best(self) -> int | None:
        """The setting of the best mean so far."""
        if not np.isfinite(self.quality).any():
            return None
        return int(np.nanargmax(self.quality) if self.better == "higher" else np.nanargmin(self.quality))

    def describe(self) -> tuple[str, ...]:
        """How far it is, what is best so far, and how many were cut."""
        counted = {state: self.states.count(state) for state in dict.fromkeys(self.states)}
        done = ", ".join(f"{count} {state}" for state, count in counted.items())
        said = [f"{len(self.states)} of {self.wanted} settings were begun: {done or 'none yet'}."]
        if self.best is not None:
            figure = number(float(self.quality[self.best]))
            said.append(f"Best so far is setting {self.best} ({self.settings[self.best]}) with {self.metric} {figure}.")
        return tuple(said)

    def picture(self) -> Picture:
        """Courses, those that were cut grey, beside what settings came to in the order that they were tried."""
        return Picture(
            "A search as it goes",
            (self._courses(), self._order()),
            "Left a line a run, grey where it was cut. Right a dot a setting, and the best so far as a line.",
            _NOT_SHOWN,
            columns=2,
        )

    def _courses(self) -> Panel:
        shown = [one for one in self.courses if len(one.rounds)][-_MOST_LINES:]
        lines = tuple(
            Line(
                one.rounds.astype(np.float64), one.values, faint=len(shown) > 12,
                colour="quiet" if one.state == "pruned" else "series:0",
                series="cut" if one.state == "pruned" else "run",
            )
            for one in shown
        )  # fmt: skip
        layers: tuple[Layer, ...] = lines or (Points(np.zeros(0), np.zeros(0)),)
        return Panel(f"{self.metric} by round", Axis("round", whole=True), Axis(self.metric), layers)

    def _order(self) -> Panel:
        known = np.isfinite(self.quality)
        at = np.flatnonzero(known).astype(np.float64)
        says = tuple(f"setting {place}: {self.settings[place]}" for place in np.flatnonzero(known))
        dots = Points(at, self.quality[known], says=says, series="setting")
        better = np.maximum if self.better == "higher" else np.minimum
        line = Line(at, better.accumulate(self.quality[known]), "series:1", series="best so far", steps=True)
        return Panel("settings in turn", Axis("setting", whole=True), Axis(self.metric), (line, dots))

    def to_columns(self) -> Columns:
        """A line a setting."""
        return {
            "setting": list(range(len(self.states))),
            "state": self.states,
            self.metric: [None if math.isnan(one) else float(one) for one in self.quality],
            "settings": self.settings,
        }


def trials_view(search: Search) -> TrialsView:
    """Of a search, while it goes and after."""
    setup, space = search.setup, search.setup.space
    return TrialsView(
        lineage=Lineage(
            model=setup.draft.task, data=setup.draft.data_schema, seed=setup.seed, held_out=True, software=software()
        ),
        caveats=(_NOT_SHOWN,),
        metric=space.metric,
        better=space.objective.better,
        wanted=setup.trials,
        states=tuple(trial.stands for trial in search.trials),
        settings=tuple(told_settings(trial) for trial in search.trials),
        quality=np.array([_number(trial.quality) for trial in search.trials], np.float64),
        courses=tuple(course for trial in search.trials for course in _courses(trial)),
    )


def _courses(trial: Trial) -> tuple[Course, ...]:
    return tuple(
        Course(
            trial=trial.number,
            seed=run.seed,
            state=run.state,
            rounds=np.array(run.rounds, np.int64),
            values=np.array([_number(value) for value in run.values], np.float64),
        )
        for run in trial.runs
    )


def _number(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else value
