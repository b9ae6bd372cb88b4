"""Whose fault it is that a version did not answer, once another has tried the same request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from aimass.proto.errors import AimassError, BadInput, InternalError, NotFound
from aimass.server.serving.dispatch.requests import NotTaken, Unanswerable, WorkerLost

__all__ = ["Failure", "answered_elsewhere", "unanswered"]

_BY_THE_REQUEST: Final = (BadInput, NotFound, InternalError, WorkerLost)
"""What a request can bring about by what it holds: others are the moment's, as that there are too many."""


class Failure(msgspec.Struct, frozen=True, eq=False):
    """A version tried a request for so long, and failed."""

    model: str
    version: int
    seconds: float
    error: AimassError


def answered_elsewhere(failure: Failure) -> AimassError:
    """What a version's failure counts as where another answered the same request."""
    model, version, error = failure.model, failure.version, failure.error
    return NotTaken(model, version, error) if isinstance(error, BadInput | NotFound) else error


def unanswered(failures: Sequence[Failure]) -> Iterator[tuple[Failure, AimassError]]:
    """The versions that failed on a request which none answered, each with what that counts as."""
    by_the_request = [failure for failure in failures if isinstance(failure.error, _BY_THE_REQUEST)]
    for failure in failures:
        if len(by_the_request) > 1 and failure in by_the_request:
            yield failure, Unanswerable(failure.model, failure.version, failure.error)
        else:
            yield failure, failure.error
