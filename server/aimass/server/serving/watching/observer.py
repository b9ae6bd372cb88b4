"""What passes by, gathered for a moment at a time: figures by version, and a sample of rows and answers to count.

`tap` is called for each request in the loop that serves all of them: it adds to numbers and keeps references, no more.
Whoever asks with `taken`, once a second, pays for the arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy.typing as npt

from aimass.proto.errors import AimassError
from aimass.proto.manifest import Schema
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.watching.answers import kinds_of
from aimass.server.serving.watching.figures import Blame, Figures, blame, spread_of

__all__ = ["Observer", "Sampled", "Tally", "with_kinds"]

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
_MOST_BYTES: Final = 16 << 20
_MOST_TIMES: Final = 4_096


class Sampled:
    """Requests of one version and what it answered, at most so many rows and bytes."""

    def __init__(self, most_rows: int) -> None:
        self._rows, self._bytes = most_rows, _MOST_BYTES
        self.inputs: list[Tensors] = []
        self.outputs: list[Tensors] = []

    def add(self, inputs: Tensors, outputs: Tensors) -> None:
        """Keep one request, if there is room."""
        if self._rows <= 0 or self._bytes <= 0:
            return
        self._rows -= max((len(tensor) for tensor in inputs.values()), default=0)
        self._bytes -= sum(tensor.nbytes for tensor in inputs.values())
        self.inputs.append(inputs)
        self.outputs.append(outputs)


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


def with_kinds(figures: Mapping[int, Figures], schema: Schema, sampled: Mapping[int, Sampled]) -> Mapping[int, Figures]:
    """With what was answered to those requests of each version that were kept."""
    return {
        number: dataclasses.replace(one, answers=kinds_of(schema, sampled[number].outputs))
        for number, one in figures.items()
    }


class Observer:
    """Of one model. It is to see requests that name no version: ours do, and so do those of who tries one out."""

    def __init__(self, model: str, sample_rows: int, attempt_s: float) -> None:
        self._model, self._sample_rows, self._attempt_s = model, sample_rows, attempt_s
        self._tallies: dict[int, Tally] = {}
        self._sampled: dict[int, Sampled] = {}

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
            self._sampled[version] = Sampled(self._sample_rows)
        tally.add(seconds, error)
        if answer is not None:
            self._sampled[version].add(tensors, answer.tensors)

    def taken(self) -> tuple[Mapping[int, Figures], Mapping[int, Sampled]]:
        """All since the last time, by version."""
        tallies, self._tallies = self._tallies, {}
        sampled, self._sampled = self._sampled, {}
        return {version: tally.figures() for version, tally in tallies.items()}, sampled
