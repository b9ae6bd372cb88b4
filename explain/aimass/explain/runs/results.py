"""The two questions of runs, with their views: what happened in one, and what to choose after many."""

from __future__ import annotations

from collections.abc import Mapping

from aimass.explain.charts.picture import Picture
from aimass.explain.results import Result, Whole
from aimass.explain.runs.course import Course
from aimass.explain.runs.importance import SettingsImportance
from aimass.explain.runs.layers import Layers, Relations
from aimass.explain.runs.parallel import Parallel
from aimass.explain.runs.pareto import Pareto
from aimass.explain.runs.participation import Participation
from aimass.explain.runs.spending import Spending, told_spent
from aimass.explain.runs.tied import TiedSet
from aimass.explain.runs.trajectory import Trajectory
from aimass.proto.registry.entries import Spent

__all__ = ["ManyRuns", "OneRun"]


class OneRun(Whole, frozen=True, kw_only=True, eq=False, tag="runs.one"):
    """What happened in a run; what it cannot show yet is None, and a caveat says why."""

    course: Course
    participation: Participation
    privacy: Spending | None = None
    layers: Layers | None = None
    relations: Relations | None = None
    trajectory: Trajectory | None = None

    def views(self) -> Mapping[str, Result]:
        """Course, participation, privacy, layers, relations and trajectory."""
        found = {
            "course": self.course,
            "participation": self.participation,
            "privacy": self.privacy,
            "layers": self.layers,
            "relations": self.relations,
            "trajectory": self.trajectory,
        }
        return {name: view for name, view in found.items() if view is not None}


class ManyRuns(Whole, frozen=True, kw_only=True, eq=False, tag="runs.many"):
    """What came of which settings; `tuning` is what all runs cost in privacy together."""

    pareto: Pareto
    parallel: Parallel
    tied: TiedSet | None = None
    importance: SettingsImportance | None = None
    tuning: Spent | None = None

    def views(self) -> Mapping[str, Result]:
        """The front, all runs beside one another, the tied set, the importance of settings."""
        found = {
            "pareto": self.pareto,
            "parallel": self.parallel,
            "tied": self.tied,
            "importance": self.importance,
        }
        return {name: view for name, view in found.items() if view is not None}

    def describe(self) -> tuple[str, ...]:
        """What each view says, and what the search cost in privacy."""
        said = tuple(line for view in self.views().values() for line in view.describe())
        if self.tuning is None:
            return said
        return (*said, f"Data that were in all of these runs are promised {told_spent(self.tuning)}.")

    def picture(self) -> Picture:
        """The tied set, or the front where there is none."""
        return (self.tied or self.pareto).picture()
