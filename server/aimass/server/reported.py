"""The record of an offline run as a pure machine: the run computes elsewhere, so its record follows what it says."""

from __future__ import annotations

from typing import Final

import msgspec

from aimass.proto.errors import WrongState
from aimass.proto.views import RunState
from aimass.server.drivers.base import Progress
from aimass.server.runs import (
    Action,
    Change,
    DriverDied,
    End,
    Event,
    Job,
    Offline,
    Readmitted,
    Reported,
    ReportedEnd,
    Run,
)

__all__ = ["MOST_DEATHS", "apply", "progress"]

MOST_DEATHS: Final = 3
"""Of a driver, without a step between them, before a person has to look."""


def apply(run: Run, offline: Offline, event: Event) -> tuple[Run, tuple[Action, ...]]:
    """The next state and what is to be done; events of federated runs change nothing.

    Raises `WrongState` for a step that is not the next one, and for a change that is the run's own to make.
    """
    match event:
        case Reported():
            return _step(run, offline, event), ()
        case ReportedEnd():
            return _ended(run, event.state, event.reason)
        case Change(change="stop"):
            return _ended(run, RunState.STOPPED, event.reason)
        case Change(change="fail"):
            return _ended(run, RunState.FAILED, event.reason)
        case Change(change="pause" | "resume") if offline.job is not None:
            return _steered(run, offline, offline.job, event), ()
        case DriverDied():
            return _died(run, offline, event.reason), ()
        case Change() | Readmitted():
            raise WrongState(
                "this run computes elsewhere, and is steered there",
                code="run.offline",
                value=event.change if isinstance(event, Change) else "readmit",
                limit="stop, which ends this record",
                cure="aimass offline stop and resume steer the run itself.",
            )
        case _:
            return run, ()


def _steered(run: Run, offline: Offline, job: Job, change: Change) -> Run:
    """Paused, its driver is stopped; resumed, it goes on from its last step, whatever it died of before."""
    pauses = change.change == "pause"
    before, after = (RunState.RUNNING, RunState.PAUSED) if pauses else (RunState.PAUSED, RunState.RUNNING)
    if run.state is not before:
        raise WrongState(
            f"a run that is {run.state} cannot {change.change}", code="run.state", value=run.state, limit=change.change
        )
    fresh = msgspec.structs.replace(offline, job=msgspec.structs.replace(job, deaths=0))
    return msgspec.structs.replace(run, state=after, reason=change.reason, offline=fresh)


def _died(run: Run, offline: Offline, reason: str) -> Run:
    """It is started again, and after some deaths without a step between them waits for a person."""
    if offline.job is None or run.state is not RunState.RUNNING:
        return run
    deaths = offline.job.deaths + 1
    held = msgspec.structs.replace(offline, job=msgspec.structs.replace(offline.job, deaths=deaths))
    run = msgspec.structs.replace(run, offline=held)
    if deaths < MOST_DEATHS:
        return run
    why = f"offline.driver_died: {deaths} times without a step between: {reason}"
    return msgspec.structs.replace(run, state=RunState.PAUSED, reason=why)


def progress(offline: Offline) -> Progress:
    """Rounds that were reported, of those that are planned."""
    return Progress(offline.round, max(offline.origin.rounds, offline.round))


def _step(run: Run, offline: Offline, event: Reported) -> Run:
    if event.index != run.next_index:
        raise WrongState(
            "an offline run is reported step after step",
            code="report.order",
            value=event.index,
            limit=run.next_index,
            cure="Report the step that ReportRun says is the next.",
        )
    made = event.here and event.model and event.model != run.model
    return msgspec.structs.replace(
        run,
        next_index=event.index + 1,
        model=event.model if made else run.model,
        model_before=run.model if made else run.model_before,
        offline=msgspec.structs.replace(
            offline,
            round=max(offline.round, event.round),
            model=event.model or offline.model,
            job=msgspec.structs.replace(offline.job, deaths=0) if offline.job is not None else None,
        ),
    )


def _ended(run: Run, state: RunState, reason: str) -> tuple[Run, tuple[Action, ...]]:
    return msgspec.structs.replace(run, state=state, reason=reason), (End(state=state, reason=reason),)
