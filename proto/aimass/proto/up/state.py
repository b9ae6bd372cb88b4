"""What a supervisor knows of its services, what may happen to them, and what it may ask for: values alone."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

__all__ = [
    "RUNNING",
    "Action",
    "Do",
    "Ended",
    "Event",
    "Heard",
    "Phase",
    "Retry",
    "Service",
    "Silent",
    "Started",
    "State",
    "Stop",
    "Tick",
    "Wanted",
]

Phase = Literal["waiting", "starting", "ready", "unready", "silent", "resting", "failed", "stopping", "stopped"]
"""waiting: there is nothing to start yet. resting: it died, and is started again when `due`. failed: given up."""

Do = Literal["start", "term", "kill", "tell", "over"]

RUNNING: Final = frozenset({"starting", "ready", "unready", "silent", "stopping"})
"""Phases in which there is a process."""


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One service. `wanted` is what it is to be started with, None where there is nothing to start for; `given` what
    its process was started with, `good` the last of that with which it was ready. `refused` it never got ready with,
    for the reason `refusal`, and is started without. `why` says in words what `phase` does not. `deaths` are the times
    of those that it has not got over; `due` is when something has to be done about it, `heard` when it last answered.
    """

    name: str
    phase: Phase = "waiting"
    since: float = 0.0
    why: str = ""
    pid: int = 0
    wanted: tuple[str, ...] | None = ()
    given: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    refusal: str = ""
    deaths: tuple[float, ...] = ()
    starts: int = 0
    heard: float = 0.0
    due: float | None = None

    @property
    def running(self) -> bool:
        """Whether a process of it is there, or on its way."""
        return self.phase in RUNNING


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All services in the order in which they start; they stop in the opposite order."""

    services: tuple[Service, ...]
    stopping: bool = False

    def of(self, name: str) -> Service:
        """The service of this name."""
        return next(service for service in self.services if service.name == name)

    def put(self, service: Service) -> State:
        """The state with this service in the place of the one of its name."""
        return dataclasses.replace(
            self, services=tuple(service if one.name == service.name else one for one in self.services)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """A process runs."""

    name: str
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """Its process of the start of that number is gone: exit code, negative for a signal, and the last that it said."""

    name: str
    start: int
    code: int
    words: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """It answered a probe; `reasons` say why it is not ready, none where it is."""

    name: str
    start: int
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Silent:
    """A probe got no answer."""

    name: str
    start: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What it is to be started with from now on; None, with the reason, where there is nothing to start for."""

    name: str
    given: tuple[str, ...] | None
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has gone by."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Somebody has had enough; `now` is said the second time."""

    now: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """Somebody has mended what was given up."""


Event = Started | Ended | Heard | Silent | Wanted | Tick | Stop | Retry


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """`start` with what the service is `given`, `term` or `kill` its process, `tell` a person, or all is `over`."""

    do: Do
    name: str = ""
