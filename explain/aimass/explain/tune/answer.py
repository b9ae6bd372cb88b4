"""What a search came to: its runs compared, settings that cannot be told from the best, and the plan to run next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from aimass.explain.lineage import Lineage
from aimass.explain.runs.explaining import RunsOptions, compare
from aimass.explain.runs.importance import SettingsImportance
from aimass.explain.runs.outcomes import Outcomes, outcomes, short_names
from aimass.explain.runs.results import ManyRuns
from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.goals import front_of, on_front
from aimass.explain.tune.plan_text import written_plan
from aimass.explain.tune.surface import surface_importance
from aimass.explain.tune.trials import Search, Trial
from aimass.explain.words import joined, number
from aimass.explain.work import Work
from aimass.explain.writing import FORMATS, write_result
from aimass.privacy.dp.spending import spent_together
from aimass.proto.console import write_output
from aimass.proto.dotted import with_settings
from aimass.proto.plan import PlanDraft
from aimass.proto.views import RunView

__all__ = ["Answered", "answered", "write_answer"]

_CAVEAT: Final = (
    "Runs that were cut are in what was spent, and in no comparison: what they had come to is of other rounds."
)
_BEST_OF_MANY: Final = (
    "The best of many is flattered by chance: run the next plan with seeds of its own before you quote its figure."
)


@dataclasses.dataclass(frozen=True)
class Answered:
    """The comparison of all runs that finished, the trials of the tied set by number, and the one to run next.

    `front` are the trials that no other one beats in all goals; of a search for its metric alone there is none.
    """

    result: ManyRuns
    tied: tuple[int, ...]
    front: tuple[int, ...]
    next: Trial
    why: str

    def describe(self) -> tuple[str, ...]:
        """All sentences, what comes next last."""
        return (*self.result.describe(), f"Next: setting {self.next.number} ({told_settings(self.next)}), {self.why}.")


def answered(search: Search, views: Mapping[tuple[int, int], RunView], work: Work) -> Answered | None:
    """Of a search, open or not, by its runs that have ended; None while no setting has come to a figure."""
    done = [trial for trial in search.trials if trial.quality is not None]
    finished = {key: view for key, view in views.items() if search.trials[key[0]] in done}
    if not finished:
        return None
    space = search.setup.space

    def importance(outcomes: Outcomes, lineage: Lineage, work: Work, *, resamples: int) -> SettingsImportance:
        return surface_importance(outcomes, space, lineage, work, resamples=resamples)

    options = RunsOptions(metric=space.metric, better=space.objective.better)
    result = compare(list(finished.values()), options, work, importance=importance)
    cut = (_CAVEAT,) if len(finished) < len(views) else ()
    caveats = (*result.caveats, *cut, _BEST_OF_MANY)
    result = msgspec.structs.replace(result, tuning=spent_together(list(views.values())), caveats=caveats)
    tied, beaten_by_none = _tied(search, finished, result), tuple[int, ...]()
    if space.also:
        result = msgspec.structs.replace(result, pareto=front_of(search, result.lineage))
        beaten_by_none = on_front(search, result.pareto)
    chosen, why = _next(search, tied, beaten_by_none)
    return Answered(result, tied, beaten_by_none, chosen, why)


def _tied(search: Search, finished: Mapping[tuple[int, int], RunView], result: ManyRuns) -> tuple[int, ...]:
    """Numbers of the trials in the tied set, best first; the best trial where seeds are too few for a set."""
    if result.tied is None:
        return () if search.best is None else (search.best.number,)
    found = outcomes(list(finished.values()), search.setup.space.objective)
    names = {found.setting(one): trial for (trial, _), one in zip(finished, found.runs, strict=True)}
    inside = zip(result.tied.settings, result.tied.tied, strict=True)
    return tuple(names[name] for name, stays in inside if stays)


def _next(search: Search, tied: Sequence[int], beaten_by_none: Sequence[int]) -> tuple[Trial, str]:
    """The one that did best; where costs were asked for the cheapest on the front that cannot be told from it.

    The best by the metric, or one that did as well and costs less, is on the front and in the tied set.
    """
    space = search.setup.space
    if not space.also:
        among = f"of {len(tied)} that cannot be told from the best" if len(tied) > 1 else "which alone is left"
        return search.trials[tied[0]], f"the best {among}"
    inside = [one for one in beaten_by_none if one in tied] or list(beaten_by_none[:1])
    costs = {one: search.trials[one].cost(space.also[0]) for one in inside}
    chosen = search.trials[min(inside, key=lambda one: math.inf if (cost := costs[one]) is None else cost)]
    front, as_good = joined([space.metric, *space.also]), f"cannot be told from the best {space.metric}"
    if len(beaten_by_none) == 1:
        return chosen, f"which alone is on the front of {front}"
    if len(inside) == 1:
        return chosen, f"of {len(beaten_by_none)} on the front of {front} the only one that {as_good}"
    cost = costs[chosen.number]
    least = space.also[0] if cost is None else f"{space.also[0]} ({number(cost)})"
    return chosen, (
        f"of the front of {front} the one of least {least}: {len(inside)} of its {len(beaten_by_none)} {as_good}"
    )


def told_settings(trial: Trial) -> str:
    """`learning_rate 0.05, momentum 0.9`."""
    short = short_names(tuple(trial.settings))
    return joined([f"{short[name]} {_shown(value)}" for name, value in trial.settings.items()])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def next_plan(search: Search, found: Answered) -> tuple[PlanDraft, tuple[str, ...]]:
    """The plan to run next, as the search's own plan with the chosen settings, and remarks to stand above it."""
    setup, quality = search.setup, found.next.quality
    draft = with_settings(msgspec.structs.replace(setup.draft, study=None), found.next.settings)
    others = [f"  {told_settings(search.trials[one])}" for one in found.tied if one != found.next.number]
    front = [f"  {_told_goals(search, search.trials[one], one == found.next.number)}" for one in found.front]
    remarks = [
        f"Setting {found.next.number} of a search over {len(search.trials)} settings: {found.why}.",
        f"{setup.space.metric} {'' if quality is None else number(quality)} over {len(setup.seeds)} seeds.",
        _BEST_OF_MANY,
    ]
    if front:
        remarks += ["The front: no setting is as good in all goals and better in one.", *front]
    return draft, (*remarks, *(["Settings that cannot be told from the best:", *others] if others else []))


def _told_goals(search: Search, trial: Trial, chosen: bool) -> str:
    """`setting 3: loss 0.31, epsilon 2.5 (learning_rate 0.05); this plan`."""
    space = search.setup.space
    goals = [(space.metric, trial.quality), *((goal, trial.cost(goal)) for goal in space.also)]
    figures = ", ".join(f"{name} {'none' if figure is None else number(figure)}" for name, figure in goals)
    return f"setting {trial.number}: {figures} ({told_settings(trial)}){'; this plan' if chosen else ''}"


def write_answer(
    folder: SearchFolder, search: Search, work: Work, formats: Sequence[str] = FORMATS
) -> tuple[Answered, tuple[Path, ...]] | None:
    """Write `next.toml` and the comparison under `answer/`; None while no setting has come to a figure."""
    found = answered(search, folder.views(search), work)
    if found is None:
        return None
    draft, remarks = next_plan(search, found)
    path = folder.path / "next.toml"
    write_output(path, written_plan(draft, remarks).encode())
    return found, (path, *write_result(folder.path / "answer", "search", found.result, formats))
