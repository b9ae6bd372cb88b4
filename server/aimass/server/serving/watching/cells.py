"""The cells in which live rows are counted beside the training rows: few, each of a fair share of the reference. Pure.

A reference has fine bins, of which policies join those of few rows and to which privacy adds noise; so neighbouring
bins are put together until each cell has a tenth of the rows, as scorecards do it, and several times its noise. They
are added as they came: counts that noise made negative take back what it gave to others. Rare categories share one
cell. What is missing, unknown or outside the range has a cell of its own, as it was counted in training.
"""

from __future__ import annotations

import dataclasses
import math
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
_CLEAR: Final = 5.0
"""Standard deviations of its noise that a cell's rows have to be, so that its share is known to a fifth."""
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
            found = number_cells(numbers[column.name], reference.noise)
        elif isinstance(column, Category) and column.name in categories:
            found = category_cells(categories[column.name], column.missing_values, reference.noise)
        else:
            found = "the reference counts numbers and categories alone"
        if isinstance(found, str):
            unsaid.append(Unsaid(column.name, found))
        else:
            cells.append(found)
    return tuple(cells), tuple(unsaid)


def number_cells(held: NumberCounts, sigma: float = 0.0) -> NumberCells | str:
    """Of a number's bins, each with noise `sigma`; why not, where too few rows have a value or the noise hides them."""
    counts = np.array(held.counts, dtype=np.float64)
    if (rows := float(counts.sum())) < _LEAST_ROWS:
        return _too_few(rows)
    ends = _noisy_ends(counts, sigma) if sigma else _ends(counts)
    if sigma and not ends:
        return _hidden(sigma)
    bounds = np.array([0, *ends, len(counts)])
    width = (held.maximum - held.minimum) / len(counts)
    return NumberCells(
        held.column,
        held.minimum,
        held.maximum,
        edges=held.minimum + width * (np.array(ends, dtype=np.float64) if sigma else _between(counts, ends)),
        reference=np.append(np.add.reduceat(counts, bounds[:-1]), held.missing),
        merged=np.append(np.diff(bounds), 1.0),
    )


def category_cells(held: CategoryCounts, missing: Sequence[str] = (), sigma: float = 0.0) -> CategoryCells | str:
    """Of a category's values, each with noise `sigma`, the rare ones together; why not, as for `number_cells`."""
    counts = np.array(held.counts, dtype=np.float64)
    if (rows := float(counts.sum())) < _LEAST_ROWS:
        return _too_few(rows)
    rare = _rare(counts, sigma)
    if sigma and (~rare).sum() + rare.any() < 2:
        return _hidden(sigma)
    place = np.where(rare, int((~rare).sum()), np.cumsum(~rare) - 1)
    size = int(place.max()) + 1
    known = {text_of(value): int(at) for value, at in zip(held.values, place, strict=True) if value not in missing}
    return CategoryCells(
        held.column,
        known,
        reference=np.append(np.bincount(place, counts, size), held.missing),
        merged=np.append(np.bincount(place, minlength=size).astype(np.float64), 1.0),
    )


def _too_few(rows: float) -> str:
    return f"the reference has {rows:.0f} rows with a value, and {_LEAST_ROWS:.0f} are the least to compare with"


def _hidden(sigma: float) -> str:
    return f"noise of {sigma:.3g} rows on each count of the reference hides how they are spread"


def _least(rows: float, merged: float, sigma: float) -> float:
    """So many rows a cell that joins so many counts has to have, beside its share."""
    return max(_RARE * rows, _CLEAR * sigma * math.sqrt(merged))


def _rare(counts: Counts, sigma: float) -> npt.NDArray[np.bool_]:
    """The categories that share a cell: those too rare for one of their own, and the next where these come to less."""
    rows = float(counts.sum())
    rare = np.asarray(counts < _least(rows, 1, sigma))
    if not sigma:
        return rare
    for at in np.argsort(counts, kind="stable"):
        if not rare.any() or counts[rare].sum() >= _least(rows, int(rare.sum()), sigma):
            break
        rare[at] = True
    return rare


def _noisy_ends(counts: Counts, sigma: float) -> list[int]:
    """Like `_ends`. What lies beside all rows cannot be told from noise, and belongs to the cell beside it."""
    rows = left = float(counts.sum())
    ends: list[int] = []
    held, begun = 0.0, 0
    for at, more in enumerate(counts.tolist(), 1):
        held, left = held + more, left - more
        enough = held >= max(_SHARE * rows, _least(rows, at - begun, sigma))
        if enough and left >= _least(rows, len(counts) - at, sigma) and at < len(counts):
            ends.append(at)
            held, begun = 0.0, at
    return ends


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
