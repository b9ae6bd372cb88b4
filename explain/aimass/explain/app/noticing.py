"""What of runs, models and services a person is told on Home: what runs, what is new, what needs somebody. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aimass.explain.app.wording import ago, amount, size
from aimass.proto.errors import AimassError
from aimass.proto.registry.entries import Alias
from aimass.proto.registry.reader import Resolved
from aimass.proto.views import RunState, RunSummary, ServerView

__all__ = ["Item", "ModelState", "Overview", "ServiceState", "changes", "concerns", "run_name", "running"]

_DAY_S: Final = 86_400.0
FAILED_S: Final = 7 * _DAY_S
"""A run that failed longer ago needs nobody any more."""
WAITS_S: Final = 600.0
"""A run that waits for longer than this for partners is told."""
_LITTLE_DISK: Final = 5e9


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """Of whom something `says` what, in words of ours and of others; when it became so, and the page with more."""

    of: str
    says: str
    at: float | None = None
    page: str = ""
    address: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ModelState:
    """A model of the registry: its champion, its newest versions, newest first, and what the champion was, oldest
    first. An error stands for what is not believed, None for a champion that there never was."""

    name: str
    champion: Resolved | AimassError | None
    newest: tuple[tuple[int, Resolved | AimassError], ...] = ()
    history: tuple[Alias, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceState:
    """A service that the app was told of; `says` is what it came to, or why it is `away`, with what mends it."""

    title: str
    address: str
    says: str
    away: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """All that Home is made of, as far as services answered; `server` for operators alone."""

    runs: tuple[RunSummary, ...] = ()
    models: tuple[ModelState, ...] = ()
    services: tuple[ServiceState, ...] = ()
    server: ServerView | None = None


def run_name(run: RunSummary) -> str:
    """A run as people tell it from others."""
    return f"{run.name} {run.run_id[:8]}"


def running(runs: Iterable[RunSummary]) -> tuple[RunSummary, ...]:
    """Runs that have not ended, newest first."""
    return tuple(sorted((run for run in runs if not run.state.final), key=lambda run: -run.created_at))


# ---------------------------------------------------------------- what needs somebody


def concerns(seen: Overview, now: float) -> tuple[Item, ...]:
    """What somebody should look at, services first, then runs, models and the server's own wants."""
    return (*_of_services(seen.services), *_of_runs(seen.runs, now), *_of_models(seen, now), *_of_server(seen.server))


def _of_services(services: Sequence[ServiceState]) -> Iterator[Item]:
    for service in services:
        if service.away:
            yield Item(service.title, f"at {service.address}: {service.says}")


def _of_runs(runs: Sequence[RunSummary], now: float) -> Iterator[Item]:
    for run in runs:
        ended = run.ended_at or run.created_at
        if run.state is RunState.FAILED and now - ended < FAILED_S:
            why = f": {run.reason}" if run.reason else ""
            yield _about(run, f"failed {ago(now - ended)} ago{why}", ended)
        if run.state is RunState.WAITING and now - run.created_at > WAITS_S:
            why = f": {run.reason}" if run.reason else " for its partners"
            yield _about(run, f"has waited {ago(now - run.created_at)}{why}", run.created_at)


def _about(run: RunSummary, says: str, at: float | None) -> Item:
    return Item(f"Run {run_name(run)}", says, at, "runs", (("run", run.run_id),))


def _of_models(seen: Overview, now: float) -> Iterator[Item]:
    for model in seen.models:
        unbelieved = [number for number, version in model.newest if isinstance(version, AimassError)]
        if unbelieved:
            told = ", ".join(map(str, unbelieved))
            yield _model(model, f"nothing vouches for version {told}. It is not served.")
        if isinstance(model.champion, AimassError):
            yield _model(model, f"its champion is not believed. {model.champion.sentence()}")
        elif model.champion is None:
            yield _model(model, "has no champion: nobody is served it by its name alone.")
        elif behind := _behind(model.champion, model, seen.runs, now):
            age = ago(now - model.champion.version.created_at)
            number = model.champion.version.number
            yield _model(model, f"its champion, version {number}, was published {age} ago; since then {behind}.")


def _model(model: ModelState, says: str, at: float | None = None) -> Item:
    return Item(f"Model {model.name}", says, at, "models", (("name", model.name),))


def _behind(champion: Resolved, model: ModelState, runs: Sequence[RunSummary], now: float) -> str:
    """What came after a champion: versions at once, runs once it is a day old; empty where nothing did."""
    newer = sum(not isinstance(v, AimassError) and n > champion.version.number for n, v in model.newest)
    mine = "" if champion.version.run is None else champion.version.run.run_id
    finished = [
        run for run in runs
        if run.state is RunState.FINISHED and run.task == champion.version.task.name and run.run_id != mine
        and (run.ended_at or 0.0) > champion.version.created_at and now - champion.version.created_at > _DAY_S
    ]  # fmt: skip
    parts = (
        f"{amount(newer, 'version')} followed" if newer else "",
        f"{amount(len(finished), 'run')} of {champion.version.task.name} finished" if finished else "",
    )
    return " and ".join(part for part in parts if part)


def _of_server(server: ServerView | None) -> Iterator[Item]:
    if server is None:
        return
    away = [partner.name for partner in server.partners if not partner.connected]
    if away:
        some = ", ".join(away[:5]) + ("" if len(away) <= 5 else f" and {len(away) - 5} more")
        yield Item("Partners", f"{len(away)} of {amount(len(server.partners), 'partner')} are not connected: {some}.")
    if server.pending_enrolments:
        waits = amount(server.pending_enrolments, "request")
        yield Item("Enrolment", f"{waits} to be signed: aimass server enrolments shows what waits.")
    if server.free_bytes < _LITTLE_DISK:
        yield Item("Disk", f"the server has {size(server.free_bytes)} left: a full disk stops all runs.")


# ---------------------------------------------------------------- what is new


def changes(seen: Overview, since: float) -> tuple[Item, ...]:
    """What happened after `since` (Unix seconds), newest first."""
    found = [*_run_changes(seen.runs, since), *_model_changes(seen.models, since)]
    return tuple(sorted(found, key=lambda item: -(item.at or 0.0)))


def _run_changes(runs: Sequence[RunSummary], since: float) -> Iterator[Item]:
    for run in runs:
        if run.ended_at is not None and run.ended_at > since:
            rounds = f" after {run.round} of {amount(run.rounds, 'round')}"
            yield _about(run, f"{_ENDED.get(run.state, 'ended')}{rounds}", run.ended_at)
        elif run.ended_at is None and run.created_at > since:
            yield _about(run, "began", run.created_at)


_ENDED: Final = {RunState.FINISHED: "finished", RunState.STOPPED: "was stopped", RunState.FAILED: "failed"}


def _model_changes(models: Sequence[ModelState], since: float) -> Iterator[Item]:
    for model in models:
        for number, version in model.newest:
            if not isinstance(version, AimassError) and version.version.created_at > since:
                yield _model(model, f"{version.signer} published version {number}", version.version.created_at)
        for state in model.history:
            if state.at > since:
                why = f": {state.reason}" if state.reason else ""
                yield _model(model, f"version {state.version} became {state.alias}{why}", state.at)
