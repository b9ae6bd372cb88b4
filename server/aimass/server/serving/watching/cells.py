"""The cells in which live rows are counted beside the training rows: few, each of a fair share of the reference. Pure.

A reference has fine bins, of which policies join those of few rows and to which privacy adds noise; so neighbouring
bins are put together until each cell has a tenth of the rows, as scorecards do it. Rare categories share one cell. What
is missing, unknown or outside the range has a cell of its own, as it was counted in training.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.cells import text_of
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.model_manifest import Reference
from aimass.proto.statistics import CategoryCounts, NumberCounts
from aimass.server.serving.watching.drift import Counts

__all__ = ["CategoryCells", "Cells", "NumberCells", "Unsaid", "category_cells", "number_cells", "reference_cells"]

_SHARE: Final = 0.1
_RARE: Final = 0.02
_LEAST_ROWS: Final = 50.0
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class NumberCells:
    """Cells that end at `edges` inside of a range; `reference` and `merged` end with the cell of what is missing."""

    column: str
    minimum: float
    maximum: float
    edges: Counts
    reference: Counts
    merged: Counts
    ordered: bool = True

    def count(self, values: Array) -> Counts:
        """Rows by cell, of numbers."""
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
        inside = (numbers >= self.minimum) & (numbers <= self.maximum)
        at = np.where(inside, np.searchsorted(self.edges, numbers, side="right"), len(self.edges) + 1)
        return np.bincount(at, minlength=len(self.reference)).astype(np.float64)


@dataclasses.dataclass(frozen=True, slots=True)
class CategoryCells:
    """The cell of each text that is known; the last one is of what is missing or unknown."""

    column: str
    places: Mapping[str, int]
    reference: Counts
    merged: Counts
    ordered: bool = False

    def count(self, values: Array) -> Counts:
        """Rows by cell, of texts, or of their UTF-8."""
        found, last = np.zeros(len(self.reference)), len(self.reference) - 1
        for cell, rows in Counter(np.asarray(values, dtype=object).reshape(-1).tolist()).items():
            found[self.places.get(_text(cell), last)] += rows
        return found


Cells = NumberCells | CategoryCells


@dataclasses.dataclass(frozen=True, slots=True)
class Unsaid:
    """A column that cannot be watched, and why."""

    column: str
    reason: str


def reference_cells(schema: Schema, reference: Reference) -> tuple[tuple[Cells, ...], tuple[Unsaid, ...]]:
    """The cells of each column that the reference tells of, and the columns of which it says nothing."""
    if reference.histogram is None:
        reason = f"the model's manifest has no reference: {reference.reason or 'no survey was made of its rows'}"
        return (), tuple(Unsaid(column.name, reason) for column in schema.columns)
    numbers = {held.column: held for held in reference.histogram.numbers}
    categories = {held.column: held for held in reference.histogram.categories}
    cells: list[Cells] = []
    unsaid: list[Unsaid] = []
    for column in schema.columns:
        found: Cells | str
        if isinstance(column, Number) and column.name in numbers:
            found = number_cells(numbers[column.name])
        elif isinstance(column, Category) and column.name in categories:
            found = category_cells(categories[column.name], column.missing_values)
        else:
            found = "the reference counts numbers and categories alone"
        if isinstance(found, str):
            unsaid.append(Unsaid(column.name, found))
        else:
            cells.append(found)
    return tuple(cells), tuple(unsaid)


def number_cells(held: NumberCounts) -> NumberCells | str:
    """Of a number's bins; why not, where too few rows have a value."""
    counts = np.maximum(np.array(held.counts, dtype=np.float64), 0.0)
    if (rows := float(counts.sum())) < _LEAST_ROWS:
        return _too_few(rows)
    ends = _ends(counts)
    bounds = np.array([0, *ends, len(counts)])
    width = (held.maximum - held.minimum) / len(counts)
    return NumberCells(
        held.column,
        held.minimum,
        held.maximum,
        edges=held.minimum + width * _between(counts, ends),
        reference=np.append(np.add.reduceat(counts, bounds[:-1]), max(held.missing, 0.0)),
        merged=np.append(np.diff(bounds), 1.0),
    )


def category_cells(held: CategoryCounts, missing: Sequence[str] = ()) -> CategoryCells | str:
    """Of a category's values, the rare ones together; why not, where too few rows have one."""
    counts = np.maximum(np.array(held.counts, dtype=np.float64), 0.0)
    if (rows := float(counts.sum())) < _LEAST_ROWS:
        return _too_few(rows)
    rare = counts < _RARE * counts.sum()
    place = np.where(rare, int((~rare).sum()), np.cumsum(~rare) - 1)
    size = int(place.max()) + 1
    known = {text_of(value): int(at) for value, at in zip(held.values, place, strict=True) if value not in missing}
    return CategoryCells(
        held.column,
        known,
        reference=np.append(np.bincount(place, counts, size), max(held.missing, 0.0)),
        merged=np.append(np.bincount(place, minlength=size).astype(np.float64), 1.0),
    )


def _too_few(rows: float) -> str:
    return f"the reference has {rows:.0f} rows with a value, and {_LEAST_ROWS:.0f} are the least to compare with"


def _ends(counts: Counts) -> list[int]:
    """After which bins cells end inside of the range: each has its share of the rows, and the last a few of them.

    What lies beside all rows has cells too, which are empty: there nobody was, and somebody may come.
    """
    total = left = float(counts.sum())
    filled = np.flatnonzero(counts > 0)
    first, last, held = int(filled[0]), int(filled[-1]) + 1, 0.0
    ends = [first] if first > 0 else []
    for at, rows in enumerate(counts.tolist(), 1):
        held, left = held + rows, left - rows
        if held >= _SHARE * total and left >= _RARE * total:
            ends.append(at)
            held = 0.0
    return [*ends, last] if last < len(counts) else ends


def _between(counts: Counts, ends: Sequence[int]) -> Counts:
    """Where cells end, in bins: in the middle of empty ones, whose rows may have been joined to either side."""
    filled = np.flatnonzero(counts > 0)
    after = [int(filled[place]) if (place := np.searchsorted(filled, end)) < len(filled) else end for end in ends]
    return np.array([(end + upto) / 2 for end, upto in zip(ends, after, strict=True)])


def _text(cell: object) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else text_of(cell)
