"""A search as a value: what it was begun with, and its trials, each a setting with a run for every seed. Pure.

All that happens is an event; a search is its setup with all events applied. So whoever has both reads where it stands,
and a search that was killed goes on from there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from aimass.explain.tune.pruning import Curve, Pruning
from aimass.explain.tune.sampler import Method, Seen
from aimass.explain.tune.space import Goal, Space
from aimass.proto.origin import Schedule
from aimass.proto.plan import PlanDraft
from aimass.proto.registry.entries import Spent
from aimass.proto.studies import Study, StudyId
from aimass.proto.values import Scalar, Value

__all__ = [
    "Began",
    "Closed",
    "Cut",
    "Ended",
    "Event",
    "Impossible",
    "Measured",
    "RunEnd",
    "Search",
    "Setup",
    "Suggested",
    "Trial",
    "TrialRun",
    "Waits",
    "Where",
    "applied",
    "seen_by_sampler",
]

RunEnd = Literal["finished", "pruned", "failed", "stopped"]


class Where(Value, frozen=True):
    """Where runs compute: at the partners of a federation (`home`), at its training service over a data set, or in
    simulations on this machine over a folder of shards."""

    kind: Literal["federated", "offline", "simulation"]
    home: str = ""
    data_set: str = ""
    schedule: Schedule = "averaging"
    shards: str = ""
    options: tuple[str, ...] = ()


class Setup(Value, frozen=True):
    """What a search was begun with, which never changes. `seeds` are those of a setting's runs, `seed` that of the
    search. `study` stands in the plan of each run where partners reserve for it, and `most` is the most that all runs
    together may cost a unit."""

    id: StudyId
    draft: PlanDraft
    space: Space
    trials: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    seeds: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=100)]
    where: Where
    seed: int = 0
    method: Method = "tpe"
    pruning: Pruning = Pruning()
    study: Study | None = None
    most: Spent = Spent()
    begun_at: float = 0.0
    format: Literal[1] = 1


class TrialRun(Value, frozen=True):
    """One run of a trial: the metric by round, and what it cost once it has ended. `run` is its id where it computes;
    `cut_at` is the round after which it was decided to cut it; `waits` says why it is paused."""

    seed: int
    run: str = ""
    state: Literal["waiting", "running", "finished", "pruned", "failed", "stopped"] = "waiting"
    reason: str = ""
    rounds: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()
    cut_at: int | None = None
    waits: str = ""
    epsilon: float | None = None
    bytes: int = 0
    seconds: float = 0.0

    @property
    def curve(self) -> Curve:
        """The metric by round."""
        return tuple(zip(self.rounds, self.values, strict=True))

    @property
    def quality(self) -> float | None:
        """The metric at its last evaluation; None where it is no number, or was never measured."""
        return self.values[-1] if self.values else None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in it."""
        return self.state not in ("waiting", "running")


class Trial(Value, frozen=True):
    """A setting that is tried. It is `impossible` where the plan cannot have its values together."""

    number: int
    settings: dict[str, Scalar]
    runs: tuple[TrialRun, ...]
    state: Literal["running", "finished", "pruned", "failed", "impossible"] = "running"
    reason: str = ""

    @property
    def stands(self) -> str:
        """Its state, or that a run of it is paused."""
        return "paused" if self.state == "running" and any(run.waits for run in self.runs) else self.state

    @property
    def quality(self) -> float | None:
        """The mean over its seeds; None unless all have finished with a number."""
        found = [run.quality for run in self.runs if run.state == "finished"]
        numbers = [one for one in found if one is not None]
        return float(np.mean(numbers)) if self.state == "finished" and len(numbers) == len(self.runs) else None

    def cost(self, goal: Goal) -> float | None:
        """The mean over its seeds of epsilon, bytes or seconds; None where a run has none."""
        found = [run.epsilon if goal == "epsilon" else float(getattr(run, goal)) for run in self.runs]
        numbers = [one for one in found if one is not None]
        return float(np.mean(numbers)) if len(numbers) == len(found) else None


class Search(Value, frozen=True):
    """Where a search stands. It is `open` until all is tried, its time is up for good, or it was given up."""

    setup: Setup
    trials: tuple[Trial, ...] = ()
    state: Literal["open", "ended", "failed"] = "open"
    reason: str = ""
    updated_at: float = 0.0

    @property
    def best(self) -> Trial | None:
        """The trial of the best mean so far."""
        sign = self.setup.space.objective.sign
        found = [trial for trial in self.trials if trial.quality is not None]
        return max(found, key=lambda trial: sign * (trial.quality or 0.0), default=None)

    def run(self, trial: int, place: int) -> TrialRun:
        """A trial's run of the seed at this place."""
        return self.trials[trial].runs[place]


class _Event(Value, frozen=True, tag_field="event"):
    at: float


class Suggested(_Event, frozen=True, tag="suggested"):
    """A new trial, the next by number."""

    settings: dict[str, Scalar]


class Impossible(_Event, frozen=True, tag="impossible"):
    """The plan cannot have a trial's values together."""

    trial: int
    reason: str


class Began(_Event, frozen=True, tag="began"):
    """A run was begun where runs compute, or found there again."""

    trial: int
    place: int
    run: str


class Measured(_Event, frozen=True, tag="measured"):
    """A run's metric after a round."""

    trial: int
    place: int
    round: int
    value: float | None


class Waits(_Event, frozen=True, tag="waits"):
    """A run was paused where it computes, and why; or, with no `reason`, it goes on."""

    trial: int
    place: int
    reason: str


class Cut(_Event, frozen=True, tag="cut"):
    """It was decided that a run ends before its time."""

    trial: int
    place: int
    round: int
    reason: str


class Ended(_Event, frozen=True, tag="ended"):
    """A run has ended, and this is what it cost."""

    trial: int
    place: int
    state: RunEnd
    reason: str = ""
    epsilon: float | None = None
    bytes: int = 0
    seconds: float = 0.0


class Closed(_Event, frozen=True, tag="closed"):
    """Nothing more is tried."""

    state: Literal["ended", "failed"]
    reason: str


Event = Suggested | Impossible | Began | Measured | Waits | Cut | Ended | Closed


def applied(search: Search, event: Event) -> Search:
    """The search after the event."""
    search = msgspec.structs.replace(search, updated_at=event.at)
    match event:
        case Suggested():
            runs = tuple(TrialRun(seed=seed) for seed in search.setup.seeds)
            new = Trial(number=len(search.trials), settings=event.settings, runs=runs)
            return msgspec.structs.replace(search, trials=(*search.trials, new))
        case Impossible():
            trial = search.trials[event.trial]
            return _with(search, msgspec.structs.replace(trial, state="impossible", reason=event.reason))
        case Began():
            return _changed(search, event.trial, event.place, run=event.run, state="running")
        case Measured():
            run = search.run(event.trial, event.place)
            rounds, values = (*run.rounds, event.round), (*run.values, event.value)
            return _changed(search, event.trial, event.place, rounds=rounds, values=values)
        case Waits():
            return _changed(search, event.trial, event.place, waits=event.reason)
        case Cut():
            return _changed(search, event.trial, event.place, cut_at=event.round, reason=event.reason)
        case Ended():
            return _ended(search, event)
        case Closed():
            return msgspec.structs.replace(search, state=event.state, reason=event.reason)


def _ended(search: Search, event: Ended) -> Search:
    run = search.run(event.trial, event.place)
    figures = {"epsilon": event.epsilon, "bytes": event.bytes, "seconds": event.seconds}
    reason = run.reason or event.reason
    search = _changed(search, event.trial, event.place, state=event.state, reason=reason, waits="", **figures)
    trial = search.trials[event.trial]
    if event.state == "pruned":
        trial = msgspec.structs.replace(trial, state="pruned", reason=reason)
    elif event.state != "finished":
        trial = msgspec.structs.replace(trial, state="failed", reason=reason or f"the run was {event.state}")
    elif trial.state == "running" and all(one.state == "finished" for one in trial.runs):
        trial = msgspec.structs.replace(trial, state="finished")
    return _with(search, trial)


def _changed(search: Search, trial: int, place: int, **fields: object) -> Search:
    found = search.trials[trial]
    runs = tuple(msgspec.structs.replace(run, **fields) if at == place else run for at, run in enumerate(found.runs))
    return _with(search, msgspec.structs.replace(found, runs=runs))


def _with(search: Search, trial: Trial) -> Search:
    trials = (*search.trials[: trial.number], trial, *search.trials[trial.number + 1 :])
    return msgspec.structs.replace(search, trials=trials)


def seen_by_sampler(search: Search) -> tuple[Seen, ...]:
    """Its trials as the sampler sees them: what failed, or came to no number, was cut before it was worth anything."""
    return tuple(_seen(search.setup.space, trial) for trial in search.trials)


def _seen(space: Space, trial: Trial) -> Seen:
    if trial.state == "running":
        return Seen(settings=trial.settings)
    values = [trial.quality, *(trial.cost(goal) for goal in space.also)]
    numbers = tuple(value for value in values if value is not None)
    if trial.state == "finished" and len(numbers) == len(values):
        return Seen(settings=trial.settings, values=numbers)
    cut = next((run for run in trial.runs if run.state == "pruned" and run.quality is not None), None)
    if cut is None or cut.quality is None:
        return Seen(settings=trial.settings, cut=True)
    return Seen(settings=trial.settings, cut=True, values=(cut.quality,), cut_after=cut.rounds[-1])
