"""How a version does with its requests, as numbers that add up, and when that is worse than it may be. Pure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Final

import numpy as np

from aimass.proto.errors import AimassError, DeadlinePassed, InternalError
from aimass.server.serving.dispatch.requests import InvalidOutput, NotReady, WorkerLost
from aimass.server.serving.watching.settings import Limits

__all__ = ["NONE", "Blame", "Figures", "blame", "fault", "spread_of"]

_FIRST_S: Final = 2.0**-16
_PARTS: Final = 4
_PLACES: Final = 128
"""Buckets of time: four for each doubling, from 15 microseconds to hours."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Requests that a version tried, those on which it erred by its own fault, of them the answers that were `invalid`,
    and those that it was `late` with. `seconds` are the requests by how long they took."""

    requests: int = 0
    errors: int = 0
    invalid: int = 0
    late: int = 0
    seconds: tuple[int, ...] = ()

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            self.invalid + other.invalid,
            self.late + other.late,
            _sum(self.seconds, other.seconds),
        )

    def without_errors(self, of: Figures) -> Figures:
        """Less those of who was asked next and could not answer either: the request was at fault."""
        return Figures(
            self.requests,
            max(self.errors - of.errors, 0),
            max(self.invalid - of.invalid, 0),
            max(self.late - of.late, 0),
            self.seconds,
        )

    def quantile_s(self, share: float) -> float:
        """What so many of the requests did not take longer than, up to a fifth too much; 0 without any."""
        left = share * sum(self.seconds)
        for place, requests in enumerate(self.seconds):
            left -= requests
            if requests and left <= 0:
                return float(_FIRST_S * 2 ** (place / _PARTS))
        return 0.0

    def __str__(self) -> str:
        wrong = f"{self.errors} errors" if self.errors != 1 else "1 error"
        return f"{self.requests} requests, {wrong if self.errors else 'no error'}{_slowest(self)}"


NONE: Final = Figures()


class Blame(enum.Enum):
    """Whose fault an error is: nobody's, where there is none; the version's; the caller's or the crowd's, which do not
    count."""

    NONE = enum.auto()
    ERROR = enum.auto()
    INVALID = enum.auto()
    LATE = enum.auto()
    OTHERS = enum.auto()


def blame(error: AimassError | None) -> Blame:
    """Of what became of a request."""
    match error:
        case None:
            return Blame.NONE
        case InvalidOutput():
            return Blame.INVALID
        case InternalError() | WorkerLost() | NotReady():
            return Blame.ERROR
        case DeadlinePassed():
            return Blame.LATE
        case _:
            return Blame.OTHERS


def spread_of(seconds: Sequence[float]) -> tuple[int, ...]:
    """Requests by bucket, of how long each took."""
    if not seconds:
        return ()
    places = np.ceil(_PARTS * np.log2(np.maximum(seconds, _FIRST_S) / _FIRST_S)).astype(np.int64)
    return tuple(np.bincount(np.minimum(places, _PLACES - 1)).tolist())


def fault(new: Figures, old: Figures | None, limits: Limits) -> str:
    """Why a version may not go on, in words; empty where it may.

    With `old`, figures of the version before it, it may err twice as often as that one did, and its lateness counts;
    without, what is late may be the crowd's fault, and answers that are invalid some caller's: they count as errors.
    """
    if old is not None and new.invalid and not old.invalid:
        return f"{_of(new.invalid, 'answer was', 'answers were')} not valid, of {new.requests}"
    wrong, rate = new.errors, limits.error_rate
    if old is not None:
        wrong += new.late
        rate = max(rate, 2 * (old.errors + old.late) / max(old.requests, 1))
    if wrong >= limits.least_errors and wrong > rate * new.requests:
        return f"it failed {wrong} of {new.requests} requests, and may fail {100 * rate:.3g} %"
    return "" if old is None else _slower(new, old, limits)


def _slower(new: Figures, old: Figures, limits: Limits) -> str:
    if min(new.requests, old.requests) < limits.least_requests:
        return ""
    took_s, may_s = new.quantile_s(0.99), limits.slower * old.quantile_s(0.99) + limits.slack_s
    if took_s <= may_s:
        return ""
    return f"99 % of its answers took up to {_time(took_s)}, and may take {_time(may_s)}"


def _slowest(figures: Figures) -> str:
    return f", 99 % within {_time(figures.quantile_s(0.99))}" if figures.seconds else ""


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1_000 * seconds:.3g} ms"


def _of(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _sum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    short, long = sorted((one, other), key=len)
    return tuple(a + b for a, b in zip(long, (*short, *(0,) * (len(long) - len(short))), strict=True))
