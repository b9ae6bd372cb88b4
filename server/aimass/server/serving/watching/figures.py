"""How a version does with its requests, as numbers that add up. Pure."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from aimass.proto.errors import AimassError, DeadlinePassed, InternalError
from aimass.server.serving.dispatch.requests import InvalidOutput, NotReady, WorkerLost
from aimass.server.serving.watching.evidence import Rate

__all__ = ["NONE", "Blame", "Figures", "blame", "shown_time", "spread_of"]

_FIRST_S: Final = 2.0**-16
_PARTS: Final = 4
_PLACES: Final = 128
"""Buckets of time: four for each doubling, from 15 microseconds to hours."""


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Requests that a version tried, those on which it erred by its own fault, of them the answers that were `invalid`,
    and those that it was `late` with. `seconds` are the requests by how long they took, `answers` those of them that
    were looked at by what they were answered."""

    requests: int = 0
    errors: int = 0
    invalid: int = 0
    late: int = 0
    seconds: tuple[int, ...] = ()
    answers: tuple[int, ...] = ()

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            self.invalid + other.invalid,
            self.late + other.late,
            _sum(self.seconds, other.seconds),
            _sum(self.answers, other.answers),
        )

    def without_lateness(self, of: Figures) -> Figures:
        """Less those that who was asked next was late with too: the request was long, or the machine busy.

        Errors need no such rule: of a request on which several failed nobody's error is told, see `dispatch.blame`.
        """
        return dataclasses.replace(self, late=max(self.late - of.late, 0))

    @property
    def answered(self) -> Figures:
        """Those that came to an answer in time."""
        answered = max(self.requests - self.errors - self.late, 0)
        return dataclasses.replace(self, requests=answered, errors=0, invalid=0, late=0)

    def quantile_s(self, share: float) -> float:
        """What so many of the requests did not take longer than, up to a fifth too much; 0 without any."""
        left = share * sum(self.seconds)
        for place, requests in enumerate(self.seconds):
            left -= requests
            if requests and left <= 0:
                return float(_FIRST_S * 2 ** (place / _PARTS))
        return 0.0

    def longer_than(self, seconds: float) -> Rate:
        """Those that surely took longer: what is told to a bucket counts from its upper end."""
        place = max(math.ceil(_PARTS * math.log2(seconds / _FIRST_S)), 0)
        return Rate(sum(self.seconds[place + 1 :]), sum(self.seconds))

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


def _slowest(figures: Figures) -> str:
    return f", 99 % within {shown_time(figures.quantile_s(0.99))}" if figures.seconds else ""


def shown_time(seconds: float) -> str:
    """In seconds or milliseconds."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1_000 * seconds:.3g} ms"


def _sum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    short, long = sorted((one, other), key=len)
    return tuple(a + b for a, b in zip(long, (*short, *(0,) * (len(long) - len(short))), strict=True))
