"""A sample of the rows that pass by while it is held, each as likely to be in it as any other, however they come."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Sample"]

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
_MOST_BYTES: Final = 16 << 20


class Sample:
    """At most so many rows of one version, with what it answered: Li 1994, algorithm L.

    It knows how many rows it will let pass before it takes the next, so that most requests cost a comparison. Of a
    request of many rows those that are taken are copied, and the rest is let go.
    """

    def __init__(self, most_rows: int, chance: random.Random) -> None:
        self._most, self._chance = most_rows, chance
        self._kept: list[tuple[Tensors, Tensors, int]] = []
        """Of each row that is kept the tensors that hold it, and at which place."""
        self._seen = 0
        self._next = 0
        self._weight = 1.0

    def add(self, inputs: Tensors, outputs: Tensors) -> None:
        """Let the rows of one request pass by."""
        rows = max((len(tensor) for tensor in inputs.values()), default=0)
        if not rows:
            return
        if not self._seen:
            bytes_a_row = sum(tensor.nbytes for tensor in inputs.values()) // rows
            self._most = min(self._most, max(1, _MOST_BYTES // max(bytes_a_row, 1)))
        first, self._seen = self._seen, self._seen + rows
        if self._next >= self._seen:
            return
        taken = self._places(first)
        if rows > 1:
            inputs, outputs = _rows_of(inputs, rows, [*taken.values()]), _rows_of(outputs, rows, [*taken.values()])
        for at, place in enumerate(taken):
            self._kept[place : place + 1] = [(inputs, outputs, at)]

    def _places(self, first: int) -> dict[int, int]:
        """Which of the rows from `first` on are taken, by the place that each gets."""
        taken: dict[int, int] = {}
        while self._next < self._seen:
            full = self._next >= self._most
            taken[self._chance.randrange(self._most) if full else self._next] = self._next - first
            self._next += 1
            if self._next >= self._most:
                self._weight *= math.exp(-self._chance.expovariate(1.0) / self._most)
                self._next += math.floor(self._chance.expovariate(1.0) / -math.log1p(-self._weight))
        return taken

    @property
    def inputs(self) -> list[Tensors]:
        """What was asked, a row each or several."""
        return _together((inputs, at) for inputs, _, at in self._kept)

    @property
    def outputs(self) -> list[Tensors]:
        """What was answered to it."""
        return _together((outputs, at) for _, outputs, at in self._kept)


def _together(kept: Iterable[tuple[Tensors, int]]) -> list[Tensors]:
    """The rows that are kept of each request, at once."""
    held: dict[int, tuple[Tensors, list[int]]] = {}
    for tensors, at in kept:
        held.setdefault(id(tensors), (tensors, []))[1].append(at)
    return [_rows_of(tensors, None, places) for tensors, places in held.values()]


def _rows_of(tensors: Tensors, rows: int | None, places: list[int]) -> Tensors:
    """Some rows, copied; tensors that do not go by `rows` are left out."""
    at = np.array(places, dtype=np.intp)
    return {
        name: tensor[at] for name, tensor in tensors.items() if tensor.ndim and (rows is None or len(tensor) == rows)
    }
