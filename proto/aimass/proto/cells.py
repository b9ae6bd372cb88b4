"""Cells of a file become typed arrays by the schema's columns; what does not fit is a finding, and counts as missing.

Cells are Arrow's. A column whose cells all fit is converted at once (`whole_columns`), any other cell by cell: that is
what a cell means, and it says what is wrong where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.manifest import UNLABELLED, Category, Column, Image, Label, Mask, Number, Text
from aimass.proto.whole_columns import by_distinct, images_at_once, numbers_at_once

__all__ = ["Finding", "cell_by_cell", "convert", "persons_of", "text_of", "typed_cells"]

Array = npt.NDArray[Any]
_SHOWN: Final = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. `cell` is for the local eye alone."""

    row: int
    column: str
    what: str
    cell: str = dataclasses.field(default="", repr=False)


def convert(column: Column | Label, values: Any, findings: list[Finding]) -> Array:
    """A column's cells as `Table` holds them; what does not fit is added to `findings` by its position."""
    parts, row = [], 0
    for part in getattr(values, "chunks", [values]) or [values.combine_chunks()]:
        whole = _at_once(column, part)
        parts.append(cell_by_cell(column, part, row, findings) if whole is None else whole)
        row += len(part)
    return np.concatenate(parts)


def cell_by_cell(column: Column | Label, values: Any, first: int, findings: list[Finding]) -> Array:
    """The plain meaning of `convert`, for an Arrow array that begins at row `first`."""
    return typed_cells(column, values.to_pylist(), first, findings)


def typed_cells(column: Column | Label, values: list[object], first: int, findings: list[Finding]) -> Array:
    """`cell_by_cell` for plain values: a row that a program or a person writes means what it means in a file."""
    cells = enumerate(values, first)
    match column:
        case Number():
            return np.array([_number(column, row, cell, findings) for row, cell in cells], dtype=np.float64)
        case Category():
            index = {value: position for position, value in enumerate(column.values)}
            return np.array([_category(column, index, row, cell, findings) for row, cell in cells], dtype=np.int64)
        case Text():
            return _texts(column, values, first, findings)
        case Image():
            return _images(column, values, first, findings)
        case Mask():
            return _masks(column, values, first, findings)


def _at_once(column: Column | Label, values: Any) -> Array | None:
    match column:
        case Number():
            return numbers_at_once(column, values)
        case Category():
            index = {value: position for position, value in enumerate(column.values)}
            odd: list[Finding] = []
            places = by_distinct(values, lambda cell: _category(column, index, 0, cell, odd))
            return None if places is None or odd else places.astype(np.int64)
        case Image():
            return images_at_once(column.shape, values)
        case Mask():
            masks = images_at_once(column.shape, values)
            return None if masks is None or _odd_pixels(column, masks).any() else masks
        case Text():
            return None


def persons_of(column: str, values: Any, findings: list[Finding]) -> Array:
    """Each row's person: object [rows], a whole number as its digits, a text without the blanks around it."""
    from pyarrow import types  # noqa: PLC0415  (as above)

    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not any(fits(kind) for fits in (types.is_integer, types.is_string, types.is_large_string, types.is_null)):
        raise BadInput(
            "the column that says whose a row is holds neither text nor whole numbers",
            code="rows.person",
            value=f"{column}: {kind}",
            cure="Write it as text, one way for each person: who is written in two ways counts as two.",
        )
    persons = ["" if cell is None else str(cell).strip() for cell in values.to_pylist()]
    findings += [Finding(row, column, "says of nobody whose row it is") for row, name in enumerate(persons) if not name]
    return np.array(persons, dtype=object)


def _number(column: Number, row: int, cell: object, findings: list[Finding]) -> float:
    if cell is None or cell == "":
        return _missing(column, row, findings)
    try:
        value = _as_float(cell)
    except (TypeError, ValueError):
        findings.append(Finding(row, column.name, "is not a number", str(cell)))
        return np.nan
    if np.isnan(value) or value in column.missing_values:
        return _missing(column, row, findings)
    if not column.minimum <= value <= column.maximum:
        findings.append(Finding(row, column.name, f"lies outside {column.minimum:g} to {column.maximum:g}", str(cell)))
        return np.nan
    return value


def _as_float(cell: object) -> float:
    """A number as data has it; Python's own reading would take `1_0` and the digits of every script besides."""
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        raise ValueError
    return float(cell)  # type: ignore[arg-type]


def _missing(column: Number | Category, row: int, findings: list[Finding]) -> float:
    if column.required:
        findings.append(Finding(row, column.name, "is required and missing"))
    return np.nan


def _category(column: Category, index: Mapping[str, int], row: int, cell: object, findings: list[Finding]) -> int:
    text = "" if cell is None else text_of(cell)
    if text == "" or text in column.missing_values:
        _missing(column, row, findings)
        return -1
    if text not in index:
        findings.append(Finding(row, column.name, f"is none of the {len(column.values)} values of the schema", text))
        return -1
    return index[text]


def text_of(cell: object) -> str:
    """A cell as a category compares it: whole numbers without a fraction, truth values in small letters."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell)
    return text.lower() if text in ("True", "False", "TRUE", "FALSE") else text


def _images(column: Image, cells: list[object], first: int, findings: list[Finding]) -> Array:
    size = int(np.prod(column.shape))
    images = np.zeros((len(cells), size), dtype=np.uint8)
    for row, cell in enumerate(cells):
        if isinstance(cell, bytes) and len(cell) == size:
            images[row] = np.frombuffer(cell, dtype=np.uint8)
        else:
            findings.append(Finding(first + row, column.name, f"is not {size} bytes"))
    return images.reshape(len(cells), *column.shape)


def _masks(column: Mask, cells: list[object], first: int, findings: list[Finding]) -> Array:
    """A mask that is missing, or does not fit, is one of which no pixel is labelled."""
    size = int(np.prod(column.shape))
    masks = np.full((len(cells), size), UNLABELLED, dtype=np.uint8)
    for row, cell in enumerate(cells):
        if cell is None:
            continue
        if not isinstance(cell, bytes) or len(cell) != size:
            findings.append(Finding(first + row, column.name, f"is not {size} bytes"))
            continue
        mask = np.frombuffer(cell, dtype=np.uint8)
        if (odd := _odd_pixels(column, mask)).any():
            what = f"has pixels that are none of the {len(column.values)} values of the schema"
            findings.append(Finding(first + row, column.name, what, str(int(mask[odd][0]))))
        else:
            masks[row] = mask
    return masks.reshape(len(cells), *column.shape)


def _odd_pixels(column: Mask, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray((mask >= len(column.values)) & (mask != UNLABELLED))


def _texts(column: Text, cells: list[object], first: int, findings: list[Finding]) -> Array:
    texts = np.full(len(cells), "", dtype=object)
    for row, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            findings.append(Finding(first + row, column.name, "has no text"))
        elif len(cell) > column.longest:
            findings.append(
                Finding(first + row, column.name, f"is longer than {column.longest} characters", cell[:_SHOWN])
            )
        else:
            texts[row] = cell
    return texts
