"""What settings of a search came to in all its goals, and which of them no other beats. Pure."""

from __future__ import annotations

import numpy as np

from aimass.explain.lineage import Lineage
from aimass.explain.runs.outcomes import Outcome, Outcomes, varied
from aimass.explain.runs.pareto import Pareto, pareto
from aimass.explain.tune.trials import Search, Trial

__all__ = ["front_of", "on_front"]


def front_of(search: Search, lineage: Lineage) -> Pareto:
    """Settings that came to a figure by the metric and what they should cost little of, each the mean of its seeds."""
    space = search.setup.space
    found = tuple(_outcome(trial) for trial in _measured(search))
    outcomes = Outcomes(space.objective, found, varied([one.settings for one in found]))
    return pareto(outcomes, lineage, goals=space.also, what="settings")


def _measured(search: Search) -> list[Trial]:
    """Settings that can be on the front, in the order in which it has them."""
    return [trial for trial in search.trials if trial.quality is not None]


def _outcome(trial: Trial) -> Outcome:
    return Outcome(
        run=str(trial.number),
        name="setting",
        seed=0,
        settings=trial.settings,
        quality=trial.quality,
        epsilon=trial.cost("epsilon"),
        bytes=round(trial.cost("bytes") or 0.0),
        seconds=trial.cost("seconds") or 0.0,
    )


def on_front(search: Search, found: Pareto) -> tuple[int, ...]:
    """Numbers of the settings of a search's front, the best by the metric first."""
    numbers = [trial.number for trial in _measured(search)]
    places = np.flatnonzero(found.front)
    sign = -1.0 if found.higher[0] else 1.0
    ordered = sorted(places.tolist(), key=lambda place: sign * float(found.goals[place, 0]))
    return tuple(numbers[place] for place in ordered)
