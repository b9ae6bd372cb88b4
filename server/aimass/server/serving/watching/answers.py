"""A model's answers as columns: they have no reference but themselves, the first window in which all was well. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Category, Mask, Schema
from aimass.proto.statistics import CategoryCounts, NumberCounts
from aimass.server.serving.watching.cells import CategoryCells, Cells, NumberCells, category_cells, number_cells
from aimass.server.serving.watching.columns import Counted

__all__ = ["answers_of", "fine_cells", "kinds_of", "reference_of"]

Array = npt.NDArray[Any]
_PARTS: Final = 20
_LABEL: Final = "label"
_CONFIDENCE: Final = "confidence"
_PREDICTION: Final = "prediction"


def answers_of(answers: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The columns of several answers: the label and how sure the model is of it, or the number that it predicts."""
    found = {name: [one[name].reshape(-1) for one in answers if name in one] for name in (_LABEL, _PREDICTION)}
    chances = [one["probabilities"] for one in answers if "probabilities" in one]
    found[_CONFIDENCE] = [one.max(axis=1) for one in chances if one.ndim == 2 and one.size]
    return {name: np.concatenate(held) for name, held in found.items() if held}


def kinds_of(schema: Schema, answers: Sequence[Mapping[str, Array]]) -> tuple[int, ...]:
    """Requests by the first row of what they were answered: by its label, or the twentieth of the range that its number
    is in. One row each, so that who sends thousands at once has one voice."""
    if schema.segments:
        return ()
    cells = fine_cells(schema)[0]
    firsts = [{cells.column: one[cells.column].reshape(-1)[:1]} for one in answers if cells.column in one]
    columns = answers_of(firsts)
    return tuple(cells.count(columns[cells.column]).astype(int).tolist()) if columns else ()


def fine_cells(schema: Schema) -> tuple[Cells, ...]:
    """In which answers are counted while there is no reference: a cell for each label, and twentieths of a range.

    What is said of pixels is not counted.
    """
    label = schema.label
    if isinstance(label, Mask):
        return ()
    if isinstance(label, Category):
        places = {value: at for at, value in enumerate(label.values)}
        empty = np.zeros(len(places) + 1)
        return (CategoryCells(_LABEL, places, empty, empty), _parts(_CONFIDENCE, 0.0, 1.0))
    return (_parts(_PREDICTION, label.minimum, label.maximum),)


def reference_of(schema: Schema, rows: Counted) -> tuple[Cells, ...]:
    """Cells whose reference are the answers that were counted in fine ones; without columns of too few rows."""
    found = [_reference(cells, rows[cells.column]) for cells in fine_cells(schema) if cells.column in rows]
    return tuple(cells for cells in found if not isinstance(cells, str))


def _reference(cells: Cells, rows: Array) -> Cells | str:
    counts, missing = tuple(rows[:-1].tolist()), float(rows[-1])
    if isinstance(cells, CategoryCells):
        values = tuple(cells.places)
        return category_cells(CategoryCounts(column=cells.column, values=values, counts=counts, missing=missing))
    return number_cells(
        NumberCounts(column=cells.column, minimum=cells.minimum, maximum=cells.maximum, counts=counts, missing=missing)
    )


def _parts(column: str, minimum: float, maximum: float) -> NumberCells:
    edges = np.linspace(minimum, maximum, _PARTS + 1)[1:-1]
    empty = np.zeros(_PARTS + 1)
    return NumberCells(column, minimum, maximum, edges, empty, empty)
