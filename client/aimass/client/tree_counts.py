"""What of the histograms of trees is too small to leave, and that they hold together. Pure, at the gate.

A cell of fewer than `least` rows would tell of single ones: it counts with others of its column, as `coarse` joins
them. So a node's sums stay what they are, and only where its column may be split is known less finely. A node of fewer
rows is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from aimass.client.coarse import joined_categories, joined_numbers
from aimass.client.small_counts import without_small
from aimass.proto.boosting import SUMS, Boosting
from aimass.proto.contribution import Contribution, Group
from aimass.proto.histograms import check_histograms

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
    if "grid" in tensors:
        return Group(
            group.weight,
            {"grid": _parts(tensors["grid"], least), "labels": _labels(tensors["labels"], boosting, least)},
        )
    check_histograms(boosting, tensors)
    columns = [
        _column(tensors, cells, least, is_number=place < len(boosting.schema.numbers))
        for place, cells in enumerate(boosting.columns)
    ]
    return Group(group.weight, dict(zip(SUMS, np.concatenate(columns, axis=2), strict=True)))


def _labels(counts: Floats, boosting: Boosting, least: int) -> Floats:
    """Classes of too few rows are left out; parts of a number's range are joined."""
    return without_small(counts, least) if boosting.schema.classes else _parts(counts[None], least)[0]


def _parts(counts: Floats, least: int) -> Floats:
    """Rows [columns, parts] of each part of a number's range; what is missing counts in none, and so do few rows."""
    whole = np.concatenate([counts, np.zeros((len(counts), 1))], axis=1)
    joined: Floats = _moved(whole[None], joined_numbers(whole, least))[0, :, :-1]
    return joined


def _column(tensors: Mapping[str, Floats], cells: slice, least: int, *, is_number: bool) -> Floats:
    """float64 [sums, nodes, cells] of a column, whose last cell is of what is missing."""
    sums = np.stack([tensors[name][:, cells] for name in SUMS])
    rows = tensors["rows"][:, cells]
    joined = (joined_numbers if is_number else joined_categories)(rows, least)
    return np.where(rows.sum(axis=1, keepdims=True) < least, 0.0, _moved(sums, joined))


def _moved(sums: Floats, joined: npt.NDArray[np.int64]) -> Floats:
    """`sums` [sums, nodes, cells], each where its cell is joined."""
    moved, every = np.zeros(sums.shape), np.arange(sums.shape[1])[:, None]
    for into, values in zip(moved, sums, strict=True):
        np.add.at(into, (every, joined), values)
    return moved
