"""What of a survey is too small to leave: counts of few rows, and what would tell them by difference. Pure.

The rule holds at each partner, before any sum: what is counted nowhere in fewer than `least` rows is not so in the sum
either. In a secure sum the total alone is seen, and nobody there could hold it back; so the rule is the same, and the
total lacks what partners had few of. Noised numbers need none of this, and would lose their promise by it.

The rule is for each table by itself, beside the number of all rows, and for tables of an explanation beside every count
that the plan says they are within. What several tables tell together, such as those of other bins, or of rows that
differ by few, it does not judge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.analysis import parts_of, spread
from aimass.proto.asks import Cells, Phase
from aimass.proto.contribution import Contribution, Group
from aimass.proto.surveys import Survey

__all__ = ["MOMENTS_LEAST", "withheld", "withheld_cells", "without_small"]

MOMENTS_LEAST: Final = 50
"""Values that a column has at least, whose moments leave without noise.

Four exact sums of powers give back few values, such as five whole-number ages. Of n ages from 0 to 120 the sums can
take fewer than n^4 120^10 values together: for 20 ages that is more than there are sets of them, for 50 it is 2^92, and
there are 2^145 sets.
"""

Floats = npt.NDArray[np.float64]


def withheld(made: Contribution, survey: Survey, least: int, rows: int) -> Contribution:
    """The contribution to a survey of `rows` without what is of fewer than `least` rows.

    Of tables (see `Survey.tables`) cells are 0. Of moments all sums of a column are 0 that has fewer values, or fewer
    than `MOMENTS_LEAST`, or fewer missing ones, which its count would tell of.
    """
    if least <= 1:
        return made
    groups = {
        name: Group(group.weight, _kept(group.tensors, survey, least, rows)) for name, group in made.groups.items()
    }
    return dataclasses.replace(made, groups=groups)


def withheld_cells(made: Contribution, phase: Phase, least: int, rows: int) -> Contribution:
    """The contribution to a phase over `rows` without what is of fewer than `least` rows.

    Of each table of counts cells are 0, and so are the sums of the rows that they count. What is taken away of a table
    is of `least` rows or more, of those that its cells are within as well: so no total less what is told is of fewer.
    """
    if least <= 1:
        return made
    groups = {
        name: Group(group.weight, _without(group.tensors, phase, least, rows)) for name, group in made.groups.items()
    }
    return dataclasses.replace(made, groups=groups)


def _without(tensors: Mapping[str, Floats], phase: Phase, least: int, rows: int) -> dict[str, Floats]:
    single = [cells.name for cells in phase.cells if cells.counts and not cells.shape]
    told = without_small(np.array([float(tensors[name]) for name in single]), least, rows)
    kept: dict[str, Floats] = {name: np.array(one) for name, one in zip(single, told, strict=True)}
    for cells in phase.cells:
        if cells.counts and cells.shape:
            kept[cells.name] = _counted(tensors, kept, cells, least, rows)
    for cells in phase.cells:
        if not cells.counts:
            one = tensors[cells.name]
            kept[cells.name] = np.where(spread(kept[cells.of], one) > 0, one, 0.0)
    return kept


def _counted(tensors: Mapping[str, Floats], kept: Mapping[str, Floats], cells: Cells, least: int, rows: int) -> Floats:
    tables = tensors[cells.name].reshape(math.prod(cells.shape[: cells.tables]), -1)
    if cells.overlapping:
        found = [_without_few(table, least) for table in tables]
    elif cells.within:
        whole, told = tensors[cells.within].reshape(-1), kept[cells.within].reshape(-1)
        parts = parts_of(cells, len(whole)).reshape(tables.shape)
        found = [_without_parts(one, part, whole, told, least, rows) for one, part in zip(tables, parts, strict=True)]
    elif cells.parts:
        part = np.array(cells.parts, np.int64)
        own = [np.bincount(part, table).astype(np.float64) for table in tables]
        found = [_without_parts(table, part, one, one, least, rows) for table, one in zip(tables, own, strict=True)]
    else:
        found = [without_small(table, least, rows) for table in tables]
    return np.stack(found).reshape(cells.shape)


def _without_few(table: Floats, least: int) -> Floats:
    """Of counts that overlap. The sum of all may be known, and what is left of it is of `least` rows where a cell of as
    many goes too."""
    kept = np.where(table < least, 0.0, table)
    if kept.any() and (kept != table).any():
        kept[np.argmin(np.where(kept > 0, kept, math.inf))] = 0.0
    return kept


def _without_parts(
    table: Floats, parts: npt.NDArray[np.int64], whole: Floats, told: Floats, least: int, rows: int
) -> Floats:
    """The table's counts, with 0 for those below `least`, and for more until each total that is told loses enough.

    Cells within a count that stays here stay as well: they would tell it.
    """
    kept, of = np.where(table < least, 0.0, table), np.unique(parts[parts >= 0])
    known = [(np.ones(len(table), bool), max(float(table.sum()), float(rows)))]
    for place in of:
        if told[place]:
            known.append((parts == place, float(told[place])))
        else:
            kept[parts == place] = 0.0
    rest = parts < 0
    if (told[of] != whole[of]).any():
        kept[rest] = 0.0
    elif rest.any():
        known.append((rest, rows - float(told[of].sum())))
    while True:
        short = [some for some, total in known if kept[some].any() and 0 < total - kept[some].sum() < least]
        if not short:
            return kept
        kept[np.argmin(np.where(short[0] & (kept > 0), kept, math.inf))] = 0.0


def _kept(tensors: Mapping[str, Floats], survey: Survey, least: int, rows: int) -> dict[str, Floats]:
    if survey.name == "moments":
        missing = rows - tensors["count"]
        few = (tensors["count"] < max(least, MOMENTS_LEAST)) | ((missing > 0) & (missing < least))
        return {name: np.where(few, 0.0, sums) for name, sums in tensors.items()}
    return {name: _tables(cells, survey.tables[name], least, rows) for name, cells in tensors.items()}


def _tables(cells: Floats, widths: tuple[int, ...], least: int, rows: int) -> Floats:
    return np.concatenate([without_small(table, least, rows) for table in np.split(cells, np.cumsum(widths)[:-1])])


def without_small(table: Floats, least: int, rows: int = 0) -> Floats:
    """The table's counts, with 0 for those below `least`.

    How many rows there are in all may be known, and then how many were taken away, or are in none of the cells: so the
    smallest others go too, until those are `least` or more together, or none are left.
    """
    whole, kept = max(float(table.sum()), float(rows)), np.where(table < least, 0.0, table)
    for cell in np.argsort(kept, kind="stable"):
        if not 0 < whole - kept.sum() < least:
            break
        kept[cell] = 0.0
    return kept
