"""What a person reads of a search while it goes, and of where it stands."""

from __future__ import annotations

from collections.abc import Iterator

from aimass.explain.runs.outcomes import short_names
from aimass.explain.tune.answer import told_settings
from aimass.explain.tune.trials import Closed, Cut, Ended, Event, Impossible, Search, Suggested, Trial, Waits
from aimass.explain.words import number

__all__ = ["told_event", "told_trials"]


def told_event(search: Search, event: Event) -> str:
    """A line for what a person wants to hear of; empty for the rest."""
    of = search.setup
    match event:
        case Suggested():
            trial = search.trials[-1]
            return f"setting {trial.number} ({len(search.trials)} of {of.trials}): {told_settings(trial)}"
        case Impossible():
            return f"setting {event.trial} cannot be: {event.reason}"
        case Waits():
            return _told_wait(search, event)
        case Cut():
            return f"setting {event.trial}: cut, {of.space.metric} {event.reason}"
        case Ended(state="pruned"):
            return ""
        case Ended():
            return _told_end(search, event)
        case Closed():
            return f"{event.state}: {event.reason}"
        case _:
            return ""


def _told_wait(search: Search, event: Waits) -> str:
    run = search.run(event.trial, event.place).run
    if not event.reason:
        return f"setting {event.trial}: run {run[:8]} goes on"
    what = "offline" if search.setup.where.kind == "offline" else "run"
    cure = f"aimass {what} resume {run[:8]}, or to give the setting up aimass run stop {run[:8]}"
    return f"setting {event.trial} waits: run {run[:8]} is paused: {event.reason}; to go on {cure}"


def _told_end(search: Search, event: Ended) -> str:
    of, run = search.setup, search.run(event.trial, event.place)
    seed = f", seed {event.place + 1} of {len(of.seeds)}" if len(of.seeds) > 1 else ""
    came = "no number" if run.quality is None else number(run.quality)
    told = f"{of.space.metric} {came}" if run.state == "finished" else f"{run.state}: {run.reason}"
    best = "" if search.best is None else f"; best so far {number(search.best.quality or 0.0)} ({search.best.number})"
    return f"setting {event.trial}{seed}: {told}, {event.seconds:.1f} s{best}"


def told_trials(search: Search) -> dict[str, object]:
    """Where it stands, and a row for each trial, the best first."""
    sign = search.setup.space.objective.sign
    ranked = sorted(search.trials, key=lambda trial: -sign * trial.quality if trial.quality is not None else 1e308)
    return {
        "state": search.state,
        "reason": search.reason or "-",
        "settings": f"{len(search.trials)} of {search.setup.trials}",
        "seeds": len(search.setup.seeds),
        "where": search.setup.where.kind,
        "trials": [dict(_row(search, trial)) for trial in ranked],
    }


def _row(search: Search, trial: Trial) -> Iterator[tuple[str, object]]:
    yield "setting", trial.number
    yield "state", trial.stands
    yield search.setup.space.metric, trial.quality
    yield "seeds", sum(run.state == "finished" for run in trial.runs)
    for goal in search.setup.space.also:
        yield goal, trial.cost(goal)
    short = short_names(tuple(trial.settings))
    for name, value in trial.settings.items():
        yield short[name], value
