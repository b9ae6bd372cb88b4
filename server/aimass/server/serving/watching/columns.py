"""Live rows against the training rows, column by column: counted in cells as they come, judged when there are enough.

Nothing but counts is kept of what people sent. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Schema
from aimass.proto.serving_views import ColumnDrift
from aimass.server.serving.watching.cells import Cells
from aimass.server.serving.watching.drift import (
    Counts,
    Noise,
    chance_distance,
    chance_index,
    distance,
    in_favour,
    stability_index,
)
from aimass.server.serving.watching.settings import DriftSettings

__all__ = ["ROWS", "Counted", "added", "columns_of", "counted", "judged", "rows_of"]

ROWS = "rows"
"""The tensor that holds all columns of a schema that has numbers alone."""
Array = npt.NDArray[Any]
Counted = Mapping[str, Counts]
"""Rows by cell, by column."""


def columns_of(schema: Schema, requests: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The columns in the tensors of several requests, each as values by row; those that nobody names are left out."""
    names = [column.name for column in schema.columns]
    at_once = [tensors[ROWS] for tensors in requests if _are_rows(tensors, names)]
    found = {name: [rows[:, place] for rows in at_once] for place, name in enumerate(names)}
    for name in names:
        found[name] += [tensors[name].reshape(-1) for tensors in requests if name in tensors]
    return {name: np.concatenate(held) for name, held in found.items() if held}


def counted(cells: Iterable[Cells], columns: Mapping[str, Array]) -> Counted:
    """Rows by cell."""
    return {one.column: one.count(columns[one.column]) for one in cells if one.column in columns}


def added(one: Counted, other: Counted) -> Counted:
    """Both together."""
    return {**one, **other, **{name: one[name] + other[name] for name in one if name in other}}


def rows_of(held: Counted) -> int:
    """How many rows there are of the column of which there are most."""
    return int(max((float(counts.sum()) for counts in held.values()), default=0.0))


def judged(cells: Iterable[Cells], live: Counted, sigma: float, settings: DriftSettings) -> tuple[ColumnDrift, ...]:
    """What there is to say of each column that has enough rows, those that drifted furthest first.

    The probability of a false alarm, `settings.alpha`, is that of a whole window: it is shared by the columns and the
    two tests (Bonferroni).
    """
    ready = [(one, live[one.column]) for one in cells if _rows(live, one) >= settings.least_rows]
    alpha = settings.alpha / max(2 * len(ready), 1)
    found = [_column(one, counts, sigma, settings, alpha) for one, counts in ready]
    return tuple(sorted(found, key=lambda one: one.index - one.index_limit, reverse=True))


def _are_rows(tensors: Mapping[str, Array], names: Sequence[str]) -> bool:
    rows = tensors.get(ROWS)
    return rows is not None and ROWS not in names and rows.ndim == 2 and rows.shape[1] == len(names)


def _rows(live: Counted, one: Cells) -> float:
    return float(live[one.column].sum()) if one.column in live else 0.0


def _column(one: Cells, live: Counts, sigma: float, settings: DriftSettings, alpha: float) -> ColumnDrift:
    rows = float(live.sum())
    reference, noise = in_favour(one.reference, live, Noise(sigma, one.merged))
    found = ColumnDrift(
        column=one.column,
        rows=int(rows),
        index=stability_index(reference, live),
        index_limit=max(settings.index, chance_index(reference, rows, alpha, noise)),
    )
    present = float(live[:-1].sum())
    if not one.ordered or present < settings.least_rows or len(one.reference) < 3:
        return found
    noise = Noise(sigma, one.merged[:-1])
    limit = max(settings.distance, chance_distance(one.reference[:-1], present, alpha, noise))
    return msgspec.structs.replace(found, distance=distance(one.reference[:-1], live[:-1]), distance_limit=limit)
