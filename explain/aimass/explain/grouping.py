"""What stands beside rows as groups of them: partners by name, times and numbers in periods, what is missing apart."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.words import apart
from aimass.proto.errors import NotFound

__all__ = ["MISSING", "Grouping", "column_of", "grouped"]

Ints = npt.NDArray[np.int64]
MISSING: Final = "missing"


@dataclasses.dataclass(frozen=True)
class Grouping:
    """`names` of groups and, of each row, the place of its own int64 [n]. Only so many `kept` values of `distinct` ones
    are told apart where those are fewer."""

    names: tuple[str, ...]
    places: Ints
    kept: int
    distinct: int


def column_of(beside: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    """The column of that name; raises `NotFound`."""
    if name not in beside:
        known = ", ".join(beside) or "none"
        raise NotFound("no such column stands beside the rows", code="explain.beside", value=name, limit=known)
    return np.asarray(beside[name])


def grouped(column: npt.NDArray[Any], *, most: int, cut_above: int, periods: int, others: str) -> Grouping:
    """More than `cut_above` numbers or times are cut into `periods` of as many rows each; words are groups themselves.

    Of more than `most` words the largest are told apart, the rest are `others`, which may say `{count}`. Cells that are
    missing (NaN, NaT, None, an empty text) are a group of their own behind all.
    """
    known = ~_missing(column)
    if column.dtype.kind in "iufM" and (count := len(np.unique(column[known]))) > cut_above:
        names, places = _periods(column[known], periods)
        kept = distinct = count
    else:
        names, places, kept, distinct = _words(column[known], most, others)
    whole = np.full(len(column), len(names), np.int64)
    whole[known] = places
    return Grouping(names if known.all() else (*names, MISSING), whole, kept, distinct)


def _missing(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    match column.dtype.kind:
        case "f":
            found = np.isnan(column)
        case "M":
            found = np.isnat(column)
        case "O":
            found = np.array([cell is None or cell != cell or cell == "" for cell in column], np.bool_)  # noqa: PLR0124
        case "U":
            found = np.char.str_len(column) == 0
        case _:
            found = np.zeros(len(column), np.bool_)
    return np.asarray(found, np.bool_)


def _words(column: npt.NDArray[Any], most: int, others: str) -> tuple[tuple[str, ...], Ints, int, int]:
    whole = column.dtype.kind == "f" and bool((column == np.round(column)).all())  # whole numbers, some missing
    told = (column.astype(np.int64) if whole else column).astype(str) if column.dtype.kind != "O" else _texts(column)
    if column.dtype.kind in "iuf":  # in the order of numbers, not of their digits
        values, first, places, sizes = np.unique(column, return_index=True, return_inverse=True, return_counts=True)
        names = told[first].tolist() if len(column) else []
    else:
        values, places, sizes = np.unique(told, return_inverse=True, return_counts=True)
        names = values.tolist()
    if len(values) <= most:
        return tuple(names), places.astype(np.int64), len(values), len(values)
    kept = np.sort(np.argsort(-sizes, kind="stable")[:most])
    moved = np.full(len(values), most, np.int64)
    moved[kept] = np.arange(most)
    rest = others.format(count=len(values) - most)
    return (*(names[place] for place in kept), rest), moved[places], most, len(values)


def _texts(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([str(cell) for cell in column], dtype=str)


def _periods(column: npt.NDArray[Any], periods: int) -> tuple[tuple[str, ...], Ints]:
    order = np.sort(column)
    starts = np.unique(order[[len(order) * place // periods for place in range(periods)]])
    places = np.searchsorted(starts, column, side="right") - 1
    ends = [*starts, order[-1]]
    told = _dates(np.array(ends)) if column.dtype.kind == "M" else apart(ends, 4)
    return tuple(f"{low} to {high}" for low, high in itertools.pairwise(told)), places.astype(np.int64)


def _dates(ends: npt.NDArray[Any]) -> tuple[str, ...]:
    """Days, or minutes where some is none."""
    days = bool((ends == ends.astype("datetime64[D]")).all())
    return tuple(str(end)[: 10 if days else 16] for end in ends)
