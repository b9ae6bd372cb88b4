"""Whether numbers that a program sends lie within the bounds of their columns: the range that a model was trained on.

Over the Open Inference Protocol a number is taken as it is. That it lies where no training row could is said with the
answer, or refused, by the same setting as for people (`[input] range`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number, Schema
from aimass.proto.rows_servable import ROWS
from aimass.proto.servable import Array
from aimass.server.serving.catalogue import Catalogue
from aimass.server.serving.input_rules import Rule

__all__ = ["InputCheck", "RangeCheck", "Ranges", "unchecked"]

_NONE: Final[tuple[str, ...]] = ()
_KEPT: Final = 64


InputCheck = Callable[[str, int, Mapping[str, Array]], tuple[str, ...]]
"""What is to be said of a request's tensors with the answer, for a model and a version; raises what refuses them."""


def unchecked(*_: object) -> tuple[str, ...]:
    """An `InputCheck` that has nothing to say."""
    return _NONE


class Ranges:
    """The bounds of a schema's numbers."""

    def __init__(self, schema: Schema) -> None:
        self._columns = {column.name: column for column in schema.numbers}
        self._in_order = schema.numbers
        self._least = np.array([_least(column) for column in schema.numbers])
        self._most = np.array([_most(column) for column in schema.numbers])

    def outside(self, tensors: Mapping[str, Array]) -> tuple[str, ...]:
        """What is to be said of columns with a number out of bounds; NaN is within."""
        rows = tensors.get(ROWS)
        if rows is not None and rows.ndim == 2 and rows.shape[1] == len(self._in_order):
            return self._outside_rows(rows)
        columns = self._columns
        found = [columns[name] for name, array in tensors.items() if name in columns and _beyond(columns[name], array)]
        return tuple(map(_said, found)) if found else _NONE

    def _outside_rows(self, rows: Array) -> tuple[str, ...]:
        beyond = (rows < self._least) | (rows > self._most)
        if not beyond.any():
            return _NONE
        return tuple(_said(self._in_order[place]) for place in np.flatnonzero(beyond.any(axis=0)))


class RangeCheck:
    """Of all models of a catalogue, by `rule`."""

    def __init__(self, catalogue: Catalogue, rule: Rule) -> None:
        self._catalogue, self._rule = catalogue, rule
        self._known: dict[tuple[str, int], Ranges] = {}

    def __call__(self, model: str, version: int, tensors: Mapping[str, Array]) -> tuple[str, ...]:
        """What is to be said with the answer; raises `BadInput` where that is refused."""
        ranges = self._known.get((model, version)) or self._ranges(model, version)
        found = _NONE if ranges is None else ranges.outside(tensors)
        if found and self._rule == "refuse":
            raise _out_of_range(found)
        return found

    def _ranges(self, model: str, version: int) -> Ranges | None:
        known = self._catalogue.version(model, version)
        if known is None or known.schema is None:
            return None
        if len(self._known) >= _KEPT:  # versions come and go
            self._known.clear()
        found = self._known[model, version] = Ranges(known.schema)
        return found


def _least(column: Number) -> float:
    return min((column.minimum, *column.missing_values))


def _most(column: Number) -> float:
    return max((column.maximum, *column.missing_values))


def _beyond(column: Number, array: Array) -> bool:
    if array.dtype.kind not in "iuf":
        return False
    least, most = _least(column), _most(column)
    if array.size == 1:
        return not least <= (value := array.item()) <= most and value == value  # noqa: PLR0124  (NaN is within)
    return bool(((array < least) | (array > most)).any())


def _said(column: Number) -> str:
    return f"{column.name} lies outside {column.minimum:g} to {column.maximum:g}"


def _out_of_range(found: Sequence[str]) -> BadInput:
    return BadInput(
        "numbers lie out of the range that the model was trained on",
        code="serve.range",
        value="; ".join(found),
        cure="Correct them, or send NaN for what is not known.",
    )
