"""Which cells of a column count as one, so that none is of fewer than `least` rows: of numbers and of categories. Pure.

Neighbouring parts of a number's range are joined between public places. As long as a cell can be cut with `least` rows
on both sides, it is: at the place of most trailing zeros, counted in parts, which there is one of. So cells end at
coarse places that are the same for everybody, and where one ends says of the rows beside it only on which side of
coarser places they lie.

Categories of few rows count as missing; few rows that are missing count as what most rows have.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Number, Schema
from aimass.proto.plan_settings import TREE_GRID
from aimass.proto.rows import Batch
from aimass.proto.values import Value

__all__ = ["EXACT", "Coarseness", "coarse_rows", "joined_categories", "joined_numbers"]

Cells = npt.NDArray[np.int64]
Counts = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Least = Annotated[int, msgspec.Meta(ge=1)]


class Coarseness(Value, frozen=True):
    """The fewest rows that may share a value, and how many parts of a number's range are told apart at most."""

    least: Least = 1
    parts: Least = TREE_GRID


EXACT: Final = Coarseness()
"""Every row by itself."""


def coarse_rows(schema: Schema, rows: Batch, coarseness: Coarseness) -> Batch:
    """The rows, each value as that of the cell that it is joined in.

    What is summed over them tells no two values of a column apart that are not of `least` rows each, whatever is asked
    and however often: microaggregation of single columns (Domingo-Ferrer & Mateo-Sanz 2002), at public places. Labels
    stay as they are, and so do all rows where one is enough.
    """
    least = coarseness.least
    if least <= 1:
        return rows
    numbers, categories = rows.numbers.copy(), rows.categories.copy()
    for column, values in zip(schema.numbers, numbers.T, strict=True):
        values[:] = _coarse_number(column, values, coarseness.parts, least)
    for category, codes in zip(schema.categories, categories.T, strict=True):
        codes[:] = _coarse_category(len(category.values), codes, least)
    return dataclasses.replace(rows, numbers=numbers, categories=categories)


def _coarse_number(column: Number, values: npt.NDArray[np.float32], parts: int, least: int) -> npt.NDArray[np.float32]:
    """In the middle of a part each, since edges lie between parts."""
    at = np.linspace(column.minimum, column.maximum, parts + 1)
    cells = np.where(np.isnan(values), parts, np.searchsorted(at[1:-1], values, side="right"))
    target = joined_numbers(np.bincount(cells, minlength=parts + 1)[None], least)[0]
    middles = np.append((at[1:] + at[:-1]) / 2, np.nan).astype(np.float32)
    return np.asarray(middles[target[cells]])


def _coarse_category(values: int, codes: Cells, least: int) -> Cells:
    cells = np.where(codes < 0, values, codes)
    target = joined_categories(np.bincount(cells, minlength=values + 1)[None], least)[0]
    return np.asarray(np.append(np.arange(values), -1)[target[cells]])


def joined_numbers(counts: Counts, least: int) -> Cells:
    """int64 [columns, parts + 1]: where the rows of each part count, by `counts` of that shape, the missing ones last.

    Those of a cell count at a coarse place with half of `least` on both sides, or in the one part that has all but
    these. Where the column has fewer than `least`, they count as missing.
    """
    present, width = counts[:, :-1], counts.shape[1] - 1
    upto, starts = _upto(present), np.flatnonzero(_begins(present, least))
    stops = np.append(starts[1:], present.size)
    places, _ = _places(upto, starts, stops, max(least // 2, 1), width)
    joined = np.repeat(places % width, stops - starts).reshape(present.shape)
    joined[present.sum(axis=1) < least] = width
    rows = np.repeat(upto[stops] - upto[starts], stops - starts).reshape(present.shape)
    return _with_missing(joined, rows, counts[:, -1], least)


def joined_categories(counts: Counts, least: int) -> Cells:
    """int64 [columns, values + 1]: the same of values without an order."""
    present, width = counts[:, :-1], counts.shape[1] - 1
    small = present < least
    joined = np.where(small, width, np.arange(width))
    return _with_missing(joined, present, counts[:, -1] + np.where(small, present, 0).sum(axis=1), least)


def _with_missing(joined: Cells, rows: Counts, missing: Counts, least: int) -> Cells:
    """The same with where `missing` rows count: where most `rows` do, if they are too few."""
    every, width = np.arange(len(joined)), joined.shape[1]
    last = np.where(missing < least, joined[every, rows.argmax(axis=1)], width)[:, None]
    return np.concatenate([np.where(joined == width, last, joined), last], axis=1)


def _begins(counts: Counts, least: int) -> Bools:
    """bool [columns, parts]: whether a cell begins with a part. All cells are cut at once, as often as one can be."""
    width, upto = counts.shape[1], _upto(counts)
    begins = np.zeros(counts.size, bool)
    starts = np.arange(0, counts.size, width)
    stops = starts + width
    while len(starts):
        begins[starts] = True
        places, cut = _places(upto, starts, stops, least, width)
        starts, stops = np.concatenate([starts[cut], places[cut]]), np.concatenate([places[cut], stops[cut]])
    return begins.reshape(counts.shape)


def _upto(counts: Counts) -> Counts:
    """Rows before each part, the columns one after the other, and all."""
    return np.concatenate([np.zeros(1, counts.dtype), np.cumsum(counts)])


def _places(upto: Counts, starts: Cells, stops: Cells, least: int, width: int) -> tuple[Cells, Bools]:
    """int64 [cells]: the coarsest place in each with `least` rows on both sides; bool [cells]: whether there is one.

    Of the numbers from `first` to `last` one alone has the most trailing zeros: `last` up to the first binary digit in
    which it is not `first - 1`, and zeros from there on. Where there is none the place is that of the part which the
    rows that are neither the first nor the last `least` - 1 are all in.
    """
    column = starts // width * width
    first = np.searchsorted(upto, upto[starts] + least) - column
    last = np.searchsorted(upto, upto[stops] - least, side="right") - 1 - column
    some = first <= last
    zeros = np.frexp(np.where(some, (first - 1) ^ last, 1).astype(np.float64))[1] - 1
    return column + np.where(some, last >> zeros << zeros, last), some
