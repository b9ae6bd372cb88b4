"""What passes by, gathered for a moment at a time: figures by version, and a sample of rows and answers to count.

`tap` is called for each request in the loop that serves all of them: it adds to numbers and keeps references, no more.
Whoever asks with `taken`, once a second, pays for the arithmetic.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any, Final

import numpy.typing as npt

from aimass.proto.errors import AimassError
from aimass.proto.manifest import Schema
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.watching.answers import kinds_of
from aimass.server.serving.watching.figures import Blame, Figures, blame, spread_of
from aimass.server.serving.watching.sample import Sample

__all__ = ["Observer", "Tally", "with_kinds"]

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
_MOST_TIMES: Final = 4_096


class Tally:
    """Figures while they grow. What took `attempt_s` is late, whether or not a fallback was asked then: so a version
    that has none is measured alike."""

    def __init__(self, attempt_s: float) -> None:
        self._attempt_s = attempt_s
        self.requests = self.errors = self.invalid = self.late = 0
        self._seconds: list[float] = []

    def add(self, seconds: float, error: AimassError | None) -> None:
        """One request."""
        whose = blame(error)
        if whose is Blame.OTHERS:
            return
        self.errors += whose in {Blame.ERROR, Blame.INVALID}
        self.invalid += whose is Blame.INVALID
        self.late += whose is Blame.LATE or seconds >= self._attempt_s
        self.requests += 1
        if len(self._seconds) < _MOST_TIMES:
            self._seconds.append(seconds)

    def figures(self) -> Figures:
        """What was added. Of very many requests the first ones say how long they took."""
        return Figures(self.requests, self.errors, self.invalid, self.late, spread_of(self._seconds))


def with_kinds(figures: Mapping[int, Figures], schema: Schema, sampled: Mapping[int, Sample]) -> Mapping[int, Figures]:
    """With what was answered to those requests of each version that were kept."""
    return {
        number: dataclasses.replace(one, answers=kinds_of(schema, sampled[number].outputs))
        for number, one in figures.items()
    }


class Observer:
    """Of one model. It is to see requests that name no version: ours do, and so do those of who tries one out."""

    def __init__(self, model: str, sample_rows: int, attempt_s: float, chance: random.Random) -> None:
        self._model, self._sample_rows, self._attempt_s, self._chance = model, sample_rows, attempt_s, chance
        self._tallies: dict[int, Tally] = {}
        self._sampled: dict[int, Sample] = {}

    def tap(
        self,
        model: str,
        version: int,
        tensors: Tensors,
        answer: Answer | None,
        seconds: float,
        error: AimassError | None,
    ) -> None:
        """See `requests.Tap`."""
        if model != self._model:
            return
        tally = self._tallies.get(version)
        if tally is None:
            tally = self._tallies[version] = Tally(self._attempt_s)
            self._sampled[version] = Sample(self._sample_rows, self._chance)
        tally.add(seconds, error)
        if answer is not None:
            self._sampled[version].add(tensors, answer.tensors)

    def taken(self) -> tuple[Mapping[int, Figures], Mapping[int, Sample]]:
        """All since the last time, by version."""
        tallies, self._tallies = self._tallies, {}
        sampled, self._sampled = self._sampled, {}
        return {version: tally.figures() for version, tally in tallies.items()}, sampled
