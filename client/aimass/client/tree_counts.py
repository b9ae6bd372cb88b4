"""What of the histograms of trees is too small to leave, and that they hold together. Pure, at the gate.

A cell of fewer than `least` rows would tell of single ones: it is joined with the cells beside it, in the order of the
column's bins or categories, until together they have `least`. So a node's sums stay what they are, and only where its
column may be split is known less finely. A node of fewer rows is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from aimass.client.small_counts import without_small
from aimass.proto.boosting import SUMS, Boosting, check_histograms
from aimass.proto.contribution import Contribution, Group

__all__ = ["coarsened"]

Floats = npt.NDArray[np.float64]


def coarsened(made: Contribution, boosting: Boosting, least: int) -> Contribution:
    """The contribution to a step of trees without what is of fewer than `least` rows.

    Raises `BadInput` for histograms that do not sum to the counts of their nodes.
    """
    return dataclasses.replace(
        made, groups={name: _group(group, boosting, least) for name, group in made.groups.items()}
    )


def _group(group: Group, boosting: Boosting, least: int) -> Group:
    tensors = group.tensors
    if "grid" in tensors:  # of each row and column one, and of none what is missing
        grid = _joined(tensors["grid"][None], tensors["grid"], np.zeros(len(tensors["grid"])), least)
        return Group(group.weight, {"grid": grid[0], "labels": _labels(tensors["labels"], boosting, least)})
    check_histograms(boosting, tensors)
    columns = [_column(tensors, cells, least) for cells in boosting.columns]
    return Group(group.weight, dict(zip(SUMS, np.concatenate(columns, axis=2), strict=True)))


def _labels(counts: Floats, boosting: Boosting, least: int) -> Floats:
    """Classes of too few rows are left out; parts of a number's range are joined with those beside them."""
    if boosting.schema.classes:
        return without_small(counts, least)
    joined: Floats = _joined(counts[None, None], counts[None], np.zeros(1), least)[0, 0]
    return joined


def _column(tensors: Mapping[str, Floats], cells: slice, least: int) -> Floats:
    """float64 [sums, nodes, cells] of a column, whose last cell is of what is missing."""
    sums = np.stack([tensors[name][:, cells] for name in SUMS])
    rows = tensors["rows"][:, cells]
    return np.where(rows.sum(axis=1, keepdims=True) < least, 0.0, _joined(sums, rows[:, :-1], rows[:, -1], least))


def _joined(sums: Floats, present: Floats, missing: Floats, least: int) -> Floats:
    """`sums` [sums, nodes, cells], of each cell where the cells stand that it is joined with.

    From the first cell on as many are joined as have `least` rows together, at the last of them; what is left over, and
    what is missing of too few rows, joins those before it. `present` [nodes, cells], `missing` [nodes].
    """
    cells, last = np.arange(present.shape[1]), present.shape[1]
    ends = _ends(present, least)
    following = np.minimum.accumulate(np.where(ends, cells, last)[:, ::-1], axis=1)[:, ::-1]
    preceding = np.where(ends, cells, -1).max(axis=1, initial=-1)
    rest = np.where(preceding < 0, last, preceding)
    target = np.where(following < last, following, rest[:, None])
    target = np.concatenate([target, np.where(missing < least, rest, last)[:, None]], axis=1)
    joined = np.zeros((len(sums), len(present), last + 1))
    every = np.arange(len(present))[:, None]
    for into, values in zip(joined, sums, strict=True):
        np.add.at(into, (every, target[:, : values.shape[1]]), values)
    return joined[:, :, : sums.shape[2]]


def _ends(present: Floats, least: int) -> npt.NDArray[np.bool_]:
    """bool [nodes, cells]: where, from the left, another `least` rows are together."""
    ends, together = np.zeros(present.shape, bool), np.zeros(len(present))
    for cell, rows in enumerate(present.T):
        together += rows
        ends[:, cell] = together >= least
        together[ends[:, cell]] = 0.0
    return ends
