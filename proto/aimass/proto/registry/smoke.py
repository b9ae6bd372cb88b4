"""Smoke inputs: rows of chance with what a model says of them, kept beside it, so that whoever loads it can try it.

They catch a task, a library or a machine that makes another model of the same bytes; they say nothing of how good it
is.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.closeness import apart, sampled
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Column, Image, Number, Schema
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.rows import Batch, Table, blank_labels
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task
from aimass.proto.tensors import Blob

__all__ = ["ROWS", "made_up", "smoke_inputs", "table_of", "tensors_of", "worst_difference"]

ROWS: Final = 16
Cells = Sequence[float | str | None]


def made_up(schema: Schema, rows: int, seed: int) -> dict[str, tuple[float | str | None, ...]]:
    """Cells of rows that are nobody's, by column."""
    return dict(_cells(schema, synthetic_rows(schema, rows, seed)))


def smoke_inputs(task: Task, parameters: Blob, rows: int = ROWS, seed: int = 0) -> SmokeInputs:
    """Made-up rows with what the model says of them here.

    Raises `BadInput` as `registry.not_finite` for a model that answers NaN or infinity.
    """
    columns = made_up(task.schema, rows, seed)
    said = task.predict(parameters, table_of(task.schema, columns))
    if not np.isfinite(said).all():
        raise BadInput(
            "the model does not answer with numbers",
            code="registry.not_finite",
            value=f"{int((~np.isfinite(said)).sum())} of {said.size} are NaN or infinite",
            cure="Nothing was published. Look at the run's metrics; a lower learning rate may keep it from diverging.",
        )
    return SmokeInputs(columns=columns, expected=tuple(map(tuple, sampled(said).tolist())))


def worst_difference(smoke: SmokeInputs, said: npt.NDArray[Any]) -> float:
    """How far what was `said` is `apart` from what is expected at most; infinite for another shape."""
    found, expected = sampled(said), np.array(smoke.expected, dtype=np.float64)
    return float(apart(found, expected).max(initial=0.0)) if found.shape == expected.shape else math.inf


def table_of(schema: Schema, columns: Mapping[str, Cells]) -> Table:
    """The rows as `Task.predict` takes them. They have no label: every one is the first, or 0.

    Raises `BadInput` as `registry.smoke` for columns that are not the schema's.
    """
    lengths = {len(cells) for cells in columns.values()}
    if set(columns) != {column.name for column in schema.columns}:
        raise _bad("its columns are not the schema's", ", ".join(columns))
    if len(lengths) != 1:
        raise _bad("its columns are of several lengths", lengths)
    held = {column.name: _array(column, columns[column.name]) for column in schema.columns}
    rows = lengths.pop()
    return Table(schema, held | {schema.label.name: blank_labels(schema, rows)}, ())


def tensors_of(schema: Schema, columns: Mapping[str, Cells]) -> dict[str, npt.NDArray[Any]]:
    """The rows as a servable of the schema's columns takes them, by name: FP64, UINT8 or BYTES, empty where missing."""
    return {column.name: _tensor(column, columns[column.name]) for column in schema.columns}


def _cells(schema: Schema, batch: Batch) -> Sequence[tuple[str, tuple[float | str | None, ...]]]:
    numbers = {column.name: batch.numbers[:, place] for place, column in enumerate(schema.numbers)}
    places = {column.name: batch.categories[:, place] for place, column in enumerate(schema.categories)}
    return [(column.name, _written(column, numbers, places, batch)) for column in schema.columns]


def _written(
    column: Column, numbers: Mapping[str, Any], places: Mapping[str, Any], batch: Batch
) -> tuple[float | str | None, ...]:
    match column:
        case Number():
            return tuple(None if math.isnan(value) else float(value) for value in numbers[column.name])
        case Category():
            return tuple(None if place < 0 else column.values[place] for place in places[column.name])
        case Image():
            images = () if batch.images is None else batch.images
            return tuple(base64.b64encode(image.tobytes()).decode() for image in images)
        case _:
            return () if batch.texts is None else tuple(batch.texts)


def _array(column: Column, cells: Cells) -> npt.NDArray[Any]:
    """A column as a `Table` holds it."""
    match column:
        case Number():
            return np.array([math.nan if cell is None else _number(column, cell) for cell in cells], np.float64)
        case Category():
            places = {value: place for place, value in enumerate(column.values)}
            if unknown := [cell for cell in cells if cell is not None and cell not in places]:
                raise _bad(f"{column.name} has a value that the schema does not name", unknown[0])
            return np.array([-1 if cell is None else places[str(cell)] for cell in cells], np.int64)
        case Image():
            return np.stack([_image(column, cell) for cell in cells])
        case _:
            return np.array([_text(column, cell) for cell in cells], object)


def _tensor(column: Column, cells: Cells) -> npt.NDArray[Any]:
    if isinstance(column, Number | Image):
        return _array(column, cells)
    return np.array([b"" if cell is None else _text(column, cell).encode() for cell in cells], object)


def _number(column: Number, cell: float | str) -> float:
    if isinstance(cell, str):
        raise _bad(f"{column.name} holds text where a number belongs", cell)
    return float(cell)


def _text(column: Column, cell: float | str | None) -> str:
    if not isinstance(cell, str):
        raise _bad(f"{column.name} holds something else than text", cell)
    return cell


def _image(column: Image, cell: float | str | None) -> npt.NDArray[np.uint8]:
    try:
        pixels = np.frombuffer(base64.b64decode(_text(column, cell), validate=True), np.uint8)
        return pixels.reshape(column.shape)
    except ValueError:
        raise _bad(f"{column.name} holds no image of its shape", column.shape) from None


def _bad(what: str, value: object) -> BadInput:
    return BadInput(f"the smoke inputs cannot be used: {what}", code="registry.smoke", value=value)
