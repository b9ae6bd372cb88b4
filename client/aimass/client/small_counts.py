"""What of a survey is too small to leave: counts of few rows, and what would tell them by difference. Pure.

The rule holds at each partner, before any sum: what is counted nowhere in fewer than `least` rows is not so in the sum
either. In a secure sum the total alone is seen, and nobody there could hold it back; so the rule is the same, and the
total lacks what partners had few of. Noised numbers need none of this, and would lose their promise by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from aimass.proto.contribution import Contribution, Group
from aimass.proto.surveys import Survey

__all__ = ["withheld", "without_small"]

Floats = npt.NDArray[np.float64]


def withheld(made: Contribution, survey: Survey, least: int) -> Contribution:
    """The contribution to a survey without what is of fewer than `least` rows.

    Of tables (see `Survey.tables`) cells are 0; of moments all sums of a column are 0 that has fewer values.
    """
    if least <= 1:
        return made
    groups = {name: Group(group.weight, _kept(group.tensors, survey, least)) for name, group in made.groups.items()}
    return dataclasses.replace(made, groups=groups)


def _kept(tensors: Mapping[str, Floats], survey: Survey, least: int) -> dict[str, Floats]:
    if survey.name == "moments":
        few = tensors["count"] < least
        return {name: np.where(few, 0.0, sums) for name, sums in tensors.items()}
    return {name: _tables(cells, survey.tables[name], least) for name, cells in tensors.items()}


def _tables(cells: Floats, widths: tuple[int, ...], least: int) -> Floats:
    return np.concatenate([without_small(table, least) for table in np.split(cells, np.cumsum(widths)[:-1])])


def without_small(table: Floats, least: int) -> Floats:
    """The table's counts, with 0 for those below `least`.

    How many rows there are in all may be known, and then how many were taken away: so the smallest others go too, until
    those are `least` or more together, or none are left.
    """
    kept = np.where(table < least, 0.0, table)
    for cell in np.argsort(kept, kind="stable"):
        if not 0 < table.sum() - kept.sum() < least:
            break
        kept[cell] = 0.0
    return kept
