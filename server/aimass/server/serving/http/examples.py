"""Requests that work, made from what a model takes: for the API's description, its page and the first line to type."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from aimass.proto.manifest import Category, Column, Image, Number, Schema
from aimass.proto.servable import TensorSpec

__all__ = ["example_row", "example_tensors"]


def example_row(schema: Schema) -> dict[str, Any]:
    """A row of named features that fits the schema: the middle of each range, the first of each list."""
    return {column.name: _cell(column) for column in schema.columns}


def _cell(column: Column) -> Any:
    match column:
        case Number():
            middle = round((column.minimum + column.maximum) / 2, 3)
            return middle if middle not in column.missing_values else column.maximum
        case Category():
            return column.values[0]
        case Image():
            size = 1
            for length in column.shape:
                size *= length
            return base64.b64encode(bytes(size)).decode()
        case _:
            return "some words"


def example_tensors(inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """A V2 request of one row: its first input alone where that stands for all, else each that is needed."""
    needed = [spec for spec in inputs if not spec.optional] or list(inputs[:1])
    return {"inputs": [_tensor(spec) for spec in needed]}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [1 if length < 0 else length for length in spec.shape]
    count = 1
    for length in shape:
        count *= length
    values: dict[str, Any] = {"BOOL": False, "BYTES": spec.labels[0] if spec.labels else ""}
    value = values.get(spec.datatype, 0.5 if spec.datatype[:2] in {"FP", "BF"} else 0)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": [value] * count}
