"""What a search does next, from where it stands and what is underway. Pure.

A setting's first run decides whether it is worth the others: these wait for it, unless nothing is ever cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Final, Literal

from aimass.explain.tune.pruning import why_cut
from aimass.explain.tune.sampler import suggested
from aimass.explain.tune.trials import Search, Trial, seen_by_sampler
from aimass.proto.values import Scalar

__all__ = ["Action", "Begin", "Close", "Propose", "due", "proposed", "why_cut_short"]

_GIVES_UP_AFTER: Final = 3
_TRIES: Final = 50
"""How often another setting is asked for where one was tried before."""


@dataclasses.dataclass(frozen=True)
class Begin:
    """Begin a trial's run, or find it again where it was begun before."""

    trial: int
    place: int


@dataclasses.dataclass(frozen=True)
class Propose:
    """Ask for a setting that was not tried."""


@dataclasses.dataclass(frozen=True)
class Close:
    """End the search."""

    state: Literal["ended", "failed"]
    reason: str


Action = Begin | Propose | Close


def due(search: Search, busy: Collection[tuple[int, int]], parallel: int, *, closing: bool = False) -> Action | None:
    """One thing that is to be done now; None where nothing is, until something happens.

    `busy` are the runs that are followed, by trial and place. While `closing` nothing new begins.
    """
    if search.state != "open" or len(busy) >= parallel:
        return None
    if (why := _hopeless(search)) is not None:
        return None if busy else Close(state="failed", reason=why)
    begin = next((Begin(*place) for place in _to_begin(search) if place not in busy), None)
    if begin is None and len(search.trials) == search.setup.trials:
        return None if busy else Close(state="ended", reason=f"all {search.setup.trials} settings were tried")
    return None if closing else begin or Propose()


def _to_begin(search: Search) -> Iterator[tuple[int, int]]:
    """Runs that may go on, in order: what was begun first is ended first."""
    for trial in search.trials:
        if trial.state == "running":
            yield from ((trial.number, place) for place in _places(search, trial))


def _places(search: Search, trial: Trial) -> list[int]:
    open_ = [place for place, run in enumerate(trial.runs) if not run.ended]
    first_decides = search.setup.pruning.rule != "none" and not trial.runs[0].ended
    return [0] if first_decides else open_


def _hopeless(search: Search) -> str | None:
    """Why a search is given up whose first trials all failed: the plan, or what computes, is wrong and no setting."""
    ended = [trial for trial in search.trials if trial.state != "running"]
    worked = any(run.state in ("finished", "pruned") for trial in search.trials for run in trial.runs)
    if worked or len(ended) < _GIVES_UP_AFTER:
        return None
    return f"the first {len(ended)} settings failed, the last of them because: {ended[-1].reason}"


def proposed(search: Search) -> dict[str, Scalar] | None:
    """A setting that was not tried; None where none is found."""
    setup, seen = search.setup, seen_by_sampler(search)
    tried = [trial.settings for trial in search.trials]
    for again in range(_TRIES):
        settings = suggested(setup.space, seen, setup.trials, setup.seed, setup.method, again)
        if settings not in tried:
            return settings
    return None


def why_cut_short(search: Search, trial: int, place: int) -> str:
    """Why this run is cut where it stands; empty where it goes on, as all do but the first of a setting."""
    if place:
        return ""
    others = [one.runs[0].curve for one in search.trials if one.number != trial]
    return why_cut(search.setup.pruning, search.run(trial, 0).curve, others, search.setup.space.objective.sign)
