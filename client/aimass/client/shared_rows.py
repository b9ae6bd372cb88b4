"""What a plan shares with all partners, as whoever approves it reads it: rows in the words of the schema."""

from __future__ import annotations

import math

from aimass.proto.asks import Shared
from aimass.proto.manifest import Category, Column, Schema
from aimass.proto.tensors import Array
from aimass.proto.values import Value

__all__ = ["Cell", "SharedArray", "shared_arrays"]

Cell = float | str | None
"""A number, a category's value, or nothing where it is missing."""


class SharedArray(Value, frozen=True):
    """One array: rows of the schema's `columns`, or of numbers alone where it is none of these."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def shared_arrays(shared: Shared | None, schema: Schema | None) -> tuple[SharedArray, ...]:
    """All of them; raises `BadInput` for bytes that hold none."""
    if shared is None:
        return ()
    columns = () if schema is None else schema.columns
    return tuple(_shown(name, one, columns) for name, one in sorted(shared.arrays().items()))


def _shown(name: str, array: Array, columns: tuple[Column, ...]) -> SharedArray:
    if array.ndim == 2 and array.shape[1] == len(columns):
        names = tuple(column.name for column in columns)
        told = (tuple(_cell(cell, column) for cell, column in zip(row, columns, strict=True)) for row in array.tolist())
        return SharedArray(name=name, columns=names, rows=tuple(told))
    height = len(array) if array.ndim > 1 else 1
    width = math.prod(array.shape[1:]) if array.ndim > 1 else int(array.size)
    table = array.reshape((height, width)).tolist()
    numbers = tuple(str(place) for place in range(width))
    return SharedArray(name=name, columns=numbers, rows=tuple(tuple(map(_number, row)) for row in table))


def _cell(cell: float, column: Column) -> Cell:
    known = _number(cell)
    if known is None or not isinstance(column, Category):
        return known
    whole = float(cell).is_integer() and 0 <= cell < len(column.values)
    return column.values[int(cell)] if whole else known


def _number(cell: float) -> Cell:
    return float(cell) if math.isfinite(cell) else None if math.isnan(cell) else str(cell)
