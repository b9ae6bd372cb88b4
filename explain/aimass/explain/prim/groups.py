"""What tells rows apart that no model sees: partners by name, times in periods."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Rows
from aimass.explain.words import number
from aimass.proto.errors import NotFound

__all__ = ["groups_of"]

Ints = npt.NDArray[np.int64]
_PERIODS: Final = 8
_MOST: Final = 40
_OTHERS: Final = "others"


def groups_of(rows: Rows, name: str) -> tuple[tuple[str, ...], Ints]:
    """The groups' names and, of each row, the place of its own int64 [n].

    Words are groups themselves, the largest 40 and the others together; more than eight numbers or times are cut into
    eight periods of as many rows each. Without a `name` it is the partner, where rows have one, else one group of all.
    """
    chosen = name or ("partner" if "partner" in rows.beside else "")
    if not chosen:
        return ("all rows",), np.zeros(len(rows), np.int64)
    if chosen not in rows.beside:
        known = ", ".join(rows.beside) or "none"
        raise NotFound("no such column stands beside the rows", code="explain.beside", value=chosen, limit=known)
    column = np.asarray(rows.beside[chosen])
    distinct, places = np.unique(column, return_inverse=True)
    if column.dtype.kind in "iufM" and len(distinct) > _PERIODS:
        return _periods(column)
    return _words(distinct, places.astype(np.int64))


def _words(distinct: npt.NDArray[Any], places: Ints) -> tuple[tuple[str, ...], Ints]:
    names = [str(one) for one in distinct]
    if len(names) <= _MOST:
        return tuple(names), places
    sizes = np.bincount(places, minlength=len(names))
    kept = np.sort(np.argsort(-sizes, kind="stable")[:_MOST])
    new = np.full(len(names), _MOST, np.int64)
    new[kept] = np.arange(_MOST)
    return (*(names[place] for place in kept), _OTHERS), new[places]


def _periods(column: npt.NDArray[Any]) -> tuple[tuple[str, ...], Ints]:
    order = np.sort(column[~np.isnan(column)] if column.dtype.kind == "f" else column)
    starts = np.unique(order[[len(order) * place // _PERIODS for place in range(_PERIODS)]])
    places = np.searchsorted(starts, column, side="right") - 1  # NaN sorts behind all
    ends = [*starts[1:], order[-1]]
    return tuple(f"{_told(low)} to {_told(high)}" for low, high in zip(starts, ends, strict=True)), places


def _told(cell: Any) -> str:
    return str(cell)[:16] if isinstance(cell, np.datetime64) else number(float(cell), 4)
