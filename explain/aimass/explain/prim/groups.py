"""What tells rows apart that no model sees: partners by name, times in periods."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.grouping import column_of, grouped
from aimass.explain.rows import Rows

__all__ = ["groups_of"]

Ints = npt.NDArray[np.int64]
_PERIODS: Final = 8
_MOST: Final = 40
_OTHERS: Final = "others"


def groups_of(rows: Rows, name: str) -> tuple[tuple[str, ...], Ints]:
    """The groups' names and, of each row, the place of its own int64 [n].

    Words are groups themselves, the largest 40 and the others together; more than eight numbers or times are cut into
    eight periods of as many rows each; what is missing is a group. Without a `name` it is the partner, where rows have
    one, else one group of all.
    """
    chosen = name or ("partner" if "partner" in rows.beside else "")
    if not chosen:
        return ("all rows",), np.zeros(len(rows), np.int64)
    column = column_of(rows.beside, chosen)
    found = grouped(column, most=_MOST, cut_above=_PERIODS, periods=_PERIODS, others=_OTHERS)
    return found.names, found.places
