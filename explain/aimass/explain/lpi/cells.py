"""Cells as people write them, and rows in which some are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows
from aimass.proto.errors import BadInput

__all__ = ["alike", "cell_of", "cells_of", "changes_of", "with_changes", "written"]

Floats = npt.NDArray[np.float64]


def cells_of(rows: Rows, row: int) -> Floats:
    """One row's cells [features]; raises `BadInput` where there is no such row."""
    if not 0 <= row < len(rows):
        raise BadInput("there is no such row", code="explain.row", value=row, limit=f"0 to {len(rows) - 1}")
    found: Floats = rows.values[row]
    return found


def changes_of(rows: Rows, texts: Sequence[str]) -> dict[int, float]:
    """Cells by column, of texts as `age=60`, `cp=typical angina`, or `ca=missing`.

    Raises `BadInput` for what is no change or no such value, `NotFound` for a feature that is none.
    """
    found = {}
    for text in texts:
        name, value = _parted(rows, text)
        place = rows.place(name)
        found[place] = cell_of(rows.features[place], value)
    return found


def _parted(rows: Rows, text: str) -> tuple[str, str]:
    """Feature and value; a feature's own name may hold the sign between them."""
    ends = [place for place, letter in enumerate(text) if letter == "="]
    if not ends:
        raise BadInput("a change is written as feature=value", code="explain.what_if", value=text)
    names = {feature.name for feature in rows.features}
    end = next((end for end in reversed(ends) if text[:end].strip() in names), ends[0])
    return text[:end].strip(), text[end + 1 :].strip()


def written(feature: Feature, cell: float) -> str:
    """A change as `changes_of` reads it to the same cell."""
    if np.isnan(cell):
        return f"{feature.name}=missing"
    if feature.kind == "category" and 0 <= cell < len(feature.values):
        return f"{feature.name}={feature.values[int(cell)]}"
    return f"{feature.name}={int(cell) if cell == int(cell) else repr(float(cell))}"


def with_changes(cells: Floats, changes: Mapping[int, float]) -> Floats:
    """A row's cells [features] with others at some places."""
    found = cells.copy()
    found[list(changes)] = list(changes.values())
    return found


def cell_of(feature: Feature, text: str) -> float:
    """A cell of what a person writes: a number, a category's word, `missing`."""
    if text in {"", "missing"}:
        return float("nan")
    if feature.kind == "category" and feature.values:
        if text not in feature.values:
            known = ", ".join(feature.values)
            raise BadInput(f"{feature.name} has no such value", code="explain.what_if", value=text, limit=known)
        return float(feature.values.index(text))
    try:
        found = float(text)
    except ValueError:
        found = float("inf")
    if not np.isfinite(found):
        raise BadInput(f"{feature.name} is a number", code="explain.what_if", value=text)
    return found


def alike(one: Floats, other: Floats | np.float64) -> npt.NDArray[np.bool_]:
    """The same cell, or missing in both."""
    found: npt.NDArray[np.bool_] = (one == other) | (np.isnan(one) & np.isnan(other))
    return found
