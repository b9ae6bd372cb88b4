"""What happens to a server while its models are swapped under load: a list of events, made before it begins.

`scenes` takes turns: versions swapped each second while a worker is killed; a version that goes wrong, with time to be
found out; the registry away while a worker is killed.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterator
from typing import Final

__all__ = ["FAULTS", "Event", "Fault", "Happened", "Kind", "schedule"]

_SWAP_EVERY_S: Final = 1.0
_SCENE_S: Final = 8.0
_FOUND_OUT_S: Final = 4.0


class Fault(enum.StrEnum):
    """How a version is bad.

    The first are bad from the start; `late_` ones answer rightly at first, so that what is tried before traffic does
    not find them out. The rest must never be loaded.
    """

    NAN = "nan"
    HANG = "hang"
    CRASH = "crash"
    LATE_NAN = "late_nan"
    LATE_HANG = "late_hang"
    LATE_CRASH = "late_crash"
    OTHER_BYTES = "other_bytes"
    HALF_FILE = "half_file"
    OTHER_TASK = "other_task"
    STRANGER = "stranger"

    @property
    def answers_at_first(self) -> bool:
        """Whether it may answer until it goes wrong."""
        return self in {Fault.LATE_NAN, Fault.LATE_HANG, Fault.LATE_CRASH}


FAULTS: Final = tuple(Fault)


class Kind(enum.StrEnum):
    """What is done at a moment."""

    SWAP = "swap"
    KILL = "kill"
    BAD = "bad"
    AWAY = "away"
    BACK = "back"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Event:
    """A moment in seconds after the calm, and what is done then; `fault` where a bad version is promoted."""

    at_s: float
    kind: Kind
    fault: Fault | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """When an event came to pass, in seconds after the calm, and the version that it promoted, if it did."""

    at_s: float
    kind: Kind
    version: int = 0


def schedule(seconds: float) -> tuple[Event, ...]:
    """All events of so many seconds, in order; each kind of fault in its turn, and the registry back in the end."""
    faults = itertools.cycle(FAULTS)
    scenes = itertools.cycle((_swaps, None, _away, None))
    events: list[Event] = []
    for place in range(int(seconds / _SCENE_S)):
        start_s, scene = place * _SCENE_S, next(scenes)
        events += scene(start_s) if scene else _bad(start_s, next(faults))
    return tuple(sorted(events))


def _every_second(start_s: float, seconds: float) -> Iterator[Event]:
    for place in range(int(seconds / _SWAP_EVERY_S)):
        yield Event(start_s + place * _SWAP_EVERY_S, Kind.SWAP)


def _swaps(start_s: float) -> list[Event]:
    return [*_every_second(start_s, _SCENE_S), Event(start_s + 3.4, Kind.KILL), Event(start_s + 6.4, Kind.KILL)]


def _bad(start_s: float, fault: Fault) -> list[Event]:
    after = start_s + _FOUND_OUT_S
    return [Event(start_s, Kind.BAD, fault), *_every_second(after, _SCENE_S - _FOUND_OUT_S)]


def _away(start_s: float) -> list[Event]:
    back = start_s + _SCENE_S / 2
    return [
        Event(start_s, Kind.AWAY), Event(start_s + 2.0, Kind.KILL), Event(back, Kind.BACK),
        *_every_second(back + 0.5, _SCENE_S / 2 - 0.5),
    ]  # fmt: skip
